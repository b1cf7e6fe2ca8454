"""What an experiment found: a few named numbers with their intervals, kept beside the stages so that the ledger can judge claims by them.

    found = findings.kept("distillation", lambda: {"zero_1m": {"value": 0.31, "low": 0.28, "high": 0.34}}, runs=paths.runs("cpu"), seed=0,
                          made_from={"r1": sha256, "samples": 512}, notebook="10_distillation")
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r1lib import paths
from r1lib.errors import R1Error
from r1lib.evaluation import Interval

Findings = dict[str, Interval]         # name -> {"value", "low", "high"}; low and high are None where no interval was measured


def kept(name: str, make: Callable[[], Findings], *, runs: Path, seed: int, made_from: Mapping[str, Any], notebook: str) -> Findings:
    """What <runs>/findings/<name>.json says, if it was made from the same; else it is made and written, whole or not at all.

    made_from: everything that the numbers depend on, as JSON has it: weights' hashes, settings. notebook: where they are shown.
    """
    file = _file(runs, name)
    about = json.loads(json.dumps({"name": name, "notebook": notebook, "seed": seed, "made_from": made_from}))
    if file.exists():
        stored = _read(file)
        if {key: stored[key] for key in about} == about:
            return stored["findings"]
    found = make()
    paths.write_whole(file, json.dumps({**about, "findings": found}, indent=1, ensure_ascii=False) + "\n")
    return found


def read_all(runs: Path) -> dict[str, dict[str, Any]]:
    """Every experiment of a run: name -> {"notebook", "seed", "made_from", "findings"}; empty where there is none."""
    return {file.stem: _read(file) for file in sorted((runs / "findings").glob("*.json"))}


def _file(runs: Path, name: str) -> Path:
    return runs / "findings" / f"{name}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        for interval in stored["findings"].values():
            interval["value"], interval["low"], interval["high"]
        stored["notebook"], stored["seed"], stored["made_from"], stored["name"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise R1Error(f"{file}: these are no findings ({type(error).__name__}: {error}). Remove it: its notebook makes it again.") from None
    return stored
