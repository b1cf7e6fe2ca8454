"""What each stage learns from and is paid for: its questions, selection and rewards, and models behind an endpoint instead of rules."""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import Server

from r1lib import lineage, pipeline, profiles, seeds, stages, tasks, text
from r1lib.curation import endpoint, selection
from r1lib.errors import R1Error
from r1lib.pipeline import Job
from r1lib.policy import Policy
from r1lib.rewards import RewardMix
from r1lib.sampling import Rollout, SamplingSettings
from r1lib.tasks import KINDS, Problem, Voice, safety
from r1lib.tasks.corpus import tagged
from r1lib.training.reward_model import Labelled, Pair
from r1lib.training.run import History
from r1lib.training.sft import Example

Answers = Callable[[Problem], list[str]]


def job(name: str, folder: Path, *, seed: int = 0, **settings: Any) -> Job:
    """A stage about to be trained in profile smoke, in the folder of its name."""
    (folder / name).mkdir(exist_ok=True)
    chosen, recipe = profiles.get("smoke"), stages.configure(name, profile="smoke", settings=settings)[1]
    return Job(name, chosen, seed, folder / name, stages.base_folder(chosen.base), recipe, ())


def rollout(index: int, written: str) -> Rollout:
    return Rollout(index, [], [], [], written, True)


def answer_with(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> list[str]:
    """Let every model answer as this function does; returns the stages whose models are asked, in order."""
    asked: list[str] = []

    def scripted(self: Job, stage: str, problems: Sequence[Problem], samples: int, *, temperature: float) -> list[Rollout]:
        asked.append(stage)
        return [rollout(index, written) for index, problem in enumerate(problems) for written in answers(problem)[:samples]]

    monkeypatch.setattr(Job, "answers", scripted)
    return asked


def right(problem: Problem) -> list[str]:
    """Two good answers to a problem of mathematics, each by another work."""
    rng = seeds.rng("right", problem.question)
    kind = KINDS[problem.kind]
    works = (kind.work(problem, manner, Voice(rng, problem.language)) for _ in range(40) for manner in kind.manners)
    found = dict.fromkeys(tagged(work.think, work.answer) for work in works)
    return [written for written in found if selection.right([problem], [written])[0]][:2]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Questions

def test_questions_are_different_and_repeatable(tmp_path: Path) -> None:
    problems = job("dev1", tmp_path).problems(["math", "logic"], 60)
    questions = [problem.question for problem in problems]
    assert len(set(questions)) == 60 and {problem.domain for problem in problems} == {"math", "logic"}
    assert job("dev1", tmp_path).problems(["math", "logic"], 60) == problems
    assert job("dev1", tmp_path).problems(["math", "logic"], 20) == problems[:20]
    assert all(tasks.split_of(problem) == "train" for problem in problems)


def test_every_stage_and_every_seed_has_its_own_questions(tmp_path: Path) -> None:
    """But for those few that chance draws twice."""
    asked = [{problem.question for problem in made.problems(["math"], 100)}
             for made in (job("dev1", tmp_path), job("dev3", tmp_path), job("dev1", tmp_path, seed=1))]
    asked.append({problem.question for problem in tasks.stream(["math"], seed=0).batch(0, 100)})            # what R1-Zero trains on first
    assert all(len(one & other) <= 5 for one, other in itertools.combinations(asked, 2))


def test_a_small_world_gives_what_it_has(tmp_path: Path) -> None:
    problems = job("rm_safe", tmp_path).problems(["self"], 1000)
    assert 4 < len(problems) == len({problem.question for problem in problems}) < 100


def test_a_stages_answers_keep_their_places_and_have_draws_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], int]] = []

    class Echo:
        """A sampler whose answers are its prompts."""

        def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int, first: int = 0) -> list[Rollout]:
            assert (settings.max_new_tokens, settings.temperature) == (profiles.get("smoke").answer_tokens, 0.7)
            calls.append((list(prompts), seed))
            return [rollout(index, prompt) for index, prompt in enumerate(prompts) for _ in range(samples)]

    loaded: list[str] = []
    monkeypatch.setattr(Job, "policy", lambda self, stage: loaded.append(stage))
    monkeypatch.setattr(Job, "sampler", lambda self, policy: Echo())
    made = job("dev1", tmp_path)
    problems = made.problems(["math"], 150)
    for stage, prompt in (("zero", text.zero_prompt), ("dev2", text.chat_prompt)):
        rollouts = made.answers(stage, problems, 3, temperature=0.7)
        assert [found.prompt_index for found in rollouts] == [index for index in range(150) for _ in range(3)]
        assert all(found.text == prompt(problems[found.prompt_index].question) for found in rollouts)
    assert loaded == ["zero", "dev2"] and len({seed for _, seed in calls}) == 2


