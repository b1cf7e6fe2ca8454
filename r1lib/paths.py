"""Where things lie, whatever folder the notebook or the command was started in, and how they get there whole."""

import os
from pathlib import Path


def root() -> Path:
    """The project's folder: the one that holds data/ and notebooks/, or R1_HOME when that is set."""
    return Path(os.environ.get("R1_HOME", Path(__file__).resolve().parent.parent))


def data() -> Path:
    """What the project ships: base models and fixed evaluation sets. Nothing is ever written here by a run."""
    return root() / "data"


def runs(profile: str) -> Path:
    """What a run in this profile writes: one folder a stage, and report/. R1_RUNS puts the runs of all profiles somewhere else."""
    return Path(os.environ.get("R1_RUNS", root() / "runs")) / profile


def bases() -> Path:
    """Bases that a command prepares and the project does not ship, one folder each."""
    return runs("bases")


def stage(profile: str, name: str) -> Path:
    """The folder that is the contract between notebooks: model/, metrics.jsonl, rollouts.jsonl, evaluation.json, lineage.json, state/."""
    return runs(profile) / name


def write_whole(file: Path, text: str) -> None:
    """Write a file of text, and the folder it lies in. Who is killed on the way leaves the old file, or none, and never half of one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writing = file.with_name(file.name + ".writing")
    writing.write_text(text, encoding="utf-8")
    os.replace(writing, file)
