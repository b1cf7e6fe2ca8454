"""The paper's claims as data, each with the rule that judges it.

A claim names its evidence (`ledger` says where that comes from) and a rule. A rule is a pure function of an interval and a sentence that
says the same in words. Few kinds suffice, and all lean to the same side: what an interval does not show is not called reproduced. A number
without an interval is taken as one that could be anything, so it can never say more than "partly".

A rule stands here before the run that it judges, and is not moved afterwards. Those of notebooks 04 to 09 were written when the first
table of all stages was known already, all others before their experiment had been run once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from r1lib import paper
from r1lib.evaluation import Interval, opposite

Verdict = Literal["reproduced", "partly", "not reproduced", "needs a real model", "not measured"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "partly", "not reproduced", "needs a real model", "not measured")
Unit = Literal["points", "share", "times", "tokens", "words", "steps"]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Rules

@dataclass(frozen=True)
class Rule:
    """judge: one interval for each piece of evidence -> verdict. sentence: the same in words, behind "Reproduced if".

    unit: of the first piece of evidence; "points" are differences of shares, which lie between -1 and 1.
    origin: where the paper's side begins. side: on which side of it the paper's claim lies, 1 above and -1 below.
    """

    sentence: str
    judge: Callable[..., Verdict]
    unit: Unit = "points"
    origin: float = 0.0
    side: Literal[1, -1] = 1


SCALE = {"points": 100, "share": 100}              # what is kept as a share is read in percent
WORD = {"share": "%"}


def _worth(least: float, unit: Unit) -> str:
    number, word = SCALE.get(unit, 1) * least, WORD.get(unit, unit)
    return f"{number:g} {word.removesuffix('s') if number == 1 else word}"


def rises(least: float, unit: Unit = "points") -> Rule:
    """The paper says that a difference is above 0. `least` is the smallest one worth the claim."""
    return Rule(f"the interval lies above 0 and the value reaches {_worth(least, unit)}; partly if only one of the two holds",
                lambda change: _clear_and_large(change, 0, least), unit)


def falls(least: float, unit: Unit = "points") -> Rule:
    """The paper says that a difference is below 0, by `least` at least to be worth the claim."""
    return Rule(f"the interval lies below 0 and the value reaches -{_worth(least, unit)}; partly if only one of the two holds",
                lambda change: _clear_and_large(opposite(change), 0, least), unit, side=-1)


def grows(factor: float) -> Rule:
    """The paper says that something multiplies: the evidence is after over before. `factor` is the smallest growth worth the claim."""
    return Rule(f"the interval of after over before lies above 1 and the value reaches {factor:g}; partly if only one of the two holds",
                lambda ratio: _clear_and_large(ratio, 1, factor), "times", origin=1.0)


def exceeds(level: float, unit: Unit = "share") -> Rule:
    """The paper says that something is above a level."""
    def judge(measured: Interval) -> Verdict:
        value, low, _ = _bounds(measured)
        return "reproduced" if low > level else "partly" if value > level else "not reproduced"

    return Rule(f"the interval lies above {_worth(level, unit)}; partly if only the value does", judge, unit, origin=level)


def keeps(cost: float) -> Rule:
    """The paper says that nothing is lost: a difference that costs at most `cost`."""
    def judge(change: Interval) -> Verdict:
        value, low, _ = _bounds(change)
        return "reproduced" if low > -cost else "partly" if value > -cost else "not reproduced"

    return Rule(f"the interval lies above -{_worth(cost, 'points')}; partly if only the value does", judge, origin=-cost)


def gains_nothing(worth: float) -> Rule:
    """The paper says that something does not pay: the difference stays below what would be worth it."""
    def judge(change: Interval) -> Verdict:
        _, low, high = _bounds(change)
        return "reproduced" if high < worth else "not reproduced" if low > 0 else "partly"

    return Rule(f"the interval lies below +{_worth(worth, 'points')}; not if it lies above 0; partly otherwise", judge, origin=worth,
                side=-1)


def parts_ways() -> Rule:
    """Reward hacking: of two changes, that of what the reward stands for goes down and that of the reward itself goes up."""
    def judge(true: Interval, paid: Interval) -> Verdict:
        (fallen, _, true_high), (risen, paid_low, _) = _bounds(true), _bounds(paid)
        if true_high < 0 < paid_low:
            return "reproduced"
        return "partly" if fallen < 0 < risen else "not reproduced"

    return Rule("what the reward stands for falls (interval below 0) while the reward rises (interval above 0); "
                "partly if both go these ways by their values, but not both by their intervals", judge, side=-1)


def needs_a_real_model() -> Rule:
    """What no miniature can show: verdict by rule, whatever is measured."""
    return Rule("a model of the paper's kind shows it; whatever a miniature does says nothing about it", lambda: "needs a real model")


def _bounds(interval: Interval) -> tuple[float, float, float]:
    """value, low, high; a bound that was not measured could lie anywhere."""
    low, high = interval["low"], interval["high"]
    return interval["value"], -math.inf if low is None else low, math.inf if high is None else high


def _clear_and_large(measured: Interval, origin: float, least: float) -> Verdict:
    """Is it shown that there is something, and is it large enough: both, one, or none."""
    value, low, _ = _bounds(measured)
    return ("not reproduced", "partly", "reproduced")[(low > origin) + (value >= least)]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Claims

@dataclass(frozen=True)
class Test:
    """A rule and the evidence it judges, by name; "a minus b" is the difference of two that were not measured in pairs."""

    rule: Rule
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """title: a few words for pictures and tables. source: where the paper, or the later work that is named, says so.

    tests: the first one's first piece of evidence is the number that is shown. All reproduced: the claim is reproduced; none even partly:
    not; else partly. paper: its numbers in words. theirs: its lowest and highest number in the unit of ours, where there is such.
    """

    name: str
    title: str
    text: str
    source: str
    notebook: str
    tests: tuple[Test, ...]
    paper: str = "no number"
    theirs: tuple[float, float] | None = None


def _points(value: float) -> tuple[float, float]:
    """Percentage points as a share, which is its own lowest and highest."""
    return value / 100, value / 100


def _stages(row: str, before: str, after: str) -> tuple[str, tuple[float, float]]:
    """Two numbers of the paper's table of stages: in words, and their difference."""
    first, last = paper.STAGES.cell(row, before), paper.STAGES.cell(row, after)
    return f"{row}: {first:g} to {last:g}", _points(last - first)


