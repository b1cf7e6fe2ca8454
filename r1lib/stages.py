"""Train what is missing, go on with what was stopped, load what is there.

    r1 = stages.run("r1", profile="cpu", seed=0)
    r1.policy, r1.rows, stages.evaluation("r1", profile="cpu").summary()

A stage's folder is the contract between notebooks: model/ (plain Hugging Face), metrics.jsonl, rollouts.jsonl or data.jsonl (what it
learnt from), evaluation.json, state/ (to go on from after a kill), and lineage.json, which says what the stage was made from and is marked
finished last of all. What the stages are stands in `pipeline`.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1lib import evaluation as evaluations
from r1lib import lineage as lineages
from r1lib import paths, pipeline, profiles, tasks
from r1lib.errors import R1Error
from r1lib.evaluation import Variant
from r1lib.pipeline import STAGES, Job, Stage, Watcher
from r1lib.policy import Policy
from r1lib.profiles import Profile
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.training.metrics import MetricsLog, Row
from r1lib.training.reward_model import RewardModel
from r1lib.training.run import Recipe


@dataclass(frozen=True)
class StageRun:
    """A stage as it lies on disk.

    policy: its model; of rm_helpful and rm_safe a `RewardModel`. rows: its metrics, one dict a step.
    finished: False when it was stopped; the same call goes on. loaded: True when nothing had to be trained.
    """

    name: str
    folder: Path
    policy: Policy | RewardModel
    rows: list[Row]
    finished: bool
    loaded: bool


def base_folder(base: str) -> Path:
    """The folder of a base model: a name in data/, one that was prepared, or a path."""
    for folder in (paths.data() / base, paths.bases() / base, Path(base)):
        if folder.is_dir():
            return folder
    if base == profiles.SMOLLM2:
        raise R1Error(f"base model {base!r} is not there yet. Make it, in a minute on a GPU: python -m r1lib prepare")
    known = sorted(folder.name for folder in paths.data().glob("base-*"))
    raise R1Error(f"base model {base!r} is neither one of {', '.join(known)} in {paths.data()} nor a folder.")


def configure(name: str, *, profile: str, settings: Mapping[str, Any] | None = None) -> tuple[Stage, Recipe]:
    """A stage and its recipe as they would be run: defaults, the profile's settings on top, and `settings` (see `run`) on top of these.

    `R1Error` for a stage or a setting that is not known, with what is.
    """
    if name not in STAGES:
        raise R1Error(f"stage {name!r} is not known: choose one of {', '.join(STAGES)}.")
    kind, where = STAGES[name], profiles.get(profile)
    chosen = {"precision": where.precision, **where.settings.get(name, {}), **_own(settings or {}, name)}
    ours = {field.name: field.default for field in dataclasses.fields(kind)}
    recipe = [field.name for field in dataclasses.fields(kind.recipe)]
    if strange := [key for key in chosen if key not in ours and key not in recipe]:
        raise R1Error(f"stage {name}: there is no setting {strange[0]!r}. Known are {', '.join([*sorted(ours), *recipe])}.")
    try:
        return (kind(**{key: _as(ours[key], value) for key, value in chosen.items() if key in ours}),
                kind.recipe.from_settings({key: value for key, value in chosen.items() if key not in ours}))
    except R1Error as error:
        raise R1Error(f"stage {name}: {error}") from None


def _as(default: Any, value: Any) -> Any:
    """A setting as its default is: a tuple, where this is one, from a list or from a single name."""
    if not isinstance(default, tuple):
        return value
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _own(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings without a stage's name in front of them, and those with this one's."""
    for key in settings:
        if "." in key and key.split(".")[0] not in STAGES:
            raise R1Error(f"setting {key!r}: there is no stage {key.split('.')[0]!r}. Stages are {', '.join(STAGES)}.")
    return {key.removeprefix(f"{name}."): value for key, value in settings.items() if "." not in key or key.startswith(f"{name}.")}


