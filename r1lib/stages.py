"""The pipeline: which model comes from which, by what data and recipe. A stage that is there is loaded, one that is missing is trained.

    run = stages.run("zero", profile="cpu", seed=0)
    run.policy, run.rows, stages.evaluation("zero", profile="cpu").summary()

A stage's folder is the contract between notebooks: model/ (plain Hugging Face), metrics.jsonl, rollouts.jsonl, evaluation.json, state/ (to
go on from after a kill), and lineage.json, which says what the stage was made from and is marked finished last of all.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r1lib import __version__, machine, paths, profiles, rewards, tasks
from r1lib import evaluation as evaluations
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import Problem
from r1lib.training import grpo
from r1lib.training.metrics import MetricsLog, Row

Watcher = Callable[[Row], None]

# The paper adds STEM, which has no place in so small a world.
ZERO_DOMAINS = ("math", "code", "logic")


@dataclass(frozen=True)
class StageRun:
    """A stage as it lies on disk.

    rows: its metrics, one dict a step. finished: False when it was stopped; the same call goes on. loaded: True when nothing had to be
        trained.
    """

    name: str
    folder: Path
    policy: Policy
    rows: list[Row]
    finished: bool
    loaded: bool


# ------------------------------------------------------------------------------------------------------------------------------------------
# The base

def base_folder(base: str) -> Path:
    """The folder of a base model: a name in data/, or a path."""
    shipped = paths.data() / base
    if shipped.is_dir():
        return shipped
    if Path(base).is_dir():
        return Path(base)
    known = sorted(folder.name for folder in paths.data().glob("base-*"))
    raise R1Error(f"base model {base!r} is neither one of {', '.join(known)} in {paths.data()} nor a folder.")


def weights_sha256(model_folder: Path) -> str:
    """What tells two models apart: a hash over the weight files of a model folder."""
    digest = hashlib.sha256()
    for file in sorted(model_folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------------------------------------
# R1-Zero

def zero_reward(domains: Sequence[str] = ZERO_DOMAINS, combine: str = "sum") -> rewards.RewardMix:
    """What R1-Zero is paid: accuracy, of programs by their tests, and format (paper, eq. 4)."""
    by_tests = ["code_reward"] if any(kind.domain == "code" for kind in tasks.stream(domains, seed=0).kinds) else []
    return rewards.mix("accuracy_reward", *by_tests, "format_reward", combine=combine)


def run(name: str, *, profile: str, seed: int = 0, base: str | None = None, domains: Sequence[str] = ZERO_DOMAINS, combine: str = "sum",
        settings: Mapping[str, Any] | None = None, folder: Path | None = None, watchers: Sequence[Watcher] = ()) -> StageRun:
    """Load the stage if it is complete, go on with it if it was stopped, train it if it is not there.

    base, settings: instead of the profile's, and on top of them. combine: how rewards are put together, "sum" as in the paper, or "gated".
    folder: instead of runs/<profile>/<name>. A folder that holds a stage of another configuration is an `R1Error`, and is left as it is.
    """
    if name != "zero":
        raise R1Error(f"stage {name!r} is not known: this version trains zero.")
    chosen = profiles.get(profile)
    folder = folder or paths.stage(profile, name)
    parent = base_folder(base or chosen.base)
    recipe = grpo.GRPORecipe.from_settings({**chosen.zero, **(settings or {})})
    problems = tasks.stream(domains, seed=seed)            # an unknown domain is found before anything is written
    mix = zero_reward(domains, combine)
    made_from = {"stage": name, "parent": parent.name, "parent_sha256": weights_sha256(parent), "seed": seed, "domains": list(domains),
                 "reward": {"parts": list(mix.parts), "combine": combine}, "recipe": dataclasses.asdict(recipe)}
    lineage = _lineage(folder, made_from)
    if lineage and lineage["finished"]:
        policy, rows = Policy.load(folder / "model", device=chosen.device), MetricsLog(folder / "metrics.jsonl").rows()
        print(f"{name}: loaded from {_shown(folder)}, where it was trained in {lineage['seconds'] / 60:.1f} minutes.", flush=True)
        return StageRun(name, folder, policy, rows, finished=True, loaded=True)

    policy = Policy.load(parent, device=chosen.device)     # before the lineage is written: a base that cannot be read binds no folder
    lineage = lineage or _begin(folder, made_from)
    print(f"{name}: trained from {parent.name} into {_shown(folder)}, {recipe.steps} steps of {recipe.prompts_per_step} x "
          f"{recipe.samples_per_prompt} answers.", flush=True)
    started = time.time()
    sampler = TorchSampler(policy, dtype=getattr(torch, recipe.precision))
    held_out = spread(tasks.evaluation_set("math"), chosen.evaluation_problems)
    asking = SamplingSettings(max_new_tokens=recipe.max_new_tokens)

    def look(step: int) -> Row:
        return evaluations.evaluate(sampler, held_out, samples=chosen.held_out_samples, settings=asking, seed=0).held_out_row()

    history = grpo.train(policy, sampler=sampler, problems=problems, reward=mix, recipe=recipe, folder=folder, seed=seed, evaluate=look,
                         watchers=watchers)
    lineage["seconds"] += time.time() - started
    if not history.interrupted:
        policy.save(folder / "model")
    _write_json(folder / "lineage.json", {**lineage, "finished": not history.interrupted})
    return StageRun(name, folder, policy, history.rows, not history.interrupted, False)


def _lineage(folder: Path, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """The lineage of the folder, None if there is none; an error if it is another stage's or unreadable."""
    if folder.exists() and not folder.is_dir():
        raise R1Error(f"{folder}: is a file, but a stage needs a folder of its own.")
    file = folder / "lineage.json"
    if not file.exists():
        return None
    try:
        lineage = json.loads(file.read_text(encoding="utf-8"))
        lineage["finished"], float(lineage["seconds"])
    except (ValueError, TypeError, KeyError) as error:
        raise R1Error(f"{file}: cannot be read as a lineage ({error}): move {folder} away to train the stage again.") from None
    for name, value in json.loads(json.dumps(made_from)).items():         # as JSON has it: tuples are lists
        if lineage.get(name) != value:
            there, here = _first_difference(name, lineage.get(name), value)
            raise R1Error(f"{folder}: made with {there}, this run asks for {here}. Use another folder (R1_RUNS), or move this one away.")
    return lineage