def _above_v3(row: str) -> tuple[str, tuple[float, float]]:
    """V3 and R1 in the paper's main table: in words, and their difference."""
    v3, r1 = paper.MAIN.cell(row, "V3"), paper.MAIN.cell(row, "R1")
    return f"{row}: V3 {v3:g}, R1 {r1:g}", _points(r1 - v3)


_PASS_1, _LENGTH, _VOTING = paper.AIME_PASS_1.points, paper.LENGTH.points, paper.R1_VOTING
_FIRST, _FINAL = _PASS_1[0][1], paper.AIME_PASS_1_FINAL.points[-1][1]
_DISTILLED = paper.DISTILLED.column("AIME 2024 pass@1")
_BY_RL, _BY_R1 = (paper.DISTILLED_OR_RL.cell(row, "AIME 2024 pass@1") for row in ("R1-Zero-Qwen-32B", "R1-Distill-Qwen-32B"))
_TIMES = paper.REFLECTION["growth"]

_R1_ZERO = (
    Claim("pure_rl", "RL alone lifts accuracy", "Reinforcement learning alone, without any fine-tuning before it, lifts pass@1.",
          "v1 2.2.4, figure 2; Nature figure 1a", "04_r1_zero", (Test(rises(0.1), ("zero/pass@1/zero - base",)),),
          f"AIME 2024: {_FIRST:g} to {_FINAL:g}", _points(_FINAL - _FIRST)),
    Claim("majority", "a majority of answers beats one", "The answer that R1-Zero gives most often is right more often than a single one.",
          "v1 2.2.4, table 2", "04_r1_zero", (Test(rises(0.02), ("zero/cons@k - pass@1/zero",)),),
          f"AIME 2024: {_PASS_1[-1][1]:g} to {paper.AIME_MAJORITY:g}", _points(paper.AIME_MAJORITY - _PASS_1[-1][1])),
    Claim("length", "answers grow longer in RL", "In RL the answers grow longer of themselves, because thinking pays.",
          "v1 2.2.4, figure 3", "04_r1_zero", (Test(grows(1.2), ("zero/mean_length/zero : base",)),),
          f"{_LENGTH[0][1]:,} to {_LENGTH[-1][1]:,} tokens", (_LENGTH[-1][1] / _LENGTH[0][1],) * 2),
    Claim("mixing", "R1-Zero mixes languages", "Pure RL makes answers that mix languages more frequent.",
          "v1 2.2.4", "04_r1_zero", (Test(rises(0.05), ("zero/language_mixing/zero - base",)),)),
    Claim("instructions_lost", "R1-Zero follows instructions less", "Pure RL costs the following of instructions, on which it is not paid.",
          "Nature table 2; v2 table 12", "11_evaluation", (Test(falls(0.02), ("stages/instruction following/zero - base",)),),
          *_stages("IF-Eval", "V3-Base", "R1-Zero")),
    Claim("easy_first", "easy levels are learnt first", "Easy problems are learnt at once, the hardest level late.",
          "v2 C.1, figure 8", "11_evaluation", (Test(rises(1, "steps"), ("evaluation/easy_first",)),),
          f"MATH level 5: {paper.MATH_BY_LEVEL.cell('5', 'early'):g} to {paper.MATH_BY_LEVEL.cell('5', 'late'):g}, levels 1 to 3 early"),
    Claim("longer_when_hard", "harder problems get longer thinking", "It thinks longer on harder problems.",
          "v2 E; 1.2", "11_evaluation", (Test(rises(5, "tokens"), ("evaluation/length_hard_minus_easy_zero",)),),
          f"R1: under {paper.THINKING_TOKENS['easy']:,} tokens, hardest over {paper.THINKING_TOKENS['hardest']:,}"),
    Claim("sharpens", "RL lifts pass@1 more than pass@k", "RL sharpens more than it widens: it lifts pass@1 by more than pass@k.",
          "arXiv 2504.13837, later than v1", "04_r1_zero",
          (Test(rises(0.05), ("zero/pass@1 - pass@k/zero - base",)),)),
    Claim("base_overtakes", "with many tries the base overtakes", "With many tries a problem, the base solves more than its RL model.",
          "arXiv 2504.13837, later than v1", "04_r1_zero", (Test(falls(0.01), ("zero/pass@k/zero - base",)),),
          "base ahead from tens to hundreds of tries"),
)