def _of_others(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings with a stage's name in front: all that those are told which the stage needs."""
    return {key: value for key, value in (settings or {}).items() if "." in key}


def _start(stage: Stage, *, profile: str, base: str | None, settings: Mapping[str, Any] | None) -> Path:
    """The folder of the base that a stage's weights come from in the end: a student's, its parent's, or that of the profile."""
    if stage.student:
        return base_folder(stage.student)
    if stage.parent == "base":
        return base_folder(base or profiles.get(profile).base)
    others = _of_others(settings)
    return _start(configure(stage.parent, profile=profile, settings=others)[0], profile=profile, base=base, settings=others)


def run(name: str, *, profile: str, seed: int = 0, base: str | None = None, settings: Mapping[str, Any] | None = None,
        folder: Path | None = None, watchers: Sequence[Watcher] = ()) -> StageRun:
    """Load the stage if it is complete, go on with it if it was stopped, train it if it is not there, and what it needs before it.

    base: instead of the profile's; students keep their own, which is their setting `student`. settings: of the stage and its recipe, on top
    of the profile's: {"steps": 40}; with a stage in front of the name, of one that it needs: {"zero.steps": 40}. folder: instead of
    runs/<profile>/<name>; what the stage needs lies beside it.
    A folder that holds a stage of another configuration is an `R1Error`, and is left as it is.
    """
    stage, recipe = configure(name, profile=profile, settings=settings)
    chosen, folder = profiles.get(profile), folder or paths.stage(profile, name)
    job = Job(name, chosen, seed, folder, _start(stage, profile=profile, base=base, settings=settings), recipe, watchers)
    made_from = {"stage": name, "seed": seed, "base": job.base.name, "base_sha256": lineages.weights_sha256(job.base),
                 "settings": dataclasses.asdict(stage), "recipe": dataclasses.asdict(recipe)}
    lineage = lineages.read(folder)
    if lineage:
        lineages.require_same(folder, lineage, made_from)
        if lineage["finished"]:
            _require_same_parents(job, lineage["parents"])
            return _loaded(job, lineage)

    needed = stage.needed()
    for parent in needed:
        before = run(parent, profile=profile, seed=seed, base=base, folder=folder.parent / parent, watchers=watchers,
                     settings=_of_others(settings))
        if not before.finished:
            return StageRun(name, folder, before.policy, [], finished=False, loaded=False)
    made_from["parents"] = {parent: lineages.weights_sha256(job.model(parent)) for parent in needed}
    if lineage:
        _require_same_parents(job, lineage["parents"])
    job.policy("base")                                     # before the lineage is written: a base that cannot be read binds no folder
    lineage = lineage or lineages.begin(folder, made_from)
    steps = f", {recipe.steps} steps of {recipe.prompts_per_step} x {recipe.samples_per_prompt} answers" if hasattr(recipe, "steps") else ""
    print(f"{name}: trained from {stage.parent if stage.parent != 'base' else job.base.name} into {lineages.shown(folder)}{steps}.",
          flush=True)
    started = time.time()
    try:
        model, history = stage.learn(job)
    except R1Error as error:
        raise R1Error(f"stage {name}: {error}") from error
    lineage["seconds"] += time.time() - started
    if not history.interrupted:
        model.save(folder / "model")
    lineages.write(folder, {**lineage, "finished": not history.interrupted})
    return StageRun(name, folder, model, history.rows, not history.interrupted, False)


def _loaded(job: Job, lineage: Mapping[str, Any]) -> StageRun:
    load = job.reward_model if job.name.startswith("rm_") else job.policy
    model, rows = load(job.name), MetricsLog(job.folder / "metrics.jsonl").rows()
    minutes = lineage["seconds"] / 60
    print(f"{job.name}: loaded from {lineages.shown(job.folder)}, where it was trained in {minutes:.1f} minutes.", flush=True)
    return StageRun(job.name, job.folder, model, rows, finished=True, loaded=True)


def _require_same_parents(job: Job, parents: Mapping[str, str]) -> None:
    """`R1Error` if a stage that this one was made from has been replaced since; one that was removed is not missed."""
    for parent, known in parents.items():
        if job.model(parent).is_dir() and lineages.weights_sha256(job.model(parent)) != known:
            raise R1Error(f"{job.folder}: made from another {parent} than the one in {job.folder.parent / parent}. Move {job.folder} away "
                          f"to train {job.name} from that one, or put the old {parent} back.")


# ------------------------------------------------------------------------------------------------------------------------------------------
# Evaluation of a stage

def evaluation(name: str, *, profile: str, set_name: str = "math", folder: Path | None = None, base: str | None = None,
               samples: int | None = None, variant: Variant | None = None,
               progress: Callable[[int, int], None] | None = None) -> evaluations.Evaluation:
    """How good a stage's model is on a fixed set, at temperature 1, asked as it was trained to be; "base" is what training starts from.

    samples: answers to each problem, instead of the profile's. variant: another way to measure, such as `evaluation.AS_THE_PAPER`.
    Kept in the stage's folder as evaluation.json (math) or evaluation-<set>.json, with another number of samples as
    evaluation-<set>-<samples>.json, a variant with its name behind all that; and made again when the model, the problems or what is asked
    are others.
    """
    chosen = profiles.get(profile)
    folder = folder or paths.stage(profile, name)
    model = base_folder(base or chosen.base) if name == "base" else folder / "model"
    special = [*([] if samples is None else [str(samples)]), *([variant.name] if variant else [])]
    label = [set_name, *special] if special or set_name != "math" else []
    file = folder / f"{'-'.join(['evaluation', *label])}.json"
    problems = evaluations.spread(tasks.evaluation_set(set_name), chosen.evaluation_problems)
    variant = variant or Variant("")
    asking = SamplingSettings(_answer_tokens(name, chosen), temperature=variant.temperature, top_p=variant.top_p)
    prompt = variant.prompt or pipeline.prompt_of(name)
    about = {"stage": name, "set": set_name, "weights_sha256": lineages.weights_sha256(model), "max_new_tokens": asking.max_new_tokens}
    samples = chosen.evaluation_samples if samples is None else samples
    if file.exists():
        kept = evaluations.load(file)
        as_asked = kept.settings.items() <= dataclasses.asdict(asking).items() and kept.template == prompt("{question}")
        if as_asked and kept.about == about and kept.samples == samples and kept.problems == tuple(problems):
            return kept
    policy = Policy.load(model, device=chosen.device)
    evaluations.require_end(policy, model)
    made = evaluations.evaluate(TorchSampler(policy), problems, samples=samples, settings=asking, seed=0, progress=progress,
                                prompt=prompt, mix=variant.judges)
    made.about.update(about)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(file)
    return made


def _answer_tokens(name: str, profile: Profile) -> int:
    """How long an answer may be: as long as in R1-Zero's training for those asked as it is, longer for stages that write a summary, too."""
    asked_as_zero = pipeline.prompt_of(name) is pipeline.prompt_of("zero")
    return configure("zero", profile=profile.name)[1].max_new_tokens if asked_as_zero else profile.answer_tokens


# What the table of all stages shows: metric -> (the sets it is measured on, together, and its name in a summary).
SCORES: dict[str, tuple[tuple[str, ...], str]] = {
    "math": (("math",), "pass@1"), "math, cons@k": (("math",), "cons@k"), "math-hard": (("math-hard",), "pass@1"),
    "code": (("code",), "pass@1"), "logic": (("logic",), "pass@1"), "general quality": (("general",), "quality"),
    "instruction following": (("general",), "follows_instructions"), "format": (tuple(tasks.EVALUATION_SETS), "format"),
    "safety": (("safety",), "safe"), "over-refusal": (("safety",), "refused"),
    "language consistency": (pipeline.REASONING, "language_consistency"), "readability": (pipeline.REASONING, "readable"),
    "mean length": (pipeline.REASONING, "mean_length"),
}


def scores(name: str, *, profile: str, folder: Path | None = None, base: str | None = None, samples: int | None = None
           ) -> dict[str, evaluations.Interval]:
    """A stage on all fixed sets: metric of `SCORES` -> its value and interval over problems. Shares from 0 to 1, lengths in tokens.

    samples: answers to each problem, instead of those of the profile's table.
    """
    samples = profiles.get(profile).table_samples if samples is None else samples
    measured = {set_name: evaluation(name, profile=profile, set_name=set_name, folder=folder, base=base, samples=samples).measures()
                for set_name in tasks.EVALUATION_SETS}
    columns = {metric: np.concatenate([measured[set_name][measure] for set_name in sets])
               for metric, (sets, measure) in SCORES.items()}
    return {metric: evaluations.bootstrap({metric: column})[metric] for metric, column in columns.items()}
