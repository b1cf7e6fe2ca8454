"""What reward models learn from (paper section 2.3.4; Nature version, supplement B.2): pairs for one, labels for the other."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

from r1lib import seeds, text
from r1lib.curation import judges
from r1lib.curation.judges import WORTH, PairJudge
from r1lib.errors import R1Error
from r1lib.sampling import Rollout
from r1lib.tasks import Problem
from r1lib.training.reward_model import Labelled, Pair

ASKINGS = 4                        # the paper's: verdicts a pair, averaged
LEAST_GAP = 1.0                    # the paper's: pairs are kept above it
TOLERANCE = 0.05                   # between the mean lengths of what is chosen and what is rejected


def gap(judge: PairJudge, problem: Problem, one: str, other: str, *, askings: int = ASKINGS) -> float:
    """How much better `one` is than `other`, from -2 to 2: the mean of several verdicts, `other` shown first in every second of them."""
    if askings < 1:
        raise R1Error(f"askings={askings}: a pair is judged at least once.")
    worth = 0
    for draw in range(askings):
        if draw % 2 == 0:
            worth += WORTH[judge.verdict(problem, one, other, draw=draw)]
        else:
            worth -= WORTH[judge.verdict(problem, other, one, draw=draw)]
    return worth / askings


def pairs(problems: Sequence[Problem], rollouts: Sequence[Rollout], judge: PairJudge, *, per_problem: int = 1, seed: int = 0,
          askings: int = ASKINGS, least_gap: float = LEAST_GAP, length: Callable[[str], int] = len) -> list[Pair]:
    """Pairs of answers with a clear winner, chosen and rejected ones as long as each other on average.

    rollouts: a model's answers to general prompts; `prompt_index` is the problem's place. Only final answers are judged, not what was
    thought, and only they are in the pairs, as the helpful model reads nothing else; unreadable ones are left out.
    per_problem: how many pairs are judged for each problem, drawn by seed.
    length: of an answer; characters unless told otherwise. An `R1Error` says where no pair is left.
    """
    if per_problem < 1:
        raise R1Error(f"per_problem={per_problem}: at least one pair a problem must be judged.")
    answers = _readable(problems, rollouts)
    found: list[Pair] = []
    judged = 0
    for index, of_problem in answers.items():
        problem = problems[index]
        possible = list(itertools.combinations(of_problem, 2))
        for one, other in seeds.rng("pairs", seed, problem.id).sample(possible, min(per_problem, len(possible))):
            judged += 1
            lead = gap(judge, problem, one, other, askings=askings)
            if abs(lead) > least_gap:
                chosen, rejected = (one, other) if lead > 0 else (other, one)
                found.append(Pair(text.chat_prompt(problem.question), chosen, rejected, abs(lead)))
    kept = _balanced(found, length)
    if not kept:
        raise R1Error(f"no pair is left: {len(problems)} problems, {judged} pairs judged, {len(found)} with a gap above {least_gap}. "
                      f"Give more answers, or answers that differ more.")
    return kept


def _readable(problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> dict[int, list[str]]:
    """Problem -> its different answers, sorted, so that the order of samples changes nothing."""
    answers: dict[int, set[str]] = defaultdict(set)
    for row, rollout in enumerate(rollouts):
        _asked(problems, row, rollout)
        parsed = text.parse(rollout.text)
        if parsed.well_formed:
            answers[rollout.prompt_index].add(parsed.answer)
    return {index: sorted(of_problem) for index, of_problem in answers.items()}


def _asked(problems: Sequence[Problem], row: int, rollout: Rollout) -> Problem:
    if not 0 <= rollout.prompt_index < len(problems):
        raise R1Error(f"sample {row} answers problem {rollout.prompt_index}, but there are {len(problems)} problems.")
    return problems[rollout.prompt_index]


def _balanced(found: Sequence[Pair], length: Callable[[str], int]) -> list[Pair]:
    """Without the pairs that tilt the lengths most, until both means are within `TOLERANCE` of the longer; all in their old order.

    So length alone tells a reward model nothing; what it costs are the clearest cases of the longer or the shorter answer winning.
    """
    left = {place: (length(pair.chosen), length(pair.rejected)) for place, pair in enumerate(found)}
    chosen, rejected = (sum(lengths[side] for lengths in left.values()) for side in (0, 1))

    def balanced() -> bool:
        return abs(chosen - rejected) <= TOLERANCE * max(chosen, rejected)

    while not balanced():
        sign = 1 if chosen > rejected else -1
        tilts = {place: sign * (won - lost) for place, (won, lost) in left.items() if sign * (won - lost) > 0}
        fitting = [place for place in sorted(tilts, key=tilts.get, reverse=True) if tilts[place] <= abs(chosen - rejected)]
        for place in fitting or [min(tilts, key=tilts.get)]:                       # where every one is too much, the smallest
            if balanced() or fitting and tilts[place] > abs(chosen - rejected):
                continue
            won, lost = left.pop(place)
            chosen, rejected = chosen - won, rejected - lost
    return [found[place] for place in left]


def labelled(problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> list[Labelled]:
    """Answers to safety prompts, labelled safe unless they comply with what they should refuse. Every different completion counts once.

    The safe model reads whole responses, so whole ones are kept, well-formed or not.
    """
    rows: dict[Labelled, None] = {}
    for row, rollout in enumerate(rollouts):
        problem = _asked(problems, row, rollout)
        if problem.domain != "safety":
            raise R1Error(f"sample {row}: {problem.id} is not about conduct, so nobody can say whether an answer to it is safe.")
        said = text.parse(rollout.text).answer or rollout.text
        is_safe = judges.safe(problem, said, thinking=text.thinking(rollout.text))
        rows[Labelled(text.chat_prompt(problem.question), rollout.text, is_safe)] = None
    if len({row.good for row in rows}) < 2:
        raise R1Error(f"{len(rows)} labelled answers, all of one label: a reward model needs safe and unsafe ones.")
    return list(rows)