_AHA = (
    Claim("reflection", "reflective words 5 to 7 times", "Reflective words become 5 to 7 times as frequent in RL.",
          "v2 C.2, figure 9; Nature Extended Data figure 1", "05_the_aha_moment",
          (Test(grows(_TIMES[0]), ("zero/reflection/zero : base",)),), f"{_TIMES[0]} to {_TIMES[1]} times", _TIMES),
    Claim("before_rl", "the base reflects before any RL", "The aha moment is older than RL: the base reflects at step 0.",
          "oat-zero, 2025; arXiv 2503.20783: against v1", "05_the_aha_moment",
          (Test(exceeds(0.05, "words"), ("aha/reflection_base",)),), "most bases reflect"),
    Claim("rethinks", "it rethinks, and rightly so", "What is taken back was wrong more often than right.",
          "v1 table 3, the aha moment", "05_the_aha_moment",
          (Test(rises(0.01), ("aha/wrong_to_right minus aha/right_to_wrong",)),), "one example"),
    Claim("reflection_pays", "answers that reflect are better", "At equal difficulty, answers that reflect are right more often.",
          "v1 2.2.4; doubted by arXiv 2503.20783", "05_the_aha_moment", (Test(rises(0.02), ("aha/reflection_helps_zero",)),)),
    Claim("more_thinking", "one more check lifts accuracy", "Longer thinking at test time helps: made to check once more, it is better.",
          "v1 2.2.4, extended test-time computation", "05_the_aha_moment", (Test(rises(0.01), ("aha/forced_wait_gain",)),)),
)

