"""The state of a training run: what a killed process needs to go on to the very same numbers.

One file a checkpoint, `<folder>/state/00000020.safetensors`: the tensors (weights, the optimizer's moments, the reference's weights,
torch's random state) and, in its header, the step and the settings as JSON. It is written beside its place and renamed into it, so a file
of that name is whole; the two newest are kept, should a disk still break one. Nothing in it is code: to read a foreign one is safe.
"""

import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from r1lib.errors import R1Error

_KEPT = 2


def save(folder: Path, *, step: int, settings: Mapping[str, Any], notes: Mapping[str, Any], model: nn.Module,
         optimizer: torch.optim.Optimizer, reference: nn.Module | None = None) -> None:
    """Write the state after `step` steps, all or nothing, and drop all but the newest two.

    settings: what must be equal for a run to go on from here; notes: what else it wants back. Both plain JSON.
    """
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    tensors = {f"model/{name}": tensor for name, tensor in _weights(model).items()}
    if reference is not None:
        tensors |= {f"reference/{name}": tensor for name, tensor in _weights(reference).items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in moments.items()}
    tensors["random/torch"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    about = {"step": step, "settings": settings, "notes": notes, "random": random.getstate()}

    file = state / f"{step:08}.safetensors"
    unfinished = state / ".writing"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, unfinished, {"about": json.dumps(about)})
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())             # on the disk before it has the name of a whole file, should the power fail
    os.replace(unfinished, file)
    for old in _files(folder)[:-_KEPT]:
        old.unlink()


def restore(folder: Path, *, settings: Mapping[str, Any], may_differ: frozenset[str] = frozenset(), model: nn.Module,
            optimizer: torch.optim.Optimizer, reference: nn.Module | None = None) -> tuple[int, dict[str, Any]] | None:
    """Put the newest whole checkpoint back and return its (step, notes); None when there is none to go on from.

    Everything is checked before anything is changed. `R1Error`, with nothing touched, when the settings differ (but for `may_differ`) or
    the weights have other shapes, and when no file is whole. A damaged newest file is passed over with a line on stderr.
    A checkpoint of step 0 has learnt nothing, so it binds nobody: with other settings it is as if there were none.
    """
    about, tensors = _newest_whole(folder)
    if about is None:
        return None
    differing = [name for name in {**about["settings"], **settings} if name not in may_differ
                 and about["settings"].get(name) != json.loads(json.dumps(settings.get(name)))]          # as JSON has it: tuples are lists
    for name in differing:
        if about["step"] == 0:
            return None
        raise R1Error(f"{folder}: holds a run of {about['step']} steps made with {name}={about['settings'].get(name)!r}, and this one asks "
                      f"for {name}={settings.get(name)!r}. Use another folder, or the same setting; delete this folder to start over.")
    targets = {f"model/{name}": tensor for name, tensor in _weights(model).items()}
    if reference is not None:
        targets |= {f"reference/{name}": tensor for name, tensor in _weights(reference).items()}
    stored = {name for name in tensors if name.startswith(("model/", "reference/"))}
    for name in sorted(stored | set(targets)):
        theirs, ours = (list(side[name].shape) if name in side else "absent" for side in (tensors, targets))
        if theirs != ours:
            raise R1Error(f"{folder}: holds a run of another model: {name.removeprefix('model/')} is {theirs} there and {ours} here. "
                          "Use another folder, or the same model.")

    with torch.no_grad():
        for name, tensor in targets.items():
            tensor.copy_(tensors[name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random/torch"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])
    version, words, gauss = about["random"]
    random.setstate((version, tuple(words), gauss))
    return about["step"], about["notes"]


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "state").glob("[0-9]*.safetensors"))


def _newest_whole(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """What the newest undamaged checkpoint holds; (None, {}) for a run that never wrote one."""
    damaged = None
    for file in reversed(_files(folder)):
        try:
            with safe_open(file, "pt") as opened:                     # compares the file's length with its header
                written = json.loads(opened.metadata()["about"])
                about = {name: written[name] for name in ("step", "settings", "notes", "random")}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            print(f"{file}: damaged or cut short ({reason}); looking for the checkpoint before it.", file=sys.stderr)
            damaged = damaged or file
            continue
        return about, tensors
    if damaged:
        raise R1Error(f"{damaged}: damaged or cut short, and there is no whole checkpoint before it. "
                      f"Copy the file again, or delete {folder} to start over.")
    return None, {}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight once, under its first name: tied weights are one tensor with two."""
    seen: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        seen.setdefault(id(tensor), (name, tensor))
    return dict(seen.values())
