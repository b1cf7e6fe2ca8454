"""Train what is missing, go on with what was stopped, load what is there.

    r1 = stages.run("r1", profile="cpu", seed=0)
    r1.policy, r1.rows, stages.evaluation("r1", profile="cpu").summary()

A stage's folder is the contract between notebooks: model/ (plain Hugging Face), metrics.jsonl, rollouts.jsonl or data.jsonl (what it
learnt from), evaluation.json, state/ (to go on from after a kill), and lineage.json, which says what the stage was made from and is marked
finished last of all. What the stages are stands in `pipeline`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r1lib import evaluation as evaluations
from r1lib import hub, paths, pipeline, profiles, rewards, tasks
from r1lib import lineage as lineages
from r1lib.errors import R1Error
from r1lib.evaluation import Variant
from r1lib.pipeline import STAGES, Job, Stage, Watcher
from r1lib.policy import Policy, on_device
from r1lib.profiles import Profile
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.side_by_side import at_once, side_by_side
from r1lib.tasks import Problem
from r1lib.training.grpo import GRPORecipe
from r1lib.training.metrics import MetricsLog, Row
from r1lib.training.parallel import ALONE, Processes
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
    """The folder of a base model: a name in data/, one that was prepared, a path, or a name on the Hugging Face hub (`hub`)."""
    for folder in (paths.data() / base, paths.bases() / base, Path(base)):
        if folder.is_dir():
            return folder
    if base == profiles.SMOLLM2:
        raise R1Error(f"base model {base!r} is not there yet. Make it, in a minute on a GPU: python -m r1lib prepare")
    if hub.is_name(base):
        return hub.model_folder(base)
    known = sorted(folder.name for folder in paths.data().glob("base-*"))
    raise R1Error(f"base model {base!r} is neither one of {', '.join(known)} in {paths.data()} nor a folder, nor owner/model of the hub.")


def base_of(profile: str) -> Path:
    """The folder of a profile's base, where its device is: without one, nothing is fetched."""
    chosen = profiles.get(profile)
    on_device(torch.empty(0), chosen.device)
    return base_folder(chosen.base)


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
        return base_folder(base) if base else base_of(profile)
    others = _of_others(settings)
    return _start(configure(stage.parent, profile=profile, settings=others)[0], profile=profile, base=base, settings=others)


def run(name: str, *, profile: str, seed: int = 0, base: str | None = None, settings: Mapping[str, Any] | None = None,
        folder: Path | None = None, watchers: Sequence[Watcher] = (), processes: Processes = ALONE) -> StageRun:
    """Load the stage if it is complete, go on with it if it was stopped, train it if it is not there, and what it needs before it.

    base: instead of the profile's; students keep their own, which is their setting `student`. settings: of the stage and its recipe, on top
    of the profile's: {"steps": 40}; with a stage in front of the name, of one that it needs: {"zero.steps": 40}. folder: instead of
    runs/<profile>/<name>; what the stage needs lies beside it.
    processes: that call this together (`training.parallel`). They share the work of GRPO; any other training is done by the first, while
    the others wait. A folder that holds a stage of another configuration is an `R1Error`, and is left as it is.
    """
    stage, job = _job(name, profile=profile, seed=seed, base=base, settings=settings, folder=folder, watchers=watchers)
    job = dataclasses.replace(job, processes=processes)
    if processes.count > 1 and (job.profile.backend != "ours" or job.profile.rollouts):
        raise R1Error(f"profile {profile}: torchrun shares the work of our own trainer and sampler. TRL is started on several GPUs by "
                      "accelerate (recipes/grpo.py); without torchrun this profile uses one.")
    lineage = processes.of_first(lambda: _known(stage, job))
    if lineage and lineage["finished"]:
        _require_same_parents(job, lineage["parents"])
        found, minutes = _loaded(job), lineage["seconds"] / 60
        print(f"{name}: loaded from {lineages.shown(job.folder)}, where it was trained in {minutes:.1f} minutes.", flush=True)
        return found
    for parent in stage.needed():
        before = _before(parent, job, base=base, settings=settings)
        if not before.finished:
            return StageRun(name, job.folder, before.policy, [], finished=False, loaded=False)
    return _learn(stage, job)