_RECIPE = (
    Claim("length_limit", "a higher length limit lifts accuracy", "A higher limit for the length of answers lifts accuracy.",
          "Nature Methods, figure 1", "04_r1_zero", (Test(rises(0.02), ("ablations/long_minus_short",)),),
          f"accuracy jumps at step {max(paper.R1_ZERO.max_length):,}, where the limit is doubled"),
    Claim("clip_range", "a narrow clip range hurts", "The clip range matters: a narrow one holds learning back.",
          "Nature Methods, RL stage 1", "04_r1_zero", (Test(rises(0.02), ("ablations/clip_default_minus_narrow",)),),
          f"epsilon {paper.REASONING_RL.clip_epsilon:g}"),
    Claim("grpo", "GRPO is as good as PPO", "GRPO needs no value model and is as good as PPO.",
          "v2 A.3, figure 4", "04_r1_zero", (Test(keeps(0.03), ("ablations/grpo_minus_ppo",)),),
          "PPO nearly as good with lambda 1, worse with 0.95"),
)

_COLD_START = (
    Claim("cold_start", "a cold start trades reasoning for reading", "The cold start buys readability with reasoning.",
          "v1 2.3.1; Nature table 2", "06_cold_start",
          (Test(falls(0.02), ("stages/math/dev1 - zero",)), Test(rises(0.05), ("stages/readability/dev1 - zero",))),
          *_stages("AIME 2024", "R1-Zero", "Dev1")),
    Claim("one_language", "a cold start ends the mixing", "After the cold start the thinking keeps to one language.",
          "v1 2.3.1; v2 B.3.2", "06_cold_start", (Test(rises(0.02), ("stages/language consistency/dev1 - zero",)),)),
    Claim("cold_instructions", "a cold start follows instructions", "The cold start brings the following of instructions.",
          "Nature table 2", "06_cold_start", (Test(rises(0.02), ("stages/instruction following/dev1 - zero",)),),
          *_stages("IF-Eval", "R1-Zero", "Dev1")),
)

_REASONING_RL = (
    Claim("regains", "reasoning RL regains reasoning", "Reasoning RL wins back what the cold start cost.",
          "v1 2.3.2; Nature table 2", "07_reasoning_rl", (Test(rises(0.02), ("stages/math/dev2 - dev1",)),),
          *_stages("AIME 2024", "Dev1", "Dev2")),
    Claim("regains_most", "Dev2 comes near R1-Zero", "After reasoning RL, little is missing to R1-Zero.",
          "Nature table 2", "07_reasoning_rl", (Test(keeps(0.08), ("stages/math/dev2 - zero",)),),
          *_stages("AIME 2024", "R1-Zero", "Dev2")),
    Claim("language_reward", "the language reward holds one language", "Without a reward for it, consistency of language decays in RL.",
          "v2 B.6, figure 7", "07_reasoning_rl",
          (Test(rises(0.01), ("stages/language consistency/dev2 - dev2_no_language",)),)),
    Claim("language_cost", "the language reward costs little", "The reward for one language costs at most a little reasoning.",
          "v1 2.3.2; v2 B.6, figure 7", "07_reasoning_rl",
          (Test(keeps(0.03), ("stages/math/dev2 - dev2_no_language",)), Test(keeps(0.05), ("stages/code/dev2 - dev2_no_language",))),
          "math unchanged, code slightly worse"),
    Claim("general_cost", "reasoning RL costs general quality", "Reasoning RL takes a little from general answers.",
          "Nature table 2", "07_reasoning_rl", (Test(falls(0.01), ("stages/general quality/dev2 - dev1",)),),
          *_stages("ArenaHard", "Dev1", "Dev2")),
)

