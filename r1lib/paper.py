"""The paper's numbers, as data: what it trained, with which settings, and what it measured.

Three texts of DeepSeek-R1 exist, and they do not always agree. Each number here says where it stands:
    v1      arXiv 2501.12948v1, January 2025, 22 pages: hardly any settings.
    Nature  Nature 645, 633-638 (2025), doi 10.1038/s41586-025-09422-z: settings in Methods, results after longer training.
    v2      arXiv 2501.12948v2, January 2026, 86 pages: the text of Nature with its supplement as appendices A to F.
None stands for what no version tells. Accuracies and shares are in percent, lengths in tokens, one step is one update of the policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from r1lib.text import REFLECTION_WORDS

# ------------------------------------------------------------------------------------------------------------------------------------------
# Settings


@dataclass(frozen=True)
class RLRun:
    """The settings of one GRPO run.

    clip_epsilon: the ratio is clipped to 1 - epsilon .. 1 + epsilon; with 10 the lower end, -9, is never reached.
    outputs_per_rollout: answers that are sampled before `minibatches` updates are made from them, once each.
    max_length: {from this step on: the longest answer in tokens}.
    rewards: what is added up, without weights.
    """

    name: str
    source: str
    learning_rate: float
    temperature: float
    steps: int | None
    rewards: tuple[str, ...]
    clip_epsilon: float | None
    max_length: Mapping[int, int]
    kl_beta: float = 0.001
    questions_per_step: int = 32
    samples_per_question: int = 16
    outputs_per_rollout: int | None = 8192
    reference_refreshed_every: int = 400

    @property
    def batch(self) -> int:
        """Answers that one update learns from."""
        return self.questions_per_step * self.samples_per_question

    @property
    def minibatches(self) -> int | None:
        """Updates a rollout; the last of them learns from answers that are `minibatches - 1` updates old."""
        return self.outputs_per_rollout and self.outputs_per_rollout // self.batch


R1_ZERO = RLRun(
    "R1-Zero", "Nature Methods; v2 2.1", learning_rate=3e-6, temperature=1.0, steps=10_400, clip_epsilon=None,
    max_length={0: 32_768, 8_200: 65_536}, rewards=("accuracy", "format"))                 # "same weight", Nature eq. 4
REASONING_RL = RLRun(
    "RL stage 1, Dev1 to Dev2", "Nature Methods; v2 3.2.1", learning_rate=3e-6, temperature=1.0, steps=None, clip_epsilon=10.0,
    max_length={0: 32_768}, rewards=("accuracy", "format", "language"))                    # steps: "until convergence", v1 2.3.2
ALL_SCENARIOS_RL = RLRun(                                                                  # "retains most" settings of stage 1
    "RL stage 2, Dev3 to R1", "Nature Methods eq. 8-10; v2 3.2.2", learning_rate=3e-6, temperature=0.7, steps=1_700, clip_epsilon=10.0,
    max_length={0: 32_768}, rewards=("accuracy", "preference", "format", "language"))
PREFERENCE_STEPS = 400      # general data and the preference reward only in the last steps of stage 2: more led to reward hacking, v2 B.5
R1_ZERO_32B = RLRun(
    "Qwen2.5-32B-Zero", "v2 B.4.1; more than 10,000 steps: v1 4.1", learning_rate=2e-6, temperature=1.0, steps=None, clip_epsilon=None,
    max_length={0: 32_768}, rewards=("accuracy", "format"))


@dataclass(frozen=True)
class SFTRun:
    """The settings of supervised fine-tuning: cosine from the first learning rate to the last."""

    name: str
    source: str
    epochs: tuple[int, int]             # at least, at most; v1 says two for the second SFT, v2 says two to three
    learning_rate: tuple[float, float]
    batch: int
    samples: int | None
    context: int = 32_768


COLD_START = SFTRun("cold start, base to Dev1", "v2 B.4.2", (2, 3), (5e-5, 5e-6), batch=128, samples=None)     # "thousands"
SECOND_SFT = SFTRun("800k samples, base to Dev3", "v2 B.4.2", (2, 3), (5e-5, 5e-6), batch=128, samples=804_745)
DISTILLATION = {
    student: SFTRun(student, "v2 B.4.3 and table 6", (2, 3), (rate, rate / 10), batch=64, samples=804_745)
    for student, rate in (("Qwen-1.5B", 1e-4), ("Qwen-7B", 8e-5), ("Qwen-14B", 7e-5), ("Qwen-32B", 6e-5), ("Llama-8B", 5e-5),
                          ("Llama-70B", 2e-5))}


@dataclass(frozen=True)
class RewardModel:
    """A model with a scalar head; `reads` is what it is shown of a response."""

    name: str
    source: str
    data: str
    examples: int
    loss: Literal["pairwise", "pointwise"]
    reads: Literal["summary", "response"]
    batch: int = 256
    learning_rate: float = 6e-6
    epochs: int = 1
    max_length: int = 8_192


RM_HELPFUL = RewardModel("helpful", "Nature Methods; v2 3.1", "pairs judged by DeepSeek-V3, four times each, in both orders, gap above 1",
                         66_000, "pairwise", "summary")
RM_SAFE = RewardModel("safe", "Nature Methods; v2 3.1", "prompts with responses labelled safe or unsafe", 106_000, "pointwise", "response")

# How the paper measures (v1 3; v2 D.1): mean over k answers, since greedy decoding repeats itself and varies between checkpoints.
EVALUATION = {"temperature": 0.6, "top_p": 0.95, "max_length": 32_768}
EVALUATION_SAMPLES = {"AIME 2024": 64, "GPQA Diamond": 64, "MATH-500": 16, "Codeforces": 16, "LiveCodeBench": 8}

# ------------------------------------------------------------------------------------------------------------------------------------------
# Data and cost


@dataclass(frozen=True)
class Table:
    """A table of the paper: rows[name] holds one number a column."""

    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]

    def cell(self, row: str, column: str) -> float | None:
        return self.rows[row][self.columns.index(column)]

    def column(self, column: str) -> dict[str, float | None]:
        """Row name -> number."""
        return {row: self.cell(row, column) for row in self.rows}


RL_PROMPTS = Table("v2 table 4 and B.3.1; Chinese and English", ("prompts",), {
    "math": (26_000,), "code": (17_000,), "STEM": (22_000,), "logic": (15_000,), "helpful": (66_000,), "harmless": (12_000,)})
SFT_DATA = Table("v2 table 5: the 800k of the second SFT and of distillation", ("samples", "rounds", "tokens"), {
    "math": (395_285, 1.0, 6094.2), "code": (211_129, 1.1, 7435.7), "STEM": (10_124, 1.0, 4928.8),
    "logic": (10_395, 1.0, 2739.0), "general": (177_812, 1.1, 1419.8)})
COST = Table("v2 table 7, H800 at 2 $ an hour", ("GPU hours", "dollars"), {
    "R1-Zero": (101_000, 202_000), "SFT data": (5_000, 10_000), "R1": (41_000, 82_000)})

# ------------------------------------------------------------------------------------------------------------------------------------------
# R1-Zero while it learns


@dataclass(frozen=True)
class Curve:
    """Points (step, value) of a figure. `stated` holds the steps whose value is written in the text; all others are read off by eye."""

    name: str
    unit: str
    source: str
    points: tuple[tuple[int, float], ...]
    stated: tuple[int, ...] = ()


# The curves of v1 end near step 8,400. Their first point lies near step 200, not at 0: what the untrained base scores is not told.
AIME_PASS_1 = Curve("AIME 2024 pass@1", "%", "v1 figure 2 and 2.2.4", stated=(200, 8_400), points=(
    (200, 15.6), (1_000, 32), (2_000, 38), (4_000, 60), (6_000, 64), (8_400, 71.0)))
AIME_CONS_16 = Curve("AIME 2024 cons@16", "%", "v1 figure 2", points=((200, 25), (8_400, 87)))
LENGTH = Curve("mean response length in training", "tokens", "v1 figure 3", points=(
    (0, 550), (2_000, 2_000), (4_000, 4_000), (6_000, 6_000), (8_400, 9_750)))
# Nature trains on, with twice the length from step 8,200 on; accuracy and length jump there. So the growth of v1 was the model's own,
# the last part of Nature's was also the longer limit's.
AIME_PASS_1_FINAL = Curve("AIME 2024 pass@1", "%", "Nature figure 1a", stated=(10_400,), points=((10_400, 77.9),))
LENGTH_FINAL = Curve("mean response length in training", "tokens", "Nature figure 1b, as read by others", points=((10_400, 17_500),))
AIME_MAJORITY = 86.7        # v1 table 2 calls it cons@64, the figures plot cons@16, Nature says self-consistency

MATH_BY_LEVEL = Table("v2 C.1 figure 8, R1-Zero, read off by eye", ("early", "late"), {
    "1-3": (None, 92), "4": (78, 95), "5": (55, 90)})       # levels 1-3 reach 90-95 at once; level 1 has 43 problems of 500

REFLECTION = {                                              # v2 C.2 figure 9; Nature Extended Data figure 1
    "words": REFLECTION_WORDS,                              # merged from the lists of three experts
    "growth": (5, 7),                                       # times as many at the end of training
    "wait": {"absent until": 4_000, "now and then until": 7_000, "often from": 8_000},
}
AHA = "an intermediate checkpoint, on sqrt(a - sqrt(a + x)) = x, stops and begins anew"     # v1 table 3; Nature table 1

# ------------------------------------------------------------------------------------------------------------------------------------------
# Results

STAGES = Table("Nature table 2; v2 tables 3 and 12 (V3-Base)", ("V3-Base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1"), {
    "MMLU": (87.1, 88.8, 89.1, 91.2, 91.0, 90.8),
    "MMLU-Redux": (86.2, 85.6, 90.0, 93.0, 93.1, 92.9),
    "MMLU-Pro": (64.4, 68.9, 74.1, 83.8, 83.1, 84.0),
    "DROP": (89.0, 89.1, 89.8, 91.1, 88.7, 92.2),
    "IF-Eval": (58.6, 46.6, 71.7, 72.0, 78.1, 83.3),
    "GPQA Diamond": (None, 75.8, 66.1, 70.7, 71.2, 71.5),
    "SimpleQA": (20.1, 30.3, 17.8, 28.2, 24.9, 30.1),
    "FRAMES": (None, 82.3, 78.5, 81.8, 81.9, 82.5),
    "AlpacaEval 2.0": (None, 24.7, 50.1, 55.8, 62.1, 87.6),
    "ArenaHard": (None, 53.6, 77.0, 73.2, 75.6, 92.3),
    "LiveCodeBench": (None, 50.0, 57.5, 63.5, 64.6, 65.9),
    "Codeforces percentile": (None, 80.4, 84.5, 90.5, 92.1, 96.3),
    "Codeforces rating": (None, 1444, 1534, 1687, 1746, 2029),
    "SWE Verified": (None, 43.2, 39.6, 44.6, 45.6, 49.2),
    "Aider-Polyglot": (None, 12.2, 6.7, 25.6, 44.8, 53.3),
    "AIME 2024": (None, 77.9, 59.0, 74.0, 78.1, 79.8),
    "MATH-500": (None, 95.9, 94.2, 95.9, 95.4, 97.3),
    "CNMO 2024": (None, 88.1, 58.0, 73.9, 77.3, 78.8),
    "CLUEWSC": (82.7, 93.1, 92.8, 92.6, 91.6, 92.8),
    "C-Eval": (90.1, 92.8, 85.7, 91.9, 86.4, 91.8),
    "C-SimpleQA": (None, 66.4, 58.8, 64.2, 66.9, 63.7)})

MAIN = Table("v1 table 4; v2 table 8", ("Claude-3.5-Sonnet", "GPT-4o", "V3", "o1-mini", "o1-1217", "R1"), {
    "MMLU": (88.3, 87.2, 88.5, 85.2, 91.8, 90.8),
    "MMLU-Redux": (88.9, 88.0, 89.1, 86.7, None, 92.9),
    "MMLU-Pro": (78.0, 72.6, 75.9, 80.3, None, 84.0),
    "DROP": (88.3, 83.7, 91.6, 83.9, 90.2, 92.2),
    "IF-Eval": (86.5, 84.3, 86.1, 84.8, None, 83.3),
    "GPQA Diamond": (65.0, 49.9, 59.1, 60.0, 75.7, 71.5),
    "SimpleQA": (28.4, 38.2, 24.9, 7.0, 47.0, 30.1),
    "FRAMES": (72.5, 80.5, 73.3, 76.9, None, 82.5),
    "AlpacaEval 2.0": (52.0, 51.1, 70.0, 57.8, None, 87.6),
    "ArenaHard": (85.2, 80.4, 85.5, 92.0, None, 92.3),
    "LiveCodeBench": (38.9, 32.9, 36.2, 53.8, 63.4, 65.9),
    "Codeforces percentile": (20.3, 23.6, 58.7, 93.4, 96.6, 96.3),
    "Codeforces rating": (717, 759, 1134, 1820, 2061, 2029),
    "SWE Verified": (50.8, 38.8, 42.0, 41.6, 48.9, 49.2),
    "Aider-Polyglot": (45.3, 16.0, 49.6, 32.9, 61.7, 53.3),
    "AIME 2024": (16.0, 9.3, 39.2, 63.6, 79.2, 79.8),
    "MATH-500": (78.3, 74.6, 90.2, 90.0, 96.4, 97.3),
    "CNMO 2024": (13.1, 10.8, 43.2, 67.6, None, 78.8),
    "CLUEWSC": (85.4, 87.9, 90.9, 89.9, None, 92.8),
    "C-Eval": (76.7, 76.0, 86.5, 68.9, None, 91.8),
    "C-SimpleQA": (55.4, 58.7, 68.0, 40.3, None, 63.7)})
R1_VOTING = {"pass@1": 79.8, "majority": 86.7, "pass@64": 90.0}     # v2 E: R1 on AIME 2024
THINKING_TOKENS = {"easy": 7_000, "mean": 8_793, "hardest": 18_000}  # v2 E: R1 on 366 problems of 2024; easy ones stay below, hardest above
JAILBREAK = Table("v2 D.3: unsafe answers without a filter", ("plain", "jailbreak"), {
    "R1": (25.2, 85.9), "V3": (17.6, 36.4), "o1": (9.0, 12.1), "GPT-4o": (22.0, 30.4)})

LIVECODEBENCH_BY_LEVEL = Table("v2 table 14", ("R1-Zero", "Dev1", "Dev2", "Dev3", "R1"), {
    "easy": (98.07, 99.52, 100.0, 100.0, 100.0),
    "medium": (58.78, 73.31, 81.76, 81.42, 83.45),
    "hard": (17.09, 23.21, 30.36, 33.16, 34.44)})

_MATH_AND_CODE = ("AIME 2024 pass@1", "AIME 2024 cons@64", "MATH-500", "GPQA Diamond", "LiveCodeBench", "Codeforces rating")
R1_ZERO_V1 = Table("v1 table 2: R1-Zero near step 8,400", _MATH_AND_CODE, {
    "R1-Zero": (71.0, 86.7, 95.9, 73.3, 50.0, 1444), "o1-mini": (63.6, 80.0, 90.0, 60.0, 53.8, 1820),
    "o1-0912": (74.4, 83.3, 94.8, 77.3, 63.4, 1843)})
DISTILLED = Table("v1 table 5; v2 table 15", _MATH_AND_CODE, {
    "Qwen-1.5B": (28.9, 52.7, 83.9, 33.8, 16.9, 954), "Qwen-7B": (55.5, 83.3, 92.8, 49.1, 37.6, 1189),
    "Qwen-14B": (69.7, 80.0, 93.9, 59.1, 53.1, 1481), "Qwen-32B": (72.6, 83.3, 94.3, 62.1, 57.2, 1691),
    "Llama-8B": (50.4, 80.0, 89.1, 49.0, 39.6, 1205), "Llama-70B": (70.0, 86.7, 94.5, 65.2, 57.5, 1633),
    "GPT-4o-0513": (9.3, 13.4, 74.6, 49.9, 32.9, 759), "Claude-3.5-Sonnet-1022": (16.0, 26.7, 78.3, 65.0, 38.9, 717),
    "o1-mini": (63.6, 80.0, 90.0, 60.0, 53.8, 1820), "QwQ-32B-Preview": (50.0, 60.0, 90.6, 54.5, 41.9, 1316)})
DISTILLED_OR_RL = Table("v1 table 6; v2 table 16: the same 32B base, taught by R1 or by RL", _MATH_AND_CODE[:-1], {
    "QwQ-32B-Preview": (50.0, 60.0, 90.6, 54.5, 41.9), "R1-Zero-Qwen-32B": (47.0, 60.0, 91.6, 55.0, 40.2),
    "R1-Distill-Qwen-32B": (72.6, 83.3, 94.3, 62.1, 57.2)})
SMALL_ZERO = Table("v2 table 17: pure RL on a base of 7B from before o1", ("AIME 2024", "AIME 2025"), {
    "Qwen2-Math-7B-Instruct": (7.9, 4.6), "Qwen2-Math-7B-Zero": (22.3, 18.1)})
RL_BY_SIZE = {"failed": ("7B dense", "16B MoE"), "learnt": ("32B dense", "230B MoE", "671B MoE")}       # v2 G.1: pure RL, judged on AIME

# ------------------------------------------------------------------------------------------------------------------------------------------
# The pipeline


@dataclass(frozen=True)
class Stage:
    """One model of the pipeline, and how it comes about.

    parent: the stage whose weights it starts from; None where they come from elsewhere.
    kind: what is done to these weights. how: "method: what it goes by".
    uses: the stages that it learns from besides -> what they give.
    """

    name: str
    parent: str | None
    title: str
    kind: Literal["pretraining", "SFT", "RL", "reward model"]
    data: str
    how: str
    in_the_paper: str
    uses: Mapping[str, str] = field(default_factory=dict)


PIPELINE = {stage.name: stage for stage in (
    Stage("base", None, "Base", "pretraining", "text of all kinds", "pretraining: next token",
          "DeepSeek-V3-Base, 671B parameters, 37B active"),
    Stage("zero", "base", "R1-Zero", "RL", "verifiable problems", "GRPO: accuracy + format", "R1-Zero, 10,400 steps"),
    Stage("v3", "base", "V3", "SFT", "general, short answers", "SFT: ordinary chat", "DeepSeek-V3"),
    Stage("dev1", "base", "R1 Dev1", "SFT", "readable long thinking", "SFT: cold start", "R1 Dev1, thousands of samples",
          uses={"zero": "samples, filtered and rewritten"}),
    Stage("dev2", "dev1", "R1 Dev2", "RL", "verifiable problems", "GRPO: rules + language", "R1 Dev2, until convergence"),
    Stage("dev3", "base", "R1 Dev3", "SFT", "right answers + chat", "SFT: the base again",
          "R1 Dev3, 600k reasoning and 200k other samples", uses={"dev2": "rejection sampling", "v3": "general data"}),
    Stage("rm_helpful", "dev3", "Helpful RM", "reward model", "judged pairs", "reward model: pairwise loss",
          "R1 with a scalar head, 66,000 pairs judged by V3", uses={"v3": "verdicts"}),
    Stage("rm_safe", "dev3", "Safety RM", "reward model", "safe or unsafe", "reward model: pointwise loss",
          "R1 with a scalar head, 106,000 labelled answers"),
    Stage("r1", "dev3", "R1", "RL", "all domains", "GRPO: rules + preference + language",
          "R1, 1,700 steps, preference in the last 400", uses={"rm_helpful": "preference", "rm_safe": "preference"}),
    Stage("distilled", None, "Distilled", "SFT", "R1's samples, no RL", "SFT: smaller bases",
          "R1-Distill: Qwen and Llama, 1.5B to 70B, on the 800k samples of Dev3's SFT", uses={"r1": "samples"}),
)}
