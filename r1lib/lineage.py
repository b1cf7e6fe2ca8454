"""What a stage was made from, written down before it is trained and checked before it is used: lineage.json in its folder."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1lib import __version__, machine, paths
from r1lib.errors import R1Error

FILE = "lineage.json"


def weights_sha256(model_folder: Path) -> str:
    """What tells two models apart: a hash over the weight files of a model folder."""
    return _sha256(sorted(model_folder.glob("*.safetensors")))


def code_sha256() -> str:
    """What tells two states of this package apart, whatever its version says: a hash over its source files."""
    return _sha256(sorted(Path(__file__).parent.rglob("*.py")))


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read(folder: Path) -> dict[str, Any] | None:
    """The lineage in a folder, None if there is none, an `R1Error` if it cannot be read."""
    if folder.exists() and not folder.is_dir():
        raise R1Error(f"{folder}: is a file, but a stage needs a folder of its own.")
    file = folder / FILE
    if not file.exists():
        return None
    try:
        lineage = json.loads(file.read_text(encoding="utf-8"))
        lineage["finished"], float(lineage["seconds"])
        dict(lineage["parents"])
    except (ValueError, TypeError, KeyError) as error:
        raise R1Error(f"{file}: cannot be read as a lineage ({error}): move {folder} away to train the stage again.") from None
    return lineage


def require_same(folder: Path, lineage: Mapping[str, Any], made_from: Mapping[str, Any]) -> None:
    """`R1Error` that names the first difference, if the folder holds a stage that was made from something else."""
    for name, value in json.loads(json.dumps(made_from)).items():         # as JSON has it: tuples are lists
        if lineage.get(name) != value:
            there, here = _first_difference(name, lineage.get(name), value)
            raise R1Error(f"{folder}: made with {there}, this run asks for {here}. Use another folder (R1_RUNS), or move this one away.")


def begin(folder: Path, made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Write the lineage of a stage that is about to be trained."""
    lineage = {**made_from, "r1lib": __version__, "code_sha256": code_sha256(), "machine": str(machine.describe()).splitlines(),
               "seconds": 0.0, "finished": False}
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, lineage)
    return lineage


def write(folder: Path, lineage: Mapping[str, Any]) -> None:
    """Whole or not at all, with the hashes of the data files that lie beside it."""
    data = {file.name: _sha256([file]) for file in sorted(folder.glob("data*.jsonl"))}
    paths.write_whole(folder / FILE, json.dumps({**lineage, "data_sha256": data}, indent=1, ensure_ascii=False) + "\n")


def shown(folder: Path) -> str:
    """A folder as it is shown to readers: without the machine's part of the path."""
    runs = paths.runs("").parent
    return str(folder.relative_to(runs)) if folder.is_relative_to(runs) else folder.name


def _first_difference(name: str, there: Any, here: Any) -> tuple[str, str]:
    """What differs, as "name=value" for each side, going into the settings of a recipe."""
    if isinstance(there, dict) and isinstance(here, dict):
        name = next(key for key in {**here, **there} if there.get(key) != here.get(key))
        there, here = there.get(name), here.get(name)
    return f"{name}={there}", f"{name}={here}"