_REJECTION = (
    Claim("widens", "Dev3 widens to general questions", "The second fine-tuning, from the base again, widens to general questions.",
          "v1 2.3.3; Nature table 2", "08_rejection_sampling", (Test(rises(0.02), ("stages/general quality/dev3 - dev2",)),),
          *_stages("AlpacaEval 2.0", "Dev2", "Dev3")),
    Claim("restart", "starting again loses no reasoning", "Started again from the base, the model keeps Dev2's reasoning.",
          "v1 2.3.3; Nature table 2", "08_rejection_sampling", (Test(keeps(0.03), ("stages/math/dev3 - dev2",)),),
          *_stages("AIME 2024", "Dev2", "Dev3")),
)

_ALL_SCENARIOS = (
    Claim("helpful", "preference RL lifts helpfulness", "RL with a preference reward lifts the quality of general answers.",
          "Nature table 2", "09_all_scenarios_rl", (Test(rises(0.02), ("stages/general quality/r1 - dev3",)),),
          *_stages("ArenaHard", "Dev3", "R1")),
    Claim("preferred", "a judge prefers R1 to Dev3", "Asked in both orders, a judge prefers R1's answers to Dev3's.",
          "Nature table 2", "11_evaluation", (Test(exceeds(0.5), ("evaluation/winrate_r1_vs_dev3",)),),
          _stages("AlpacaEval 2.0", "Dev3", "R1")[0]),
    Claim("reasoning_kept", "preference RL keeps reasoning", "RL for all scenarios costs no reasoning.",
          "Nature table 2", "09_all_scenarios_rl", (Test(keeps(0.03), ("stages/math/r1 - dev3",)),),
          *_stages("AIME 2024", "Dev3", "R1")),
    Claim("hacked", "long preference RL is hacked", "Rewarded by a preference model for long, it is paid more and is worth less.",
          "v2 B.5, figure 6", "09_all_scenarios_rl",
          (Test(parts_ways(), ("stages/general quality/r1_hacked - dev3", "curves/r1_hacked/rewards/helpful_reward/mean")),),
          "reward rises, Codeforces falls"),
    Claim("safe", "safety RL raises safe answers", "With a safety reward, more of what should be refused is refused.",
          "v1 2.3.4; v2 D.3", "09_all_scenarios_rl", (Test(rises(0.02), ("stages/safety/r1 - dev3",)),)),
    Claim("refusals", "safety RL refuses needlessly", "Safety RL also makes it refuse what it should answer.",
          "v1 3.1, Chinese SimpleQA", "09_all_scenarios_rl", (Test(rises(0.02), ("stages/over-refusal/r1 - dev3",)),),
          "C-SimpleQA {:g} to {:g}, by refusals".format(*(paper.STAGES.cell("C-SimpleQA", stage) for stage in ("Dev3", "R1")))),
)

