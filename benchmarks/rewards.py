"""How fast answers are judged, beside math-verify as it comes, and whether the golds of a data set equal themselves.

    python benchmarks/rewards.py [--json FILE] [--repeats 5]
    python benchmarks/rewards.py --gsm8k gsm8k_train.jsonl

One core. Every repetition has problems of its own, so that nothing is judged from memory but what a group of eight shares: its gold.
"""

import argparse
import json
import logging
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import math_verify  # noqa: E402

from r1lib import machine  # noqa: E402
from r1lib.rewards import accuracy_reward, attacks, grade  # noqa: E402

GROUP = 8
PEER = f"math-verify {version('math-verify')}"
MACHINE = machine.describe()                                      # before this process is confined to one core
Judged = tuple[str, str, bool]                                    # gold, answer, whether it is right


def integers(seed: int, problems: int = 125) -> list[Judged]:
    """Groups of eight answers to problems with whole numbers: right and wrong in equal parts, in the ways people write them."""
    chance, pairs = random.Random(seed), []
    for _ in range(problems):
        gold = chance.randrange(-1000, 10**chance.randrange(2, 7))
        wrong = (gold + 1, -gold - 1, gold * 10 + 3, gold + 100)
        forms = ("{}", "{:,}", "${}$", "x = {}")
        pairs += [(str(gold), form.format(gold), True) for form in forms]
        pairs += [(str(gold), form.format(other), False) for form, other in zip(forms, wrong, strict=True)]
    return pairs


def symbols(seed: int, problems: int = 60) -> list[Judged]:
    """Groups of eight answers to problems with anything but numbers: two written like the gold, two equal to it, four wrong."""
    chance, pairs = random.Random(seed), []
    for number in range(problems):
        (a, b), c = chance.sample(range(2, 60), 2), chance.choice([2, 3, 5, 6, 7, 10, 11, 13])
        values = {"a": a, "b": b, "c": c, "aac": a * a * c, "ac": a * c, "bbc": b * b * c, "sum": a + b, "product": a * b, "next": a + 1,
                  "odd": 2 * a + 1, "odder": 2 * a + 3, "twice": 2 * a, "thrice": 3 * a, "even": 2 * c, "near": f"{a * c**0.5:.6f}"}
        gold, *answers = (_filled(form, values) for form in _FAMILIES[number % len(_FAMILIES)])
        pairs += [(gold, answer, place < 4) for place, answer in enumerate([gold, *answers])]
    return pairs


def _filled(form: str, values: dict[str, object]) -> str:
    return re.sub("<([a-z]+)>", lambda name: str(values[name[1]]), form)


# The gold; then written like it, equal to it twice, and wrong four times.
_FAMILIES = (
    (r"<a>\sqrt{<c>}", r"$<a> \sqrt{<c>}$", r"\sqrt{<aac>}", "<a>*sqrt(<c>)",
     r"<next>\sqrt{<c>}", r"\sqrt{<ac>}", r"<a>+\sqrt{<c>}", "<near>"),
    ("x^2+<sum>x+<product>", "x^{2} + <sum>x + <product>", "(x+<a>)(x+<b>)", "x(x+<sum>)+<product>",
     "(x-<a>)(x+<b>)", "x^2+<product>x+<sum>", "(x+<a>)^2", "x^2+<sum>x"),
    (r"\frac{<odd>\pi}{<even>}", r"\dfrac{<odd> \pi}{<even>}", "<odd>pi/<even>", r"\frac{<odd>}{<even>}\pi",
     r"\frac{\pi}{<even>}", r"\frac{<odder>\pi}{<even>}", "<near>", r"\frac{<odd>}{<even>}"),
    ("(<a>,-<b>)", r"\left( <a>, -<b> \right)", "(x,y) = (<a>, -<b>)", "(<twice>/2, -<b>.0)",
     "(-<b>,<a>)", "[<a>,-<b>]", "(<a>,<b>)", "(<a>,-<b>,0)"),
    ("[-<a>,<b>)", r"\left[-<a>, <b>\right)", r"-<a> \le x < <b>", r"x \in [-<a>, <b>)",
     "(-<a>,<b>)", "[-<a>,<b>]", "x < <b>", "[<a>,<b>)"),
    ("-<a>,<b>", "-<a>, <b>", "<b>, -<a>", "x = <b> or x = -<a>", "<a>,<b>", "-<a>", "-<a>,<b>,0", "(-<a>,<b>)"),
    ("<a>+<b>i", "<a> + <b>i", "<b>i+<a>", "i(<b>-<a>i)", "<a>-<b>i", "<b>+<a>i", "<sum>", "<a>+<b>"),
    ("y = <a>x+<b>", "y=<a>x + <b>", "<a>x+<b>", "<a>x - y + <b> = 0", "y = <b>x+<a>", "y = <a>x-<b>", "x = <a>y+<b>", "<a>x+<b>=0"),
    (r"\frac{<a>x+<b>}{<c>}", r"\frac{<a>x + <b>}{<c>}", "(<a>x+<b>)/<c>", r"\frac{<b>}{<c>}+\frac{<a>}{<c>}x",
     r"<a>x+\frac{<b>}{<c>}", r"\frac{<b>x+<a>}{<c>}", r"\frac{<a>x+<b>}{<even>}", "<a>x+<b>"),
    (r"\begin{pmatrix} <a> \\ -<b> \end{pmatrix}", r"\begin{pmatrix}<a>\\-<b>\end{pmatrix}", r"\begin{bmatrix} <a> \\ -<b> \end{bmatrix}",
     r"\begin{pmatrix} <thrice>/3 \\ -<b> \end{pmatrix}", r"\begin{pmatrix} -<b> \\ <a> \end{pmatrix}", "(<a>,-<b>)",
     r"\begin{pmatrix} <a> & -<b> \end{pmatrix}", r"\begin{pmatrix} <a> \\ <b> \end{pmatrix}"),
    ("<a>e^{<b>x}", "<a> e^{<b> x}", "<a>exp(<b>x)", "<a>(e^{x})^{<b>}", "<b>e^{<a>x}", "<a>e^{-<b>x}", "e^{<b>x}", "<a>x^{<b>}"),
    (r"<a>+<b>\sqrt{<c>}", r"<a> + <b>\sqrt{<c>}", r"<b>\sqrt{<c>}+<a>", r"<a>+\sqrt{<bbc>}",
     r"<a>-<b>\sqrt{<c>}", r"<b>+<a>\sqrt{<even>}", r"<sum>\sqrt{<c>}", "<near>"),
)