def _begin(folder: Path, made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Write the lineage of a stage that is about to be trained."""
    lineage = {**made_from, "r1lib": __version__, "machine": str(machine.describe()).splitlines(), "seconds": 0.0, "finished": False}
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "lineage.json", lineage)
    return lineage


def _first_difference(name: str, there: Any, here: Any) -> tuple[str, str]:
    """What differs, as "name=value" for each side, going into the settings of a recipe."""
    if isinstance(there, dict) and isinstance(here, dict):
        name = next(key for key in {**here, **there} if there.get(key) != here.get(key))
        there, here = there.get(name), here.get(name)
    return f"{name}={there}", f"{name}={here}"


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    writing = file.with_suffix(".writing")
    writing.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(writing, file)


def _shown(folder: Path) -> str:
    """A folder as it is shown to readers: without the machine's part of the path."""
    runs = paths.runs("").parent
    return str(folder.relative_to(runs)) if folder.is_relative_to(runs) else folder.name


# ------------------------------------------------------------------------------------------------------------------------------------------
# Evaluation of a stage

def spread(problems: Sequence[Problem], count: int | None) -> list[Problem]:
    """`count` problems spread over all of them, so that every kind and level stays in."""
    if count is None or count >= len(problems):
        return list(problems)
    return [problems[i * len(problems) // count] for i in range(count)]


def evaluation(name: str, *, profile: str, set_name: str = "math", folder: Path | None = None, base: str | None = None,
               progress: Callable[[int, int], None] | None = None) -> evaluations.Evaluation:
    """How good a stage's model is on a fixed set, at temperature 1 with the R1-Zero template; "base" is what training starts from.

    Kept as evaluation.json (evaluation-<set>.json for other sets than math) in the stage's folder, and made again when the model or the
    problems are others.
    """
    chosen = profiles.get(profile)
    folder = folder or paths.stage(profile, name)
    model = base_folder(base or chosen.base) if name == "base" else folder / "model"
    file = folder / ("evaluation.json" if set_name == "math" else f"evaluation-{set_name}.json")
    problems = spread(tasks.evaluation_set(set_name), chosen.evaluation_problems)
    recipe = grpo.GRPORecipe.from_settings(chosen.zero)
    about = {"stage": name, "set": set_name, "weights_sha256": weights_sha256(model), "max_new_tokens": recipe.max_new_tokens}
    if file.exists():
        kept = evaluations.load(file)
        if kept.about == about and kept.samples == chosen.evaluation_samples and kept.problems == tuple(problems):
            return kept
    sampler = TorchSampler(Policy.load(model, device=chosen.device))
    asking = SamplingSettings(max_new_tokens=recipe.max_new_tokens)
    made = evaluations.evaluate(sampler, problems, samples=chosen.evaluation_samples, settings=asking, seed=0, progress=progress)
    made.about.update(about)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(file)
    return made