_COMPARED = (
    Claim("general", "R1 beats R1-Zero in general", "R1 answers general questions better than R1-Zero.",
          "Nature table 2", "11_evaluation", (Test(rises(0.05), ("stages/general quality/r1 - zero",)),),
          *_stages("ArenaHard", "R1-Zero", "R1")),
    Claim("reasoning", "R1 reasons as well as R1-Zero", "With all that was added, R1 reasons as well as R1-Zero.",
          "Nature table 2", "11_evaluation", (Test(keeps(0.03), ("stages/math/r1 - zero",)),),
          *_stages("AIME 2024", "R1-Zero", "R1")),
    Claim("hardest", "on the hardest R1-Zero stays ahead", "On the hardest problems, R1 stays behind R1-Zero.",
          "Nature table 2", "11_evaluation", (Test(falls(0.02), ("stages/math-hard/r1 - zero",)),),
          *_stages("CNMO 2024", "R1-Zero", "R1")),
    Claim("above_v3", "R1 beats V3 in reasoning", "R1 reasons far better than the ordinary chat model.",
          "v1 table 4; v2 table 8", "11_evaluation", (Test(rises(0.1), ("stages/math/r1 - v3",)),), *_above_v3("AIME 2024")),
    Claim("general_v3", "R1 beats V3 in general too", "R1 beats the ordinary chat model on general questions, too.",
          "v1 table 4; v2 table 8", "11_evaluation", (Test(rises(0.02), ("stages/general quality/r1 - v3",)),), *_above_v3("ArenaHard")),
    Claim("preferred_v3", "a judge prefers R1 to V3", "Asked in both orders, a judge prefers R1's answers to V3's.",
          "v1 table 4; v2 table 8", "11_evaluation", (Test(exceeds(0.5), ("evaluation/winrate_r1_vs_v3",)),),
          _above_v3("AlpacaEval 2.0")[0]),
    Claim("few_shot", "examples in the prompt hurt R1", "Examples before the question make R1 worse.",
          "v1 5; v2 6", "11_evaluation", (Test(falls(0.02), ("evaluation/few_minus_zero_shot_r1",)),), "consistently degrades"),
    Claim("template", "R1 is sensitive to its prompt", "Asked in another template, R1 is worse.",
          "v1 5; v2 6", "11_evaluation", (Test(rises(0.02), ("evaluation/zero_shot_r1 minus evaluation/template_changed_r1",)),)),
    Claim("json", "structured output is a weakness", "Asked for JSON, R1 is worse than asked for a plain answer.",
          "v1 5; v2 6", "11_evaluation", (Test(rises(0.02), ("evaluation/zero_shot_r1 minus evaluation/json_r1",)),), "below V3"),
    Claim("both_languages", "it reasons in both its languages", "It reasons as well in Chinese as in English, the two it is made for.",
          "v1 5; v2 6", "11_evaluation", (Test(keeps(0.1), ("evaluation/chinese_zero minus evaluation/english_zero",)),)),
)

_DISTILLATION = (
    Claim("distill_or_rl", "distillation beats RL on small models", "Taught by R1, a small model is better than by RL of its own.",
          "v1 4.1, table 6", "10_distillation",
          (Test(rises(0.02), ("distillation/distill_minus_zero_1m",)), Test(rises(0.02), ("distillation/distill_minus_zero_04m",))),
          f"Qwen-32B on AIME 2024: {_BY_RL:g} by RL, {_BY_R1:g} by R1", _points(_BY_R1 - _BY_RL)),
    Claim("bigger_students", "bigger students gain more", "The bigger the student, the more it gains from the same samples.",
          "v1 table 5", "10_distillation", (Test(rises(0.02), ("distillation/bigger_gains_more",)),),
          "Qwen on AIME 2024: 1.5B {:g}, 7B {:g}, 32B {:g}".format(*(_DISTILLED[name] for name in ("Qwen-1.5B", "Qwen-7B", "Qwen-32B")))),
    Claim("rl_on_top", "RL after distillation adds", "RL on top of a distilled model makes it clearly better.",
          "v1 3.2", "10_distillation", (Test(rises(0.02), ("distillation/rl_after_distill_gain",)),), "significant further gains"),
    Claim("small_chat", "a small student beats a larger chat model", "A small distilled model reasons better than a larger chat model.",
          "v1 3.2, table 5", "10_distillation", (Test(rises(0.05), ("distillation/distill_1m minus evaluation/pass1_v3",)),),
          f"AIME 2024: Qwen-7B {_DISTILLED['Qwen-7B']:g}, GPT-4o {_DISTILLED['GPT-4o-0513']:g}",
          _points(_DISTILLED["Qwen-7B"] - _DISTILLED["GPT-4o-0513"])),
    Claim("small_bases", "small bases fail where larger learn", "By RL alone, small bases learn less than larger ones, or nothing.",
          "v2 G.1", "10_distillation",
          (Test(rises(0.05), ("distillation/zero_3m_gain minus distillation/zero_small_gain",)),), "7B and 16B failed, 32B worked"),
)