def _learn(stage: Stage, job: Job) -> StageRun:
    """Train the stage, or go on with it; all that it needs is there."""
    recipe = job.recipe
    if job.processes.count > 1 and type(recipe) is not GRPORecipe:
        alone = dataclasses.replace(job, processes=ALONE)
        if job.processes.of_first(lambda: _learn(stage, alone).finished):
            return _loaded(job, loaded=False)
        return StageRun(job.name, job.folder, job.policy(stage.parent), [], finished=False, loaded=False)
    lineage = job.processes.of_first(lambda: _begun(stage, job))
    steps = f", {recipe.steps} steps of {recipe.prompts_per_step} x {recipe.samples_per_prompt} answers" if hasattr(recipe, "steps") else ""
    print(f"{job.name}: trained from {stage.parent if stage.parent != 'base' else job.base.name} into {lineages.shown(job.folder)}{steps}.",
          flush=True)
    with _counted(job, lineage):
        model, history = stage.learn(job)

    def keep() -> None:
        if not history.interrupted:
            model.save(job.folder / "model")
        lineages.write(job.folder, {**lineage, "finished": not history.interrupted})

    job.processes.of_first(keep)
    return StageRun(job.name, job.folder, model, history.rows, not history.interrupted, False)


def _begun(stage: Stage, job: Job) -> dict[str, Any]:
    """The lineage of a stage that is about to be trained, new or found, when all has been checked that can be."""
    lineage = _known(stage, job)
    made_from = _made_from(stage, job) | {"parents": {parent: lineages.weights_sha256(job.model(parent)) for parent in stage.needed()}}
    if lineage:
        _require_same_parents(job, lineage["parents"])
    job.policy("base")                                     # before the lineage is written: a base that cannot be read binds no folder
    return lineage or lineages.begin(job.folder, made_from)


@contextlib.contextmanager
def _counted(job: Job, lineage: dict[str, Any]) -> Iterator[None]:
    """Around a stage's work: its seconds go into the lineage, its name in front of an error."""
    started = time.time()
    try:
        yield
    except R1Error as error:
        raise R1Error(f"stage {job.name}: {error}") from error
    lineage["seconds"] += time.time() - started


def _made_from(stage: Stage, job: Job) -> dict[str, Any]:
    return {"stage": job.name, "seed": job.seed, "base": job.base.name, "base_sha256": lineages.weights_sha256(job.base),
            "settings": dataclasses.asdict(stage), "recipe": dataclasses.asdict(job.recipe)}


def _known(stage: Stage, job: Job) -> dict[str, Any] | None:
    """The lineage of what the folder holds, if it holds anything; `R1Error` if that is of another configuration."""
    lineage = lineages.read(job.folder)
    if lineage:
        lineages.require_same(job.folder, lineage, _made_from(stage, job))
    return lineage


def _job(name: str, *, profile: str, seed: int, base: str | None, settings: Mapping[str, Any] | None, folder: Path | None,
         watchers: Sequence[Watcher]) -> tuple[Stage, Job]:
    stage, recipe = configure(name, profile=profile, settings=settings)
    start = _start(stage, profile=profile, base=base, settings=settings)
    return stage, Job(name, profiles.get(profile), seed, folder or paths.stage(profile, name), start, recipe, watchers)


def _before(parent: str, job: Job, *, base: str | None, settings: Mapping[str, Any] | None) -> StageRun:
    """A stage that this one needs, from the folder beside it."""
    return run(parent, profile=job.profile.name, seed=job.seed, base=base, folder=job.folder.parent / parent, watchers=job.watchers,
               settings=_of_others(settings), processes=job.processes)