# ------------------------------------------------------------------------------------------------------------------------------------------
# Data files

def test_data_are_made_once(tmp_path: Path) -> None:
    made, rows, times = job("v3", tmp_path), [Example("a\u2028", "b\n", "c"), Example("你好", "d", "e")], []
    assert made.kept(Example, lambda: times.append(1) or rows) == made.kept(Example, lambda: times.append(1) or rows) == rows
    assert len(times) == 1 and [file.name for file in made.folder.iterdir()] == ["data.jsonl"]
    assert made.kept(Pair, lambda: [Pair("a", "b", "c", 1.5), Pair("a", "b", "c")], name="pairs")[0].gap == 1.5
    with pytest.raises(R1Error):
        made.kept(Labelled, lambda: (_ for _ in ()).throw(R1Error("nothing")), name="labels")
    assert not (made.folder / "labels.jsonl").exists()


@pytest.mark.parametrize(("row", "why"), [
    (b'{"prompt": "a", "completion"', ""), (b"[1, 2]", ""), (b"", ""), (b"null", ""), (b'{"prompt": "a"}', "missing"), (b"\xff", "utf-8"),
    (b'{"prompt": "a", "completion": 7, "source": "b"}', "completion=7"),
    (b'{"prompt": "a", "completion": "b", "source": "c", "more": 1}', "more"),
])
def test_a_bad_row_is_named(row: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b'{"prompt": "a", "completion": "b", "source": "c"}\n' + row + b"\n")
    with pytest.raises(R1Error, match=rf"{re.escape(str(file))}, row 2: not a Example \(.*{why}.*Remove the file"):
        pipeline.read_rows(file, Example)
    with pytest.raises(R1Error, match="nothing.jsonl: there is no such data file"):
        pipeline.read_rows(tmp_path / "nothing.jsonl", Example)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 1.0])
def test_no_question_is_learnt_from_and_measured_on(share: float) -> None:
    rows = [Labelled(f"question {i // 3}", f"answer {i}", True) for i in range(600)]
    learnt, held_out = pipeline.split(rows, share)
    assert sorted(learnt + held_out, key=rows.index) == rows
    assert not {row.prompt for row in learnt} & {row.prompt for row in held_out}
    assert learnt == [row for row in rows if row in learnt] and held_out == [row for row in rows if row in held_out]      # in their order
    assert abs(len(held_out) / 600 - share) < 0.07
    assert pipeline.split(rows[::-1], share)[1] == held_out[::-1]                                     # whatever else there is


@pytest.mark.parametrize("questions", range(2, 6))
def test_however_few_the_questions_are_there_is_one_on_either_side(questions: int) -> None:
    for draw, share in itertools.product(range(20), (0.01, 0.2, 1.0)):
        rows = [Labelled(f"{draw} {i}", answer, True) for i in range(questions) for answer in ("a", "b")]
        learnt, held_out = pipeline.split(rows, share)
        assert learnt and held_out and not {row.prompt for row in learnt} & {row.prompt for row in held_out}
    for few in ([], rows[:2]):
        with pytest.raises(R1Error, match=f"{len(few)} rows of {len(few) // 2} question are left"):
            pipeline.split(few, 0.2)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Settings

