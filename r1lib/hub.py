"""Models and data sets by their name on the Hugging Face hub, for those who allow it: HF_HUB_OFFLINE=0 in front of the command.

    HF_HUB_OFFLINE=0 python -m r1lib run --profile gpu                           # Qwen2.5, as large as the GPU allows
    HF_HUB_OFFLINE=0 python -m r1lib run --profile gpu --base owner/model

What is fetched once lies in a plain folder and is found there without the hub from then on. Only weights as safetensors and JSON are
fetched: no pickles, and none of the code that some models come with.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES

from r1lib import paths
from r1lib.errors import R1Error

_MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")       # of vocabularies, *.txt and *.model


def is_name(base: str) -> bool:
    """Whether this could be a model's name on the hub, owner/model, as it is no folder."""
    return base.count("/") == 1 and all(part and not part.startswith((".", "~")) for part in base.split("/")) and not Path(base).exists()


def model_folder(name: str) -> Path:
    """The folder of a model of the hub, which is fetched if it is not there yet. A fetch that breaks off goes on where it was.

    `R1Error` where the hub may not be asked, or has no such model for this user.
    """
    folder = paths.bases() / name.replace("/", "--")
    if folder.is_dir():
        return folder
    fetching = folder.with_name(folder.name + ".fetching")
    with _asking(name, instead=f"copy the model to {folder}; profiles gpu+smollm2 and gpu+miniature need no hub"):
        huggingface_hub.snapshot_download(name, local_dir=fetching, allow_patterns=list(_MODEL_FILES), ignore_patterns=["*/*"])
    if not any(fetching.glob("*.safetensors")):
        raise R1Error(f"{name}: has no weights as safetensors on the hub. Take another model.")
    os.replace(fetching, folder)
    return folder


def data_file(address: str) -> Path:
    """A file of a data set of the hub, hf://datasets/owner/name/file, which is fetched if it is not there yet. `R1Error` as above."""
    kind, _, rest = address.removeprefix("hf://").partition("/")
    owner, _, rest = rest.partition("/")
    name, _, inside = rest.partition("/")
    if kind != "datasets" or not inside:
        raise R1Error(f"{address}: an address of a data set's file is hf://datasets/owner/name/file.")
    folder = paths.runs("datasets") / f"{owner}--{name}"
    if not (folder / inside).is_file():
        with _asking(address, instead=f"copy the file to {folder / inside}"):
            huggingface_hub.hf_hub_download(f"{owner}/{name}", inside, repo_type="dataset", local_dir=folder)
    return folder / inside


@contextlib.contextmanager
def _asking(name: str, *, instead: str) -> Iterator[None]:
    """Around a fetch. instead: what else one can do."""
    # Not `is_offline_mode`: it tells what the variable was when the hub's package was imported, which may have been before ours.
    if os.environ["HF_HUB_OFFLINE"].upper() in ENV_VARS_TRUE_VALUES:
        raise R1Error(f"{name}: not fetched yet, and the hub is not asked unless you allow it: put HF_HUB_OFFLINE=0 in front of the "
                      f"command, or {instead}.")
    print(f"{name}: fetched from the hub", flush=True)
    try:
        yield
    except Exception as error:      # of the network, of HTTP, of the hub's own: what they share is that nothing came
        raise R1Error(f"{name}: could not be fetched ({str(error).splitlines()[0]}). The same command goes on; or {instead}.") from error
