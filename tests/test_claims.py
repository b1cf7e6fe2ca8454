"""Every rule in all directions on made-up numbers, and claims that are data about evidence there can be."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1lib import pipeline, stages
from r1lib.claims import CLAIMS, VERDICTS, Rule, exceeds, falls, gains_nothing, grows, keeps, needs_a_real_model, parts_ways, rises

NOTEBOOKS = {"04_r1_zero", "05_the_aha_moment", "06_cold_start", "07_reasoning_rl", "08_rejection_sampling", "09_all_scenarios_rl",
             "10_distillation", "11_evaluation", "12_unsuccessful_attempts", "13_scaling_up"}
# What the experiments promise to find.
FINDINGS = {
    "aha": "reflection_base reflection_zero reflection_ratio search_reflection_base search_reflection_zero structural_checks_base "
           "structural_checks_zero accuracy_with_reflection_zero accuracy_without_reflection_zero reflection_helps_zero wrong_to_right "
           "right_to_wrong forced_wait_gain",
    "distillation": "base_1m base_04m distill_1m distill_04m zero_1m zero_04m distill_1m_rl distill_minus_zero_1m distill_minus_zero_04m "
                    "rl_after_distill_gain gain_1m gain_04m bigger_gains_more zero_small_gain zero_3m_gain transfer_64 transfer_256 "
                    "transfer_all",
    "evaluation": "pass1_base pass1_zero pass1_r1 pass1_v3 passk_base passk_zero cons_zero cons_minus_pass1_zero pass1_r1_minus_zero "
                  "general_r1_minus_zero general_r1_minus_v3 winrate_r1_vs_v3 winrate_dev3_vs_v3 winrate_r1_vs_dev3 length_level1_zero "
                  "length_level5_zero length_hard_minus_easy_zero zero_shot_r1 few_shot_r1 few_minus_zero_shot_r1 template_changed_r1 "
                  "json_r1 chinese_zero english_zero mixing_base mixing_zero easy_first",
    "unsuccessful": "pass1_r1 best_of_n_prm best_of_n_random majority best_of_n_oracle prm_step_accuracy prm_rl_reward_gain "
                    "prm_rl_accuracy_gain mcts best_of_n_at_mcts_tokens mcts_minus_best_of_n",
    "ablations": "clip_narrow clip_default clip_default_minus_narrow length_short length_long long_minus_short grpo ppo grpo_minus_ppo "
                 "group_small group_large"}
MEASURES = {"pass@1", "pass@k", "cons@k", "mean_length", "reflection", "language_mixing"}


def interval(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(("rule", "measured", "verdict"), [
    (rises(0.02), (0.10, 0.05, 0.15), "reproduced"),
    (rises(0.02), (0.02, 0.001, 0.04), "reproduced"),                  # just large enough, just clear
    (rises(0.02), (0.10, -0.05, 0.25), "partly"),                      # large, not clear
    (rises(0.02), (0.10, 0.0, 0.2), "partly"),                         # the interval touches 0
    (rises(0.02), (0.01, 0.005, 0.015), "partly"),                     # clear, not large
    (rises(0.02), (0.01, -0.05, 0.07), "not reproduced"),
    (rises(0.02), (-0.10, -0.3, 0.1), "not reproduced"),
    (rises(0.02), (-0.10, -0.15, -0.05), "not reproduced"),
    (rises(0.02), (0.0, 0.0, 0.0), "not reproduced"),
    (rises(0.02), (0.10, None, None), "partly"),                       # without an interval it could be anything
    (rises(0.02), (0.01, None, None), "not reproduced"),
    (falls(0.02), (-0.10, -0.15, -0.05), "reproduced"),
    (falls(0.02), (-0.10, -0.25, 0.05), "partly"),
    (falls(0.02), (-0.01, -0.015, -0.005), "partly"),
    (falls(0.02), (-0.01, -0.05, 0.04), "not reproduced"),
    (falls(0.02), (0.10, 0.05, 0.15), "not reproduced"),
    (falls(0.02), (-0.10, None, None), "partly"),
    (grows(5), (6.0, 5.5, 6.5), "reproduced"),
    (grows(5), (6.0, 2.0, 10.0), "reproduced"),
    (grows(5), (3.0, 2.0, 4.0), "partly"),                             # grows, but not as much
    (grows(5), (6.0, 0.5, 12.0), "partly"),                            # perhaps as much, perhaps not at all
    (grows(5), (1.2, 0.8, 1.6), "not reproduced"),
    (grows(5), (0.5, 0.4, 0.6), "not reproduced"),
    (exceeds(0.5), (0.6, 0.52, 0.68), "reproduced"),
    (exceeds(0.5), (0.6, 0.45, 0.75), "partly"),
    (exceeds(0.5), (0.5, 0.4, 0.6), "not reproduced"),
    (exceeds(0.5), (0.4, 0.3, 0.48), "not reproduced"),
    (exceeds(0.5), (0.9, None, None), "partly"),
    (keeps(0.03), (0.0, -0.02, 0.02), "reproduced"),
    (keeps(0.03), (0.2, 0.1, 0.3), "reproduced"),                      # better still
    (keeps(0.03), (0.0, -0.05, 0.05), "partly"),
    (keeps(0.03), (-0.05, -0.12, 0.02), "not reproduced"),
    (keeps(0.03), (-0.10, -0.15, -0.05), "not reproduced"),
    (keeps(0.03), (0.0, None, None), "partly"),
    (gains_nothing(0.03), (-0.05, -0.1, 0.0), "reproduced"),
    (gains_nothing(0.03), (0.01, 0.005, 0.02), "reproduced"),          # clear, but not worth it
    (gains_nothing(0.03), (0.0, -0.05, 0.05), "partly"),
    (gains_nothing(0.03), (0.10, 0.05, 0.15), "not reproduced"),
    (gains_nothing(0.03), (-0.10, None, None), "partly"),
])
def test_a_rule_in_all_directions(rule: Rule, measured: tuple, verdict: str) -> None:
    assert rule.judge(interval(*measured)) == verdict


UP, UP_PERHAPS, DOWN, DOWN_PERHAPS = (0.2, 0.1, 0.3), (0.1, -0.1, 0.3), (-0.2, -0.3, -0.1), (-0.1, -0.3, 0.1)


@pytest.mark.parametrize(("true", "paid", "verdict"), [
    (DOWN, UP, "reproduced"), (DOWN, UP_PERHAPS, "partly"), (DOWN_PERHAPS, UP, "partly"), (DOWN_PERHAPS, UP_PERHAPS, "partly"),
    (DOWN, DOWN, "not reproduced"), (DOWN, DOWN_PERHAPS, "not reproduced"), (UP, UP, "not reproduced"), (UP, DOWN, "not reproduced"),
    (UP_PERHAPS, UP, "not reproduced"), ((0.0, 0.0, 0.0), UP, "not reproduced"), (DOWN, (0.1, None, None), "partly")])
def test_hacking_is_two_curves_apart(true: tuple, paid: tuple, verdict: str) -> None:
    """A quality that falls while the reward falls as well is a failed optimisation, not a hacked reward."""
    assert parts_ways().judge(interval(*true), interval(*paid)) == verdict


def test_what_needs_a_real_model_is_said_by_rule() -> None:
    assert needs_a_real_model().judge() == "needs a real model"


SCALE = ("not reproduced", "partly", "reproduced")
numbers = st.floats(-1, 1, allow_nan=False)
widths = st.floats(0, 1, allow_nan=False)


@given(numbers, widths, widths, st.floats(0, 1, allow_nan=False))
@pytest.mark.parametrize("rule", [rises(0.05), falls(0.05), exceeds(0.5), keeps(0.03), gains_nothing(0.03), grows(1.2)],
                         ids=["rises", "falls", "exceeds", "keeps", "gains_nothing", "grows"])
def test_more_on_the_papers_side_is_never_judged_worse(rule: Rule, value: float, below: float, above: float, shift: float) -> None:
    before = interval(value, value - below, value + above)
    after = {name: bound + rule.side * shift for name, bound in before.items()}
    assert SCALE.index(rule.judge(after)) >= SCALE.index(rule.judge(before))


@given(numbers, widths, widths)
def test_falls_is_the_mirror_of_rises(value: float, below: float, above: float) -> None:
    up, down = interval(value, value - below, value + above), interval(-value, -value - above, -value + below)
    assert rises(0.1).judge(up) == falls(0.1).judge(down)


def test_there_are_enough_claims_and_each_has_a_name_of_its_own() -> None:
    assert len(CLAIMS) >= 24 and len({claim.name for claim in CLAIMS}) == len({claim.title for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_is_whole(claim) -> None:
    assert claim.text.endswith(".") and claim.source and claim.paper and claim.notebook in NOTEBOOKS and claim.tests
    assert 8 <= len(claim.title) <= 44
    for test in claim.tests:
        assert test.rule.sentence and bool(test.evidence) == (test.rule.judge.__qualname__.split(".")[0] != "needs_a_real_model")


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.theirs], ids=lambda claim: claim.name)
def test_the_paper_reproduces_itself(claim) -> None:
    """Its own number, taken as if it had been measured here, is judged as reproduced: no rule asks for more than the paper has."""
    low, high = claim.theirs
    assert claim.tests[0].rule.judge(interval((low + high) / 2, low, high)) == "reproduced"


def evidence() -> list[str]:
    return sorted({part for claim in CLAIMS for test in claim.tests for name in test.evidence for part in name.split(" minus ")})


@pytest.mark.parametrize("name", evidence())
def test_evidence_is_something_that_can_be_measured(name: str) -> None:
    experiment, _, rest = name.partition("/")
    if experiment in FINDINGS:
        assert rest in FINDINGS[experiment].split()
    elif experiment == "curves":
        assert rest.split("/")[0] in pipeline.STAGES
    else:
        metric, models = rest.rsplit("/", 1)
        assert experiment in ("stages", "zero")
        assert metric in stages.SCORES if experiment == "stages" else set(metric.split(" - ")) <= MEASURES
        assert set(models.replace(" : ", " - ").split(" - ")) <= {"base", *pipeline.STAGES}


def test_a_claim_cannot_be_changed_after_the_run() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLAIMS[0].tests = ()
    assert set(VERDICTS) >= set(SCALE)
