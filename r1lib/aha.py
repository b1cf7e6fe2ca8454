"""The aha moment, measured: which reflective words there are, whether anything is looked at twice, and whether it helps.

Words are what the paper counts. They can be empty, so beside them stands a detector that reads only the numbers of an answer: a calculation
done again or undone, a candidate tried after one that failed. And because answers that look twice are those that had a reason to, no
comparison of answers says what looking is good for; `probe` makes the model go on from a part of its own answer, and compares the two ends.

Made for the miniature's mathematics; other problems have no looks.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from r1lib import evaluation, findings, lineage, paths, profiles, rewards, stages, tasks, text
from r1lib.evaluation import Completion, Evaluation, Interval, opposite
from r1lib.findings import Findings
from r1lib.policy import Policy
from r1lib.rewards import accuracy
from r1lib.sampling import Sampler, SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.seeds import derive, rng
from r1lib.tasks import Problem, Voice, search

SEARCHES = tuple(kind.name for kind in search.KINDS)
CALCULATIONS = tuple(kind for kind in tasks.EVALUATION_SETS["math"][0] if kind not in SEARCHES)

# ------------------------------------------------------------------------------------------------------------------------------------------
# Words

# What the miniature says where others say "wait": verdicts on a candidate, and a new attempt. None of these is among the paper's ten.
PHRASES = {
    "try": r"\b(?:now )?try\b|试", "maybe": r"\bmaybe\b|也许|换成", "not 24": r"\bnot -?\d|不是-?\d", "no": r"\bno\b[.,]|不行",
    "too small": r"\btoo small\b|太小", "too large": r"\btoo large\b|太大",
    "yes, right": r"\byes\b|\bright\b|\bthat is it\b|对了|就是它|，对",
}


def word_rates(answers: Sequence[str]) -> dict[str, float]:
    """How often each reflective word (the paper's ten, then the Chinese ones) stands in an answer, on average."""
    found = Counter(match.group().lower() for answer in answers for match in text.reflections(answer))
    return {word: found[word] / max(len(answers), 1) for word in (*text.REFLECTION_WORDS, *text.REFLECTION_WORDS_ZH)}


def phrase_rates(answers: Sequence[str]) -> dict[str, float]:
    """The same for the miniature's own `PHRASES`, in the thinking only."""
    thoughts = [text.thinking(answer) for answer in answers]
    return {name: sum(len(re.findall(pattern, think, re.IGNORECASE)) for think in thoughts) / max(len(answers), 1)
            for name, pattern in PHRASES.items()}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Structure

class Calculation(NamedTuple):
    """A calculation that an answer writes down, as it is written: left "3*27", value 74; start and end are its place in the answer."""

    left: str
    value: int
    start: int
    end: int


class Look(NamedTuple):
    """A second look. stood: the result that would have been the answer without it; at: where in the answer the look begins."""

    stood: str
    at: int


# 12+7=19, and with the values that it runs through, (3+7-5)*8: 10, 5, 40
_CALCULATION = re.compile(r"(?<![\d)*/+-])(\(*\d+\)*(?:[ ]?[-+*/][ ]?\(*\d+\)*)+)[ ]?(?:=[ ]?|[:：][ ]?(?:-?\d+[,，][ ]?)*)(-?\d+)(?!\d)")
_BACK = {"+": "-", "-": "+", "*": "/", "/": "*"}


def calculations(answer: str) -> list[Calculation]:
    """The calculations in the thinking of an answer, in order, right or not."""
    think = text.thinking(answer)
    start = answer.find(think)
    return [Calculation(match[1].replace(" ", ""), int(match[2]), start + match.start(), start + match.end())
            for match in _CALCULATION.finditer(think)]


def looks(problem: Problem, answer: str) -> list[Look]:
    """Every second look that an answer takes, told by its numbers alone, whatever words stand around them.

    In a search: a candidate that is tried after one whose value, as written, is not the one asked for. In a calculation: its first line
    done again. In an equation also: the last line undone, as by putting the result in.
    """
    done = calculations(answer)
    found = []
    for before, now in zip(done, done[1:], strict=False):
        if problem.kind in SEARCHES:
            looked = before.value != _wanted(problem)
        elif problem.kind in CALCULATIONS:
            looked = now.left == done[0].left or (problem.kind == "equation" and _undoes(now, before))
        else:
            looked = False
        if looked:
            line = answer.find("\n", before.end, now.start)
            found.append(Look(_as_answer(problem, before), line if line >= 0 else before.end))
    return found


def _wanted(problem: Problem) -> int:
    """The value that a candidate of a search must have, from the gold answer."""
    numbers = [int(number) for number in re.findall(r"\d+", problem.gold)]
    return numbers[0] * numbers[1] if problem.answer_type == "pair" else numbers[0]


def _undoes(later: Calculation, earlier: Calculation) -> bool:
    """Whether 13*3 takes back 39/3=13, whatever it comes to."""
    did, does = (re.fullmatch(r"(\d+)([-+*/])(\d+)", step.left) for step in (earlier, later))
    return bool(did and does) and does[2] == _BACK[did[2]] and sorted((does[1], does[3])) == sorted((str(earlier.value), did[3]))


def _as_answer(problem: Problem, calculation: Calculation) -> str:
    """What would have been answered, had the calculation been the last one."""
    if problem.kind not in SEARCHES:
        return str(calculation.value)
    return calculation.left.replace("*", " and ") if problem.answer_type == "pair" else calculation.left


def written(per_manner: int, *, seed: int = 0) -> list[tuple[Problem, str, bool]]:
    """Answers as the corpus has them, of which it is known whether they look twice: (problem, answer, whether it does).

    per_manner: for each kind and manner. A search that finds its answer at the first try has not looked twice.
    """
    random, known = rng("written", seed), []
    for kind in (tasks.KINDS[name] for name in (*CALCULATIONS, *SEARCHES)):
        for manner in kind.manners:
            for _ in range(per_manner):
                language = random.choice(("en", "zh"))
                problem = tasks.draw(kind, random, random.choice(tasks.LEVELS), language, "train")
                work = kind.work(problem, manner, Voice(random, language))
                tries = sum(any(map(str.isdigit, line)) for line in work.think.split("\n"))
                known.append((problem, f" <think>\n{work.think}\n</think>\n<answer>{work.answer}</answer>",
                              manner == "check" or (manner == "retry" and tries > 1)))
    return known


# ------------------------------------------------------------------------------------------------------------------------------------------
# Does it help? What answers say

def with_and_without(made: Evaluation, marked: Callable[[Problem, Completion], bool]) -> dict[str, np.ndarray]:
    """Accuracy of the answers that are marked and of those that are not, each [problems]; NaN where a problem has no such answer.

    "difference" compares them on the same problem, and so at the same kind and level: NaN where a problem has not both. That an answer is
    marked may still have a reason of its own, so the difference is no effect.
    """
    marks = np.array([marked(problem, c) for problem, c in made.pairs()], dtype=float).reshape(-1, made.samples)
    right = np.array([c.accuracy == 1 for c in made.completions], dtype=float).reshape(-1, made.samples)
    found = {"with": _quotient((right * marks).sum(1), marks.sum(1)),
             "without": _quotient((right * (1 - marks)).sum(1), (1 - marks).sum(1))}
    return {**found, "difference": found["with"] - found["without"]}


def _quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


CHANGES = ("right, kept", "right to wrong", "wrong to right", "wrong, kept")


def changes(made: Evaluation) -> dict[str, np.ndarray]:
    """What became of the result between the first look and the end: each of `CHANGES` -> [problems], NaN where no answer looked twice.

    Shares are of a problem's answers that did. "wrong, kept": wrong before and wrong at the end, by whatever way.
    """
    counts = {name: np.zeros(len(made.problems)) for name in CHANGES}
    for number, (problem, completion) in enumerate(made.pairs()):
        if seen := looks(problem, completion.text):
            before = accuracy.right(problem.answer_type, gold=problem.gold, answer=seen[0].stood)
            counts[CHANGES[2 * (not before) + (before == (completion.accuracy != 1))]][number // made.samples] += 1
    whole = sum(counts.values())
    return {name: _quotient(count, whole) for name, count in counts.items()}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Does it help? What happens when the model is stopped, or made to go on

@dataclass(frozen=True)
class Probe:
    """An answer as it was, and as it became when the model went on from a part of it, which `after` begins with."""

    problem: Problem
    before: str
    after: str
    before_right: bool
    after_right: bool


_ANSWER_TOKENS = 24                                # enough to write the answer when the thinking is over
Cut = Callable[[Problem, str], str | None]         # what is left of an answer, and what is put in its mouth; None: this one is left alone


def one_more_check(problem: Problem, answer: str) -> str | None:
    """A thinking that is finished is opened again with "Wait," (budget forcing, arXiv 2501.19393)."""
    parsed = text.parse(answer)
    return f"{answer[:answer.index('</think>')].rstrip()}\nWait," if parsed.well_formed else None


def stopped_before_looking(problem: Problem, answer: str) -> str | None:
    """The thinking ends where the first second look would begin, and an answer is asked for."""
    seen = looks(problem, answer)
    return f"{answer[:seen[0].at].rstrip()}\n</think>\n<answer>" if seen else None


def stopped_after(lines: int) -> Cut:
    """A cut that ends the thinking after so many calculations; answers that have no more of them are left alone."""
    def cut(problem: Problem, answer: str) -> str | None:
        done = calculations(answer)
        if len(done) <= lines:
            return None
        line = answer.find("\n", done[lines - 1].end, done[lines].start)
        return f"{answer[:line if line >= 0 else done[lines - 1].end].rstrip()}\n</think>\n<answer>"

    return cut


def probe(sampler: Sampler, made: Evaluation, cut: Cut, *, answers: int, max_new_tokens: int, seed: int) -> list[Probe]:
    """Go on from what `cut` leaves of the first `answers` answers to each problem, as the evaluation sampled them, and judge the new ends.

    The model must be the one that was evaluated: then the old end and the new one differ by nothing but the cut.
    """
    chosen = [(problem, completion, prefix) for number, (problem, completion) in enumerate(made.pairs())
              if number % made.samples < answers and (prefix := cut(problem, completion.text)) is not None]
    if not chosen:
        return []
    prompts = [made.template.replace("{question}", problem.question) + prefix for problem, _, prefix in chosen]
    settings = SamplingSettings(**{**made.settings, "max_new_tokens": max_new_tokens})
    rollouts = sampler.sample(prompts, 1, settings, seed=derive("probe", seed))
    ends = [prefix + rollout.text for (_, _, prefix), rollout in zip(chosen, rollouts, strict=True)]
    columns = [problem.columns() for problem, _, _ in chosen]
    verdicts = rewards.correctness(ends, **{name: [row[name] for row in columns] for name in columns[0]})
    return [Probe(problem, completion.text, end, completion.accuracy == 1, verdict == 1)
            for (problem, completion, _), end, verdict in zip(chosen, ends, verdicts, strict=True)]


def effect(probes: Iterable[Probe]) -> dict[str, Interval]:
    """Accuracy "before" and "after", and the "difference", paired: over problems, of which each counts alike."""
    by_problem: dict[str, list[tuple[float, float]]] = {}
    for one in probes:
        by_problem.setdefault(one.problem.id, []).append((one.before_right, one.after_right))
    means = np.array([np.mean(pairs, axis=0) for pairs in by_problem.values()]) if by_problem else np.full((1, 2), np.nan)
    return evaluation.bootstrap({"before": means[:, 0], "after": means[:, 1], "difference": means[:, 1] - means[:, 0]})


def by_tries(sampler: Sampler, made: Evaluation, tries: Sequence[int], *, answers: int, seed: int) -> dict[int | None, Interval]:
    """How often searches come out right when the model must answer after so many tries; None: when it is not stopped.

    tries: at most so many, each a key of what is returned. Answers that need fewer stay as they are.
    """
    chosen = [i for i, problem in enumerate(made.problems) if problem.kind in SEARCHES]
    right = np.array([c.accuracy == 1 for c in made.completions], dtype=float).reshape(-1, made.samples)[:, :answers]
    curve: dict[int | None, Interval] = {None: evaluation.bootstrap({"": right[chosen].mean(axis=1)})[""]}
    for most in tries:
        cut, stopped = stopped_after(most), right.copy()
        places = [divmod(number, made.samples) for number, (problem, c) in enumerate(made.pairs())
                  if number % made.samples < answers and problem.kind in SEARCHES and cut(problem, c.text) is not None]
        ends = probe(sampler, made, lambda problem, answer, cut=cut: cut(problem, answer) if problem.kind in SEARCHES else None,
                     answers=answers, max_new_tokens=_ANSWER_TOKENS, seed=derive("tries", most, seed))
        for place, end in zip(places, ends, strict=True):
            stopped[place] = end.after_right
        curve[most] = evaluation.bootstrap({"": stopped[chosen].mean(axis=1)})[""]
    return curve


# ------------------------------------------------------------------------------------------------------------------------------------------
# Token by token

OPENERS = ("Wait", "But", "等等")                 # what a line begins with that looks again; each is known by its first token


class Token(NamedTuple):
    """A token of an answer, and what a model thought just before it.

    text: empty for a part of a character, which the last part shows whole. probability: of this token. entropy: in nats.
    opener: the probability that one of the openers would come here, whatever did come.
    """

    text: str
    probability: float
    entropy: float
    opener: float


@torch.inference_mode()
def inspect(policy: Policy, prompt: str, answer: str, *, openers: Sequence[str] = OPENERS) -> list[Token]:
    """What a policy thinks of an answer, whoever wrote it: one forward pass over prompt and answer."""
    (before,), (ids,) = policy.encode([prompt]), policy.encode([answer])
    watched = sorted({row[0] for row in policy.encode(list(openers))})
    device = next(policy.model.parameters()).device
    logits = policy.model(input_ids=torch.tensor([before + ids], device=device), logits_to_keep=len(ids) + 1, use_cache=False).logits
    logps = torch.log_softmax(logits[0, :-1].float(), dim=-1)                              # [tokens, vocabulary]
    chosen = logps.gather(1, torch.tensor(ids, device=device)[:, None])[:, 0].exp()
    entropy = -(logps.exp() * logps).sum(-1)
    opening = logps[:, watched].exp().sum(-1)
    return [Token(*row) for row in zip(_pieces(policy, ids), chosen.tolist(), entropy.tolist(), opening.tolist(), strict=True)]


def _pieces(policy: Policy, ids: Sequence[int]) -> list[str]:
    """The text of each token; a character that several tokens make stands at the last of them."""
    pieces, waiting = [], []
    for token in ids:
        waiting.append(token)
        piece = policy.tokenizer.decode(waiting)
        whole = not piece.endswith("\ufffd") or len(waiting) == 4                          # no character has more than four bytes
        pieces.append(piece if whole else "")
        waiting = [] if whole else waiting
    return pieces


PLACES = ("after a miss", "after a hit", "elsewhere")
_PLACE_OF = {False: 0, True: 1, None: 2}         # whether the line before held a hit, None without a candidate


def openings(policy: Policy, made: Evaluation, answers: int) -> dict[str, np.ndarray]:
    """How probable an opener is at the beginning of a line, by what the line before it held: each of `PLACES` -> [searches].

    Of each search among an evaluation's problems, the mean over the first `answers` answers whose thinking can be read, NaN where there is
    no such place. A miss is a candidate whose value, as written, is not the one asked for. The policy need not be the one that answered.
    """
    found: dict[str, dict[str, list[float]]] = {place: {} for place in PLACES}
    for number, (problem, completion) in enumerate(made.pairs()):
        if problem.kind not in SEARCHES or number % made.samples >= answers:
            continue
        means = [found[place].setdefault(problem.id, []) for place in PLACES]
        if text.parse(completion.text).think is None:
            continue
        hits = {completion.text.count("\n", 0, step.start): step.value == _wanted(problem) for step in calculations(completion.text)}
        line = 0
        tokens = inspect(policy, made.template.replace("{question}", problem.question), completion.text)
        for before, token in zip(tokens, tokens[1:], strict=False):
            line += before.text.count("\n")
            if before.text.endswith("\n"):
                means[_PLACE_OF[hits.get(line - 1)]].append(token.opener)
    return {place: np.array([np.mean(values) if values else np.nan for values in of_place.values()]) for place, of_place in found.items()}


# ------------------------------------------------------------------------------------------------------------------------------------------
# What the ledger reads

# name -> (the cut, answers of each problem, how many tokens may follow; None: as many as the whole answer was allowed)
PROBES: Mapping[str, tuple[Cut, int, int | None]] = {
    "one more check": (one_more_check, 2, None), "stopped before looking": (stopped_before_looking, 4, _ANSWER_TOKENS)}


def answers_of(stage: str, *, profile: str, runs: Path | None = None) -> Evaluation:
    """The evaluation of the base or of R1-Zero on the math set that everything here is read from, made if it is not there."""
    return stages.evaluation(stage, profile=profile, folder=(runs or paths.runs(profile)) / stage)


def probes(*, profile: str, seed: int = 0, runs: Path | None = None) -> dict[str, list[Probe]]:
    """R1-Zero made to check once more, and stopped before it looks: name -> probes."""
    runs, made = runs or paths.runs(profile), answers_of("zero", profile=profile, runs=runs)
    sampler = TorchSampler(Policy.load(runs / "zero" / "model", device=profiles.get(profile).device))
    return {name: probe(sampler, made, cut, answers=answers, max_new_tokens=tokens or made.settings["max_new_tokens"],
                        seed=derive(name, seed))
            for name, (cut, answers, tokens) in PROBES.items()}


def measure(*, profile: str, seed: int = 0, runs: Path | None = None, probed: Mapping[str, Sequence[Probe]] | None = None) -> Findings:
    """Reflection before and after R1-Zero, and what it is good for; shares from 0 to 1, intervals over problems, all on the math set.

    probed: what `probes` gave, if that has been done already. Words are counted as the paper counts them (Nature, Extended Data Fig. 1).
    Kept as findings/aha.json beside the stages.
    """
    chosen, runs = profiles.get(profile), runs or paths.runs(profile)
    folders = {"base": stages.base_folder(chosen.base), "zero": runs / "zero" / "model"}
    made_from = {"weights": {name: lineage.weights_sha256(folder) for name, folder in folders.items()},
                 "samples": chosen.evaluation_samples, "problems": chosen.evaluation_problems}
    return findings.kept("aha", lambda: _measured(profile, seed, runs, probed), runs=runs, seed=seed, made_from=made_from,
                         notebook="05_the_aha_moment")


def _measured(profile: str, seed: int, runs: Path, probed: Mapping[str, Sequence[Probe]] | None) -> Findings:
    before, after = (answers_of(stage, profile=profile, runs=runs) for stage in ("base", "zero"))
    probed = probed or probes(profile=profile, seed=seed, runs=runs)
    searching = np.array([problem.kind in SEARCHES for problem in after.problems])
    found: Findings = {}
    for name, made in (("base", before), ("zero", after)):
        words = made.measures()["reflection"]
        looked = np.array([bool(looks(problem, c.text)) for problem, c in made.pairs()], dtype=float).reshape(-1, made.samples).mean(1)
        found |= evaluation.bootstrap({f"reflection_{name}": words, f"structural_checks_{name}": looked,
                                       f"search_reflection_{name}": np.where(searching, words, np.nan)})
    ratio = found["reflection_zero"]["value"] / found["reflection_base"]["value"] if found["reflection_base"]["value"] else None
    found["reflection_ratio"] = {"value": ratio, "low": None, "high": None}
    conditional = evaluation.bootstrap(with_and_without(after, lambda _, c: c.reflection > 0))
    became = evaluation.bootstrap(changes(after))
    return found | {
        "accuracy_with_reflection_zero": conditional["with"], "accuracy_without_reflection_zero": conditional["without"],
        "reflection_helps_zero": conditional["difference"],
        "wrong_to_right": became["wrong to right"], "right_to_wrong": became["right to wrong"],
        "forced_wait_gain": effect(probed["one more check"])["difference"],
        "going_on_gain": opposite(effect(probed["stopped before looking"])["difference"])}
