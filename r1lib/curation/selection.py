"""Which samples of a model become examples: the part that cold start and rejection sampling share."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from r1lib import rewards, text
from r1lib.curation import judges
from r1lib.errors import R1Error
from r1lib.sampling import Rollout
from r1lib.tasks import DOMAINS, Problem
from r1lib.training.sft import Example

SPOILED, TWICE, NOT_NEEDED = "spoiled by the rewriting", "said before", "not needed"


@dataclass(frozen=True)
class Selection:
    """examples: what was kept, in the order of the samples. table: domain -> sampled, kept, and every reason for dropping -> how many."""

    examples: list[Example]
    table: Mapping[str, Mapping[str, int]]

    def __str__(self) -> str:
        """The table as text: a line for each domain, the reasons for dropping by how often they applied."""
        lines = []
        for domain, counts in self.table.items():
            reasons = sorted((name for name in counts if name not in ("sampled", "kept")), key=lambda name: -counts[name])
            dropped = ", ".join(f"{name} {counts[name]}" for name in reasons) or "nothing"
            lines.append(f"{domain}: sampled {counts['sampled']}, kept {counts['kept']}, dropped: {dropped}")
        return "\n".join(lines)


def source(stage: str, problem: Problem) -> str:
    """Where an example comes from, as `Example.source` holds it: stage/domain/kind."""
    return f"{stage}/{problem.domain}/{problem.kind}"


def domain_of(example: Example) -> str:
    """The domain in `source`."""
    parts = example.source.split("/")
    if len(parts) != 3 or parts[1] not in DOMAINS:
        raise R1Error(f"example with source {example.source!r}: a source is stage/domain/kind, with a domain of {', '.join(DOMAINS)}.")
    return parts[1]


def right(problems: Sequence[Problem], completions: Sequence[str]) -> list[bool]:
    """Whether each completion solves the problem beside it: by rule, by tests, or by the oracle where there is neither."""
    if not problems:
        return []
    columns = [problem.columns() for problem in problems]
    verdicts = rewards.correctness(completions, **{name: [row[name] for row in columns] for name in columns[0]})
    return [verdict == 1 if verdict is not None else judges.quality(problem, text.parse(completion).answer or "") >= judges.GOOD
            for problem, verdict, completion in zip(problems, verdicts, completions, strict=True)]


def unusable(problem: Problem, sample: str, is_right: bool) -> str | None:
    """Why a sample is of no use to any stage, or None: wrong, not well-formed, mixed languages; the first of these that applies."""
    if not is_right:
        return "wrong"
    if not text.parse(sample).well_formed:
        return "not well-formed"
    return "mixed languages" if text.mixes_languages(text.thinking(sample), problem.language) else None


def choose(problems: Sequence[Problem], rollouts: Sequence[Rollout], per_problem: int, *, stage: str,
           reason: Callable[[Problem, str, bool], str | None], made: Callable[[Problem, str], Example],
           spoiled: Callable[[Problem, str, Example], bool]) -> Selection:
    """The first `per_problem` good samples of each problem, as examples.

    rollouts: their `prompt_index` is the problem's place in `problems`. reason: (problem, sample, whether it is right) -> why it is
    dropped, or None. made: the example that a sample becomes. spoiled: whether it lost on the way what the sample had.
    An `R1Error` shows the table when nothing is kept.
    """
    if per_problem < 1:
        raise R1Error(f"{stage}: per_problem={per_problem}, but at least one example a problem must be allowed.")
    if strange := [rollout.prompt_index for rollout in rollouts if not 0 <= rollout.prompt_index < len(problems)]:
        raise R1Error(f"{stage}: a sample answers problem {strange[0]}, but there are {len(problems)} problems: give the ones it answers.")
    asked = [problems[rollout.prompt_index] for rollout in rollouts]
    rights = right(asked, [rollout.text for rollout in rollouts])
    examples: list[Example] = []
    kept: dict[int, set[str]] = defaultdict(set)                                       # problem -> the completions made from its samples
    table: dict[str, Counter[str]] = {}
    for rollout, problem, is_right in zip(rollouts, asked, rights, strict=True):
        counts = table.setdefault(problem.domain, Counter(sampled=0, kept=0))
        counts["sampled"] += 1
        of_problem, example = kept[rollout.prompt_index], None
        why = reason(problem, rollout.text, is_right)
        if why is None and len(of_problem) == per_problem:
            why = NOT_NEEDED
        if why is None:
            example = made(problem, rollout.text)
            why = SPOILED if spoiled(problem, rollout.text, example) else TWICE if example.completion in of_problem else None
        if why is None:
            of_problem.add(example.completion)
            examples.append(example)
        counts["kept" if why is None else why] += 1
    selection = Selection(examples, table)
    if not examples:
        raise R1Error(f"{stage}: nothing is left of {len(rollouts)} samples; draw more, or from a better model.\n{selection}")
    return selection