@pytest.mark.parametrize(("name", "settings", "said"), [
    ("zero", {"domains": ["maths"]}, "domain 'maths' is not known"), ("zero", {"domains": []}, r"domains=\(\): must be a list"),
    ("zero", {"combine": "product"}, "combine='product' is not known"), ("v3", {"examples": 0}, "examples=0: must be a number above 0"),
    ("v3", {"direct_share": 1.5}, "direct_share=1.5: a share is at most 1"),
    ("dev1", {"problems": -1}, "problems=-1: must be a number above 0"),
    ("dev1", {"problems": 1.5}, "problems=1.5: must be a whole number"),
    ("dev1", {"samples": "many"}, "samples='many': must be a whole number"),
    ("dev1", {"temperature": 0}, "temperature=0: must be a number above 0"),
    ("dev1", {"temperature": float("nan")}, "temperature=nan: must be a number above 0"),
    ("dev1", {"endpoint": 8000}, "endpoint=8000: must be text"), ("dev1", {"domains": ["math", "maths"]}, "domain 'maths' is not known"),
    ("dev2", {"language": "no"}, "language='no': must be true or false"), ("dev2", {"language": 1}, "language=1: must be true or false"),
    ("dev3", {"per_problem": 0}, "per_problem=0: must be a number above 0"),
    ("dev3", {"general_share": -0.5}, "general_share=-0.5: must be a number of at least 0"),
    ("rm_helpful", {"samples": 1}, "samples=1: must be at least 2"),
    ("rm_helpful", {"noise": -1}, "noise=-1: must be a number of at least 0"),
    ("rm_safe", {"held_out": 0}, "held_out=0: must be a number above 0"), ("rm_safe", {"held_out": 2}, "held_out=2: a share is at most 1"),
    ("r1", {"general": ["chat"]}, "domain 'chat' is not known"), ("r1", {"preference_steps": -1}, "preference_steps=-1: must be"),
    ("r1", {"general_share": True}, "general_share=True: must be a number"), ("r1", {"steps": 0}, "steps=0"),
])
def test_settings_that_make_no_sense_are_named(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(R1Error, match=f"^stage {name}: .*{said}"):
        stages.configure(name, profile="smoke", settings=settings)
    if not set(settings) & {"steps"}:
        with pytest.raises(R1Error, match=f"^{said}"):
            pipeline.STAGES[name](**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})


def test_defaults_make_sense() -> None:
    for name, kind in pipeline.STAGES.items():
        assert all(needed == "base" or needed in pipeline.STAGES for needed in (kind.parent, *kind.uses)), name
        assert dataclasses.asdict(kind()) is not None
    assert pipeline.STAGES["r1"](preference_steps=0, general_share=1) and pipeline.STAGES["rm_helpful"](noise=0, position_bias=0)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Rewards

class Likes:
    """A reward model that likes everything, or nothing."""

    def __init__(self, score: float) -> None:
        self.value = score

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return [self.value] * len(responses)


@dataclasses.dataclass
class Reinforced:
    """What a stage gave to GRPO: the folder of the weights that it started from, its questions, its rewards, its prompt."""

    parent: str
    problems: Any
    reward: RewardMix
    prompt: Callable[[str], str]

    def paid(self, problem: Problem, completion: str) -> dict[str, float | None]:
        """The parts that a completion earns."""
        columns = {name: [value] for name, value in problem.columns().items()}
        earned = self.reward([completion], {**columns, "prompts": [self.prompt(problem.question)]})
        return {name: values[0] for name, values in earned.parts.items()}


@pytest.fixture
def reinforced(tiny_policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reinforced]:
    """Lets a stage come as far as GRPO, and says what it brings."""
    loaded: list[str] = []
    given: dict[str, Any] = {}
    monkeypatch.setattr(Job, "policy", lambda self, stage: loaded.append(stage) or tiny_policy)
    monkeypatch.setattr(Job, "reward_model", lambda self, stage: Likes({"rm_helpful": 50.0, "rm_safe": -50.0}[stage]))
    monkeypatch.setattr(pipeline.grpo, "train", lambda policy, **all_of_it: given.update(all_of_it) or History([]))

    def run(name: str, **settings: Any) -> Reinforced:
        loaded.clear()
        stages.configure(name, profile="smoke", settings=settings)[0].learn(job(name, tmp_path, **settings))
        return Reinforced(loaded[0], given["problems"], given["reward"], given["prompt"])

    return run


def some(kind: str, language: str = "en") -> Problem:
    return tasks.draw(KINDS[kind], seeds.rng("rewarded", kind), 1, language, "train")


RULES = ["accuracy_reward", "code_reward", "format_reward"]