_UNSUCCESSFUL = (
    Claim("prm", "a process reward ranks answers", "A process reward model picks better answers than chance.",
          "v1 4.2; v2 G.2", "12_unsuccessful_attempts",
          (Test(rises(0.02), ("unsuccessful/best_of_n_prm minus unsuccessful/best_of_n_random",)),)),
    Claim("prm_hacked", "a process reward is hacked in RL", "As the reward of RL, a process reward model is hacked.",
          "v1 4.2; v2 G.2", "12_unsuccessful_attempts",
          (Test(parts_ways(), ("unsuccessful/prm_rl_accuracy_gain", "unsuccessful/prm_rl_reward_gain")),)),
    Claim("mcts", "tree search does not pay", "At equal tokens, tree search is no better than the best of n answers.",
          "v1 4.2; v2 G.2", "12_unsuccessful_attempts", (Test(gains_nothing(0.03), ("unsuccessful/mcts_minus_best_of_n",)),)),
    Claim("r1_majority", "voting lifts R1, too", "The answer that R1 gives most often is right more often than a single one.",
          "v2 E", "12_unsuccessful_attempts", (Test(rises(0.02), ("unsuccessful/majority minus unsuccessful/pass1_r1",)),),
          f"AIME 2024: {_VOTING['pass@1']:g} to {_VOTING['majority']:g}", _points(_VOTING["majority"] - _VOTING["pass@1"])),
)

_REAL = (Test(needs_a_real_model()),)
_REAL_MODEL = tuple(Claim(*row, "13_scaling_up", _REAL, words) for *row, words in (
    ("aime", "AIME 2024 at the level of o1", "R1 solves AIME 2024 about as well as o1-1217.", "v1 table 4; v2 table 8",
     "R1 {:g}, o1-1217 {:g}".format(*(paper.MAIN.cell("AIME 2024", name) for name in ("R1", "o1-1217")))),
    ("aime_majority", "AIME 2024 by a majority", "R1-Zero reaches AIME 2024's top level by voting.", "v1 table 2",
     f"{_PASS_1[-1][1]:g}, {paper.AIME_MAJORITY:g} by voting"),
    ("codeforces", "better than 96 % on Codeforces", "R1 is above most human competitors on Codeforces.", "v1 table 4; v2 table 8",
     f"percentile {paper.MAIN.cell('Codeforces percentile', 'R1'):g}"),
    ("long_thoughts", "thoughts of tens of thousands of tokens", "R1-Zero's answers grow to tens of thousands of tokens.",
     "Nature figure 1b, as read by others",
     f"about {paper.LENGTH_FINAL.points[-1][1]:,} on average, {max(paper.R1_ZERO.max_length.values()):,} at most"),
    ("engineering", "software engineering gains little", "On software engineering R1 gains little over V3.", "v1 5, table 4",
     _above_v3("SWE Verified")[0]),
    ("other_languages", "other languages are thought of in English", "Asked in a third language, R1 may think in English.", "v1 5; v2 6",
     "no number"),
    ("jailbreaks", "jailbreaks break it", "Under jailbreak prompts, R1 without a filter becomes unsafe.", "v2 D.3",
     "unsafe: {:g} to {:g} %".format(*paper.JAILBREAK.rows["R1"])),
    ("steps", "a step is hard to define in general", "In general reasoning it is hard to say what a step is, and whether it is right.",
     "v1 4.2; v2 G.2", "no number"),
))

CLAIMS: tuple[Claim, ...] = (*_R1_ZERO, *_AHA, *_RECIPE, *_COLD_START, *_REASONING_RL, *_REJECTION, *_ALL_SCENARIOS, *_COMPARED,
                             *_DISTILLATION, *_UNSUCCESSFUL, *_REAL_MODEL)