def _loaded(job: Job, *, loaded: bool = True) -> StageRun:
    load = job.reward_model if job.name.startswith("rm_") else job.policy
    return StageRun(job.name, job.folder, load(job.name), MetricsLog(job.folder / "metrics.jsonl").rows(), finished=True, loaded=loaded)


def run_side_by_side(asked: Mapping[str, Mapping[str, Any]], *, profile: str, seed: int = 0,
                     base: str | None = None) -> dict[str, StageRun]:
    """Several stages, of which none needs another, at the same time on the cores of a CPU.

    asked: label -> what `run` is told about this one alone: `settings`, `folder`, `watchers`, and its `name` where that is not the label.
    What they need is trained first. `R1Error` when one was stopped or interrupted; then all of them have saved, and the same call goes on.
    Products in float32 are those of `run`; in bfloat16 one thread rounds them otherwise than two.
    """
    told = {label: {"name": label, "settings": None, "folder": None, "watchers": (), **own} for label, own in asked.items()}
    jobs = {label: _job(**own, profile=profile, seed=seed, base=base) for label, own in told.items()}
    known = {label: _known(stage, job) or {"finished": False} for label, (stage, job) in jobs.items()}
    missing = [label for label in asked if not known[label]["finished"]]

    def train(label: str, tell: Watcher) -> bool:
        stage, job = jobs[label]
        return _learn(stage, dataclasses.replace(job, watchers=[tell])).finished

    def hear(label: str, row: Row) -> None:
        for watcher in told[label]["watchers"]:
            watcher(row)

    if profiles.get(profile).device == "cpu" and at_once(len(asked)) > 1 and missing:
        there: dict[Path, StageRun] = {}
        for label, (stage, job) in jobs.items():
            if label not in missing:
                _require_same_parents(job, known[label]["parents"])
                continue
            for parent in stage.needed():
                folder = job.folder.parent / parent
                there[folder] = there.get(folder) or _before(parent, job, base=base, settings=told[label]["settings"])
                if not there[folder].finished:
                    raise R1Error(f"{parent}, which {label} needs, was stopped before it was finished: execute this again to go on.")
            lineage = _begun(stage, job)
            with _counted(job, lineage):
                stage.prepare(job)
            lineages.write(job.folder, lineage)
        try:
            finished = side_by_side({label: partial(train, label) for label in missing}, hear=hear, apart=True)
        except KeyboardInterrupt:
            finished = dict.fromkeys(missing, False)
        done = {label: _loaded(job, loaded=label not in missing) for label, (_, job) in jobs.items() if finished.get(label, True)}
    else:
        done = {}
        for label, own in told.items():
            done[label] = run(**own, profile=profile, seed=seed, base=base)
            if not done[label].finished:
                break                                                  # whoever interrupts one does not want the next to begin
    if stopped := [label for label in asked if label not in done or not done[label].finished]:
        raise R1Error(f"{' and '.join(stopped)} stopped before the end: execute this again to go on.")
    return done


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
    asked = _Asked.of(name, profile=profile, set_name=set_name, folder=folder, base=base, samples=samples, variant=variant)
    return asked.kept() or asked.make(progress)


def evaluate_side_by_side(asked: Mapping[str, Mapping[str, Any]], *, profile: str) -> dict[str, evaluations.Evaluation]:
    """Several evaluations, label -> that of `evaluation(profile=profile, **asked[label])`; a CPU makes what is missing on all its cores."""
    each = {label: _Asked.of(**own, profile=profile) for label, own in asked.items()}
    kept = {label: one.kept() for label, one in each.items()}
    missing = [label for label in asked if kept[label] is None]
    if profiles.get(profile).device == "cpu" and len(asked) > 1:
        side_by_side({label: each[label].make_for_others for label in missing}, hear=_Counted(len(missing)), apart=True)
    return {label: kept[label] or each[label].kept() or each[label].make() for label in asked}


class _Counted:
    """Says how many evaluations are made, every ten seconds."""

    def __init__(self, of: int) -> None:
        self._of, self._made, self._said = of, 0, time.monotonic()

    def __call__(self, label: str, made: None) -> None:
        self._made += 1
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            print(f"{self._made} of {self._of} evaluations made, {label} the last", flush=True)