@pytest.mark.parametrize(("name", "parent", "parts"), [
    ("zero", "base", RULES), ("dev2", "dev1", [*RULES, "language_consistency_reward"]),
    ("dev2_no_language", "dev1", [*RULES, "language_consistency_reward"]),
    ("r1", "dev3", [*RULES, "language_consistency_reward", "helpful_reward", "safe_reward"]),
    ("r1_hacked", "dev3", [*RULES, "language_consistency_reward", "helpful_reward", "safe_reward"]),
])
def test_rewards_of_a_stage_are_the_papers(name: str, parent: str, parts: list[str], reinforced: Callable[..., Reinforced]) -> None:
    given = reinforced(name)
    assert given.parent == parent and list(given.reward.parts) == parts
    paid = {part: given.reward.weights.get(part, 1.0) for part in parts}
    unpaid = {"language_consistency_reward"} if name == "dev2_no_language" else set()         # looked at all the same
    assert paid == {part: 0.0 if part in unpaid else 1.0 for part in parts} and given.reward.combine == "sum"
    assert given.prompt is (text.zero_prompt if name == "zero" else text.chat_prompt)
    sums, program = some("chain"), some("function")
    earned = given.paid(sums, tagged("I add.", f"\\boxed{{{sums.gold}}}"))
    assert (earned["accuracy_reward"], earned["code_reward"], earned["format_reward"]) == (1.0, None, 1.0)
    assert earned.get("helpful_reward") is None and earned.get("safe_reward") is None
    written = KINDS["function"].work(program, "steps", Voice(seeds.rng("program"), "en"))
    earned = given.paid(program, tagged("I write.", written.answer))
    assert (earned["accuracy_reward"], earned["code_reward"]) == (None, 1.0)
    if "language_consistency_reward" in parts:
        earned = given.paid(sums, tagged("我算", sums.gold))
        assert earned["language_consistency_reward"] == 0.0 and earned["accuracy_reward"] == 1.0


def test_only_reward_models_judge_what_no_rule_can(reinforced: Callable[..., Reinforced]) -> None:
    given, asked, harm = reinforced("r1"), some("fact"), some("harmful")
    earned = given.paid(asked, tagged("I know.", asked.gold))
    assert (earned["helpful_reward"], earned["safe_reward"], earned["accuracy_reward"]) == (pytest.approx(1.0), None, None)
    earned = given.paid(harm, tagged("I refuse.", safety.REFUSAL[0]))
    assert (earned["helpful_reward"], earned["safe_reward"], earned["accuracy_reward"]) == (None, pytest.approx(0.0), None)


def test_without_programs_nothing_is_paid_for_programs(reinforced: Callable[..., Reinforced]) -> None:
    assert list(reinforced("zero", domains=["math"]).reward.parts) == ["accuracy_reward", "format_reward"]
    assert list(reinforced("zero", domains=["logic", "function"]).reward.parts) == RULES
    assert reinforced("zero", combine="gated").reward.combine == "gated"


def test_general_questions_come_in_the_last_steps(reinforced: Callable[..., Reinforced]) -> None:
    given = reinforced("r1", steps=10, preference_steps=4, general_share=0.25)
    domains = [[problem.domain for problem in given.problems.batch(step, 16)] for step in range(10)]
    assert all(set(batch) <= set(pipeline.REASONING) for batch in domains[:6])
    assert all(sum(domain in ("general", "safety") for domain in batch) == 4 for batch in domains[6:])
    hacked = reinforced("r1_hacked", steps=10)
    assert {problem.domain for step in range(10) for problem in hacked.problems.batch(step, 16)} == {"general"}
    never = reinforced("r1", steps=10, preference_steps=0)
    assert {problem.domain for step in range(10) for problem in never.problems.batch(step, 16)} == set(pipeline.REASONING)


def test_the_ablation_differs_in_the_reward_only(reinforced: Callable[..., Reinforced]) -> None:
    with_it, without = reinforced("dev2"), reinforced("dev2_no_language")
    assert with_it.problems == without.problems and with_it.parent == without.parent
    assert stages.configure("dev2", profile="cpu")[1] == stages.configure("dev2_no_language", profile="cpu")[1]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Selections

