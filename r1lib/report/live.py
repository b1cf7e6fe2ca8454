"""Training in front of the reader: stages at the same time, each with a live board of its own."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1lib import paths, stages
from r1lib.report.board import LiveBoard
from r1lib.stages import StageRun
from r1lib.training.metrics import MetricsLog, Progress


def train(titles: Mapping[str, str], *, profile: str, seed: int = 0, settings: Mapping[str, Any] | None = None,
          folders: Mapping[str, Path] | None = None, captions: Mapping[str, Mapping[str, str]] | None = None,
          unseen: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, StageRun]:
    """Train stages as `stages.run_side_by_side` does, or load them; the boards are drawn in either case. Returns name -> run.

    titles: stage -> the title of its board. captions: stage -> what the paper saw, a line a panel. folders: of those that do not lie in
    their own. unseen: what is trained beside them without a board, as `run_side_by_side` is told.
    """
    asked: dict[str, Mapping[str, Any]] = {}
    with contextlib.ExitStack() as boards:
        for name, title in titles.items():
            folder = (folders or {}).get(name, paths.stage(profile, name))
            board = boards.enter_context(LiveBoard(f"{title}, profile {profile}, seed {seed}", paper=(captions or {}).get(name)))
            board.rows += MetricsLog(folder / "metrics.jsonl").rows()          # of a run that is loaded, or goes on
            asked[name] = {"folder": folder, "settings": settings, "watchers": [board, Progress(30, name)]}
        return stages.run_side_by_side({**asked, **(unseen or {})}, profile=profile, seed=seed)