def ours(pairs: list[Judged]) -> list[bool]:
    """Whole completions through the reward, a group at a time, as training does it."""
    thinking = "Let me see what the question asks for, and check it once more. " * 4
    verdicts = []
    for start in range(0, len(pairs), GROUP):
        group = pairs[start:start + GROUP]
        completions = [f"<think>\n{thinking}\n</think>\n<answer>{answer}</answer>" for _, answer, _ in group]
        verdicts += [reward == 1.0 for reward in accuracy_reward(completions, [gold for gold, _, _ in group])]
    return verdicts


def peers(pairs: list[Judged]) -> list[bool]:
    """The bare answers, read and compared by math-verify; each gold is read once."""
    verdicts, read = [], {}
    for gold, answer, _ in pairs:
        if gold not in read:
            read = {gold: math_verify.parse(f"${gold}$")}
        verdicts.append(math_verify.verify(read[gold], math_verify.parse(answer if answer.startswith("$") else f"${answer}$")))
    return verdicts


def measure(what: str, make: Callable[[int], list[Judged]], repeats: int) -> dict:
    """The median rate of both, and how often each is mistaken."""
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    mistakes: Counter[str] = Counter()
    for repeat in range(repeats + 1):                               # the first one warms up
        pairs = make(repeat)
        for name, judge in (("ours", ours), ("peer", peers)):
            started = time.perf_counter()
            verdicts = judge(pairs)
            rates[name].append(len(pairs) / (time.perf_counter() - started))
            mistakes[name] += sum(verdict != right for verdict, (_, _, right) in zip(verdicts, pairs, strict=True))
    mine, peer = (statistics.median(rates[name][1:]) for name in ("ours", "peer"))
    print(f"{what:28} {mine:10,.0f} answers/s   {PEER} {peer:8,.0f}   x{mine / peer:.1f}   "
          f"mistaken: {mistakes['ours']} and {mistakes['peer']} of {len(pairs) * (repeats + 1)}")
    return record(what, mine, peer, "answers/s")


def record(what: str, mine: float, peer: float | None, unit: str) -> dict:
    return {"what": what, "ours": mine, "peer": peer, "peer_name": PEER if peer else None, "ratio": mine / peer if peer else None,
            "unit": unit,
            "machine": f"one core of {MACHINE.cpu}, {MACHINE.cores} cores, {MACHINE.memory_gb:.0f} GB"}


def hostile() -> dict:
    """The slowest of all attacks, alone with a worker that is running."""
    outcomes = attacks.outcomes(accuracy_reward)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    paid = sum(outcome.reward != 0.0 for outcome in outcomes)
    print(f"{len(outcomes)} hostile answers: {paid} paid, the slowest takes {slowest.seconds:.2f} s "
          f"({slowest.attack.kind}: {slowest.attack.answer[:60]})")
    return record(f"slowest of {len(outcomes)} hostile answers", slowest.seconds, None, "s")


def written(gold: str) -> dict[str, str]:
    """A gold of GSM8K, a whole number with or without commas, in the forms in which people write it."""
    bare = gold.replace(",", "")
    return {
        "plain": gold, "with commas": f"{int(bare):,}", "without commas": bare, "$": f"${gold}", r"\$": rf"\${gold}", ".0": f"{gold}.0",
        ".00": f"{gold}.00", "%": f"{gold}%", r"\%": rf"{gold}\%", "boxed": rf"\boxed{{{gold}}}", "in $": f"${gold}$",
        "in $$": f"$${gold}$$",
        "boxed in $": rf"$\boxed{{{gold}}}$", "full stop": f"{gold}.", "x =": f"x = {gold}", "dollars": f"{gold} dollars"}


def equal_themselves(golds: Iterable[str]) -> Counter[str]:
    """How often a gold does not equal itself in one of these forms, and how often its successor does."""
    failures: Counter[str] = Counter()
    for gold in golds:
        failures.update(name for name, answer in written(gold).items() if not grade(gold=gold, answer=answer))
        successor = str(int(gold.replace(",", "")) + 1)
        failures["its successor"] += sum(grade(gold=gold, answer=answer) for answer in written(successor).values())
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the records there")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gsm8k", type=Path, help="a file of GSM8K: judge its golds against themselves instead")
    arguments = parser.parse_args()
    if arguments.gsm8k:
        rows = map(json.loads, arguments.gsm8k.read_text(encoding="utf-8").splitlines())
        golds = [row["answer"].rsplit("####", 1)[1].strip() for row in rows]
        failures = +equal_themselves(golds)
        print(f"{len(golds)} golds, each in {len(written('1'))} forms and against its successor in as many: "
              f"{sum(failures.values())} mistakes {dict(failures) or ''}")
        return
    logging.disable(logging.CRITICAL)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    records = [measure("whole numbers", integers, arguments.repeats), measure("symbolic", symbols, arguments.repeats), hostile()]
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