def test_what_was_selected_is_written_with_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    asked = answer_with(monkeypatch, lambda problem: ["no tags", *right(problem)])
    for name, model in (("dev1", "zero"), ("dev3", "dev2")):
        made = job(name, tmp_path)
        stage = stages.configure(name, profile="smoke", settings={"domains": ["math"], "problems": 10, "samples": 3, "per_problem": 1})[0]
        examples = made.selected(lambda stage=stage, made=made: stage.select(made))
        assert len(examples) == len({example.prompt for example in examples}) == 10 and asked.pop() == model
        table = json.loads((made.folder / "selection.json").read_text())
        assert table["math"]["sampled"] >= 20 and table["math"]["kept"] == 10 and table["math"]["wrong"] == 10
        assert f"{name}: math: sampled {table['math']['sampled']}, kept 10, dropped: " in capsys.readouterr().out
        assert pipeline.read_rows(made.folder / "data_reasoning.jsonl", Example) == examples
        assert made.selected(lambda: pytest.fail("made again")) == examples


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with the shortest R1-Zero. Tests copy nothing of it: their stages lie beside it, under other names."""
    runs = tmp_path_factory.mktemp("runs")
    stages.run("zero", profile="smoke", folder=runs / "zero", settings=SHORT)
    return runs


SHORT = {"zero.steps": 1, "zero.prompts_per_step": 4, "zero.samples_per_prompt": 4, "zero.max_new_tokens": 24, "zero.evaluate_every": 9}
FEW = {**SHORT, "problems": 4, "samples": 2, "epochs": 1, "domains": ["math"], "evaluate_every": 99}


def dev1(runs: Path, name: str, **settings: Any) -> stages.StageRun:
    return stages.run("dev1", profile="smoke", folder=runs / name, settings={**FEW, **settings})


def test_a_selection_that_leaves_nothing_is_named_and_counted(zero: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, lambda problem: ["no tags", tagged("I guess.", "-1")])
    with pytest.raises(R1Error, match=r"^stage dev1: .*nothing is left of 8 samples[^\n]*\nmath: sampled 8, kept 0, dropped: wrong 8$"):
        dev1(zero, "empty")
    assert sorted(file.name for file in (zero / "empty").iterdir()) == ["lineage.json"]
    answer_with(monkeypatch, right)
    assert dev1(zero, "empty").finished                                                 # nothing is in the way of another try


@pytest.mark.parametrize(("name", "said"), [
    ("rm_helpful", "no pair is left: 5 problems, 0 pairs judged"), ("rm_safe", "5 labelled answers, all of one label")])
def test_nothing_to_learn_a_preference_from_is_counted(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch, lambda problem: [tagged("I refuse.", safety.REFUSAL[0])])
    stage, made = stages.configure(name, profile="smoke", settings={"problems": 5})[0], job(name, tmp_path)
    with pytest.raises(R1Error, match=said):
        stage.judged(made) if name == "rm_helpful" else stage.labelled(made)
    assert asked == (["dev3", "v3"] if name == "rm_helpful" else ["dev3"]) and not list(made.folder.iterdir())


# ------------------------------------------------------------------------------------------------------------------------------------------
# Models behind an endpoint

KEY = "sk-never-to-be-written"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_ENDPOINT_KEY", KEY)
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)


def rewritten(message: str) -> str:
    """What a helpful model says to a cold start's message: the same work with one word in front."""
    solution = text.parse(message.split("Solution:\n")[1])
    return tagged(f"{'我看' if 'Chinese' in message else 'Well'}: {solution.think}", f"\\boxed{{{solution.answer}}}")


def written_down(folder: Path) -> str:
    return "\n".join(file.read_bytes().decode("latin-1") for file in folder.rglob("*") if file.is_file())


def test_a_rewriter_behind_an_endpoint_writes_the_examples(zero: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, right)
    server.says = rewritten
    run = dev1(zero, "rewritten", endpoint=server.url, model="some-model")
    examples = pipeline.read_rows(run.folder / "data_reasoning.jsonl", Example)
    assert run.finished and 4 <= len(examples) == len(server.asked) <= 8
    assert all(text.parse(example.completion).think.startswith(("Well: ", "我看: ")) for example in examples)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers in server.headers)
    assert {asked["model"] for asked in server.asked} == {"some-model"}
    assert len((run.folder / "endpoint.jsonl").read_text(encoding="utf-8").splitlines()) == len(server.asked)
    assert KEY not in written_down(run.folder)
    assert lineage.read(run.folder)["settings"]["endpoint"] == server.url


@pytest.mark.parametrize(("broken", "why"), [
    (401, r"does not answer \(status 401.*after 1 attempts"), (503, r"does not answer \(status 503.*after 4 attempts"),
    (b"<html>", "gave no answer of a model"), (b"", "gave no answer of a model")])
def test_an_endpoint_that_breaks_off_is_named_and_what_it_said_is_kept(broken: int | bytes, why: str, zero: Path, server: Server,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, right)
    name = f"broken {broken!r:.4}"
    server.says = lambda message: rewritten(message) if len(server.asked) <= 3 else broken
    with pytest.raises(R1Error, match=f"^stage dev1: math/[a-z_]+/[^:]+: {server.url} {why}"):
        dev1(zero, name, endpoint=server.url, model="m")
    kept = (zero / name / "endpoint.jsonl").read_text(encoding="utf-8")
    assert len(kept.splitlines()) == 3 and not (zero / name / "data_reasoning.jsonl").exists()
    before, server.says = len(server.asked), rewritten
    run = dev1(zero, name, endpoint=server.url, model="m")                              # the same call, once it answers again
    examples = pipeline.read_rows(run.folder / "data_reasoning.jsonl", Example)
    assert run.finished and len(server.asked) - before == len(examples) - 3             # nothing is asked twice
    assert (run.folder / "endpoint.jsonl").read_text(encoding="utf-8").startswith(kept)
    assert KEY not in written_down(run.folder)