@dataclass(frozen=True)
class _Asked:
    """One evaluation of a stage: everything that it depends on, and where it is kept."""

    file: Path
    model: Path
    device: str
    problems: list[Problem]
    samples: int
    sampling: SamplingSettings
    prompt: pipeline.Prompt
    judges: rewards.RewardMix | None
    about: dict[str, Any]

    @classmethod
    def of(cls, name: str, *, profile: str, set_name: str = "math", folder: Path | None = None, base: str | None = None,
           samples: int | None = None, variant: Variant | None = None) -> "_Asked":
        chosen = profiles.get(profile)
        folder = folder or paths.stage(profile, name)
        model = base_folder(base or chosen.base) if name == "base" else folder / "model"
        special = [*([] if samples is None else [str(samples)]), *([variant.name] if variant else [])]
        label = [set_name, *special] if special or set_name != "math" else []
        variant = variant or Variant("")
        sampling = SamplingSettings(_answer_tokens(name, chosen), temperature=variant.temperature, top_p=variant.top_p)
        return cls(file=folder / f"{'-'.join(['evaluation', *label])}.json", model=model, device=chosen.device,
                   problems=evaluations.spread(tasks.evaluation_set(set_name), chosen.evaluation_problems),
                   samples=chosen.evaluation_samples if samples is None else samples, sampling=sampling,
                   prompt=variant.prompt or pipeline.prompt_of(name), judges=variant.judges,
                   about={"stage": name, "set": set_name, "weights_sha256": lineages.weights_sha256(model),
                          "max_new_tokens": sampling.max_new_tokens})

    def kept(self) -> evaluations.Evaluation | None:
        """What the file holds, if it is this very evaluation."""
        if not self.file.exists():
            return None
        found = evaluations.load(self.file)
        as_asked = found.settings.items() <= dataclasses.asdict(self.sampling).items() and found.template == self.prompt("{question}")
        same = as_asked and found.about == self.about and found.samples == self.samples and found.problems == tuple(self.problems)
        return found if same else None

    def make(self, progress: Callable[[int, int], None] | None = None) -> evaluations.Evaluation:
        policy = Policy.load(self.model, device=self.device)
        evaluations.require_end(policy, self.model)
        made = evaluations.evaluate(TorchSampler(policy), self.problems, samples=self.samples, settings=self.sampling, seed=0,
                                    progress=progress, prompt=self.prompt, mix=self.judges)
        made.about.update(self.about)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        made.save(self.file)
        return made

    def make_for_others(self, tell: Callable[[None], None]) -> None:
        """`make` in a process whose memory is lost: the file is what remains."""
        self.make()
        tell(None)


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
    return table([name], profile=profile, folders={} if folder is None else {name: folder}, base=base, samples=samples)[name]


def table(names: Sequence[str], *, profile: str, folders: Mapping[str, Path] | None = None, base: str | None = None,
          samples: int | None = None) -> dict[str, dict[str, evaluations.Interval]]:
    """The `scores` of several stages, in the order of their names; on a CPU, what is missing is measured on all its cores.

    folders: of the stages that do not lie in their own.
    """
    samples = profiles.get(profile).table_samples if samples is None else samples
    made = evaluate_side_by_side({f"{name} on {set_name}": dict(name=name, set_name=set_name, folder=(folders or {}).get(name), base=base,
                                                                samples=samples)
                                  for name in names for set_name in tasks.EVALUATION_SETS}, profile=profile)
    found = {}
    for name in names:
        measured = {set_name: made[f"{name} on {set_name}"].measures() for set_name in tasks.EVALUATION_SETS}
        columns = {metric: np.concatenate([measured[set_name][measure] for set_name in sets])
                   for metric, (sets, measure) in SCORES.items()}
        found[name] = {metric: evaluations.bootstrap({metric: column})[metric] for metric, column in columns.items()}
    return found