def test_an_endpoint_that_answers_nonsense_is_named(zero: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, right)
    server.says = lambda message: rewritten(message) if len(server.asked) != 2 else "I would rather not."
    cache = zero / "nonsense" / "endpoint.jsonl"
    said = f"stage dev1: math/.*: m gave no rewritten solution .*I would rather not.*remove its line from {re.escape(str(cache))}"
    for _ in range(2):                                                                  # it is not asked again for that either
        with pytest.raises(R1Error, match=said):
            dev1(zero, "nonsense", endpoint=server.url, model="m")
        assert len(server.asked) == len(cache.read_text(encoding="utf-8").splitlines()) == 2
    cache.write_text(cache.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")                # as the message says
    assert dev1(zero, "nonsense", endpoint=server.url, model="m").finished


def two_answers(problem: Problem) -> list[str]:
    return [tagged("I know.", f"good {problem.question}"), tagged("I know.", f"poor {problem.question}")]


def verdict(message: str) -> str:
    """What a judge says who knows good from poor."""
    first, second = message.split("Answer of A:\n")[1].split("\n\nAnswer of B:\n")
    return f"I read both. [[{'A>>B' if first.startswith('good') and second.startswith('poor') else 'B>>A'}]]"


def test_a_judge_behind_an_endpoint_decides_what_is_chosen(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, two_answers)
    server.says = verdict
    stage = stages.configure("rm_helpful", profile="smoke", settings={"problems": 5, "endpoint": server.url, "model": "m"})[0]
    made = job("rm_helpful", tmp_path)
    pairs = stage.judged(made)
    assert len(pairs) == 5 and all((pair.chosen[:4], pair.rejected[:4], pair.gap) == ("good", "poor", 2.0) for pair in pairs)
    assert len(server.asked) == 5 * 4                                                   # four askings a pair, in both orders
    assert stage.judged(made) == pairs and len(server.asked) == 20                      # and never again
    assert len((made.folder / "endpoint.jsonl").read_text(encoding="utf-8").splitlines()) == 20
    assert KEY not in written_down(tmp_path) and server.headers[0][1]["Authorization"] == f"Bearer {KEY}"


def test_a_judge_that_does_not_decide_is_named(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, two_answers)
    stage = stages.configure("rm_helpful", profile="smoke", settings={"problems": 5, "endpoint": server.url, "model": "m"})[0]
    made = job("rm_helpful", tmp_path)
    server.says = lambda message: verdict(message) if len(server.asked) <= 6 else 401
    with pytest.raises(R1Error, match="^(general|safety)/.*does not answer .status 401"):
        stage.judged(made)
    server.says = lambda message: verdict(message) if len(server.asked) <= 9 else "I like both."
    with pytest.raises(R1Error, match="^(general|safety)/.*m gave no verdicts: 'I like both.' .*remove its line from .*endpoint.jsonl"):
        stage.judged(made)
    cache, server.says = made.folder / "endpoint.jsonl", verdict
    kept = cache.read_text(encoding="utf-8").splitlines()
    assert len(kept) == 6 + 2 + 1
    cache.write_text("\n".join(kept[:-1]) + "\n", encoding="utf-8")
    assert len(stage.judged(made)) == 5 and len(server.asked) == 20 + 2                 # the one that failed, the one that said nothing


def test_without_an_endpoint_nobody_is_asked(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    gold: dict[str, str] = {}

    def answers(problem: Problem) -> list[str]:
        gold[text.chat_prompt(problem.question)] = problem.gold
        return [tagged("I know.", problem.gold), tagged("I know.", "I do not know.")]

    answer_with(monkeypatch, answers)
    made, stage = job("rm_helpful", tmp_path), stages.configure("rm_helpful", profile="smoke", settings={"problems": 40, "noise": 0.0})[0]
    pairs = stage.judged(made)
    assert pairs and all(pair.chosen == gold[pair.prompt] for pair in pairs)
    assert not server.asked and not list(made.folder.iterdir())
