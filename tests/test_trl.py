"""The trainings by TRL: the same recipes, problems, rewards and files as ours, on the CPU."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from test_grpo import Toys, often_stopping, small_letters

from r1lib import profiles, stages
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.rewards import Rewards
from r1lib.training import reward_model, sft, trl
from r1lib.training.grpo import GRPORecipe
from r1lib.training.metrics import MetricsLog
from r1lib.training.reward_model import Pair, RewardModel, RewardModelRecipe
from r1lib.training.sft import Example, SFTRecipe

RECIPE = GRPORecipe(steps=3, prompts_per_step=4, samples_per_prompt=4, max_new_tokens=10, learning_rate=3e-3, warmup_steps=2,
                    evaluate_every=2, checkpoint_every=1, rollouts_kept_per_step=6)


@pytest.fixture
def policy(tiny_policy: Policy) -> Policy:
    return often_stopping(tiny_policy)


def run(policy: Policy, folder: Path, *, recipe: GRPORecipe = RECIPE, reward=small_letters, seed: int = 0, **options):
    if trl.needs_a_gpu():
        pytest.skip("this TRL learns on a GPU alone")
    return trl.train(policy, problems=Toys(), reward=reward, recipe=recipe, folder=folder, seed=seed, **options)


def weights(policy: Policy | RewardModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.model.parameters()])


# ------------------------------------------------------------------------------------------------------------------------------------------
# One configuration

def test_a_recipe_in_trls_words() -> None:
    recipe = GRPORecipe(steps=5, prompts_per_step=8, samples_per_prompt=6, updates_per_rollout=2, max_new_tokens=40, beta=0.01,
                        aggregation="token", advantage_scale="none", tokens_per_micro_batch=600, temperature=0.7)
    made = trl._grpo_settings(recipe, 60)
    assert (made["max_steps"], made["num_generations"], made["max_completion_length"], made["temperature"]) == (10, 6, 40, 0.7)
    assert (made["loss_type"], made["scale_rewards"], made["beta"], made["use_bias_correction_kl"]) == ("dapo", "none", 0.01, False)
    assert (made["epsilon"], made["epsilon_high"], made["ref_model_sync_steps"]) == (0.2, 0.28, 800)
    # 24 answers an update, of which 600 / (60 + 40) fit at once
    assert (made["per_device_train_batch_size"], made["gradient_accumulation_steps"], made["steps_per_generation"]) == (6, 4, 8)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 500, 100_000])
def test_however_it_is_spread_a_step_has_its_answers(processes: int, micro: int) -> None:
    recipe = GRPORecipe(prompts_per_step=12, samples_per_prompt=5, updates_per_rollout=3, tokens_per_micro_batch=micro)
    made = trl._grpo_settings(recipe, 30, processes=processes)
    of_update = made["per_device_train_batch_size"] * made["gradient_accumulation_steps"] * processes
    assert of_update * 3 == 60 == made["per_device_train_batch_size"] * made["steps_per_generation"] * processes
    with pytest.raises(R1Error, match="prompts_per_step=12, but it must be a multiple of the 5 processes"):
        trl._grpo_settings(recipe, 30, processes=5)


@pytest.mark.parametrize(("rollouts", "wanted"), [
    ("generate", {}), ("vllm", {"vllm_mode": "colocate", "vllm_max_model_length": 99}),
    ("http://host:8000", {"vllm_mode": "server", "vllm_server_base_url": "http://host:8000"})])
def test_where_answers_come_from(rollouts: str, wanted: dict) -> None:
    made = trl._rollout_settings(rollouts, 99)
    assert wanted.items() <= made.items()
    assert made == {} or (made["vllm_importance_sampling_mode"], made["vllm_importance_sampling_clip_max"]) == ("token_truncate", 2.0)


def test_another_place_for_answers_is_refused() -> None:
    with pytest.raises(R1Error, match="rollouts='vlm': must be generate, vllm"):
        trl._rollout_settings("vlm", 99)


def test_trl_knows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that a new TRL has renamed would be left out with a line, and be missed here."""
    from trl import GRPOConfig

    settings = trl._grpo_settings(dataclasses.replace(RECIPE, beta=0.1), 30) | trl._rollout_settings("vllm", 64)
    assert trl._config(GRPOConfig, settings | dict(use_cpu=True, bf16=False)).beta == 0.1
    assert capsys.readouterr().out == ""
    assert trl._config(GRPOConfig, dict(use_cpu=True, bf16=False, max_prompt_length=5)).max_steps == -1
    assert "has no max_prompt_length: left out" in capsys.readouterr().out


def test_a_process_beside_several_gpus_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(lambda arguments: setattr(arguments, "_n_gpu", 2)))
    assert TrainingArguments(use_cpu=True).n_gpu == 2
    assert trl._config(TrainingArguments, dict(use_cpu=True)).n_gpu == 1


def test_profiles_choose_by_name() -> None:
    made = profiles.get("gpu+trl+vllm")
    assert (made.name, made.backend, made.rollouts, made.base) == ("gpu+trl+vllm", "trl", "vllm", profiles.get("gpu").base)
    assert profiles.get("cpu").backend == "ours"
    for name in ("cpu+tlr", "cpu+", "trl+cpu"):
        with pytest.raises(R1Error):
            profiles.get(name)


def test_a_missing_package_is_one_line(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("trl", "vllm") else found(name))
    with pytest.raises(R1Error, match="backend \"trl\" needs trl, which is not installed: pip install") as error:
        run(policy, tmp_path)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else found(name))
    with pytest.raises(R1Error, match="rollouts='vllm' needs vllm"):
        run(policy, tmp_path, rollouts="vllm")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------------------------------------
# GRPO

def test_a_trl_that_learns_on_a_gpu_alone_is_said_before_anything_is_made(policy: Policy, tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"trl": "1.15.0"}.__getitem__)
    with pytest.raises(R1Error, match="TRL 1.15.0 trains by GRPO on a GPU alone, and the model is on the CPU"):
        trl.train(policy, problems=Toys(), reward=small_letters, recipe=RECIPE, folder=tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()


def test_it_trains_and_leaves_what_ours_leaves(policy: Policy, tmp_path: Path) -> None:
    before, seen, measured = weights(policy), [], []
    history = run(policy, tmp_path, watchers=[seen.append], evaluate=lambda step: measured.append(step) or {"eval_accuracy": step / 10})
    assert (history.interrupted, history.reason, measured) == (False, None, [0, 2, 3])
    rows = MetricsLog(tmp_path / "metrics.jsonl").rows()
    assert [row["step"] for row in rows] == [0, 1, 2, 3] and seen == history.rows and len(rows) == 4
    assert [row.get("eval_accuracy") for row in rows] == [0.0, None, 0.2, 0.3]
    for row in rows[:3]:
        assert row["reward"] == pytest.approx(row["rewards/accuracy_reward/mean"] + row["rewards/format_reward/mean"], abs=1e-5)
        assert {"loss", "grad_norm", "entropy", "completions/mean_length", "completions/clipped_ratio", "frac_reward_zero_std",
                "num_tokens",
                "reflection", "language_mixing", "well_formed", "clip_ratio/high_mean", "step_time", "memory/peak_gb"} <= row.keys()
        assert row["backend"] == "trl" and not any("total" in name for name in row)
    assert not torch.equal(weights(policy), before)
    kept = MetricsLog(tmp_path / "rollouts.jsonl").rows()
    assert [row["step"] for row in kept] == [0] * 6 + [1] * 6 + [2] * 6
    asked = {problem.question for step in range(3) for problem in Toys().batch(step, 4)}
    assert {row["question"] for row in kept} <= asked and all(row["reward"] == sum(row["rewards"].values()) for row in kept)
    assert "forward" not in policy.model.__dict__ and not policy.model.training


def test_each_step_asks_its_own_problems_in_whole_groups(policy: Policy, tmp_path: Path) -> None:
    asked = []

    def reward(completions, columns):
        asked.append(columns["solution"])
        return small_letters(completions, columns)

    run(policy, tmp_path, recipe=dataclasses.replace(RECIPE, steps=2, updates_per_rollout=2), reward=reward)
    assert asked == [[problem.gold for problem in Toys().batch(step, 4) for _ in range(4)] for step in range(2)]
    rows = MetricsLog(tmp_path / "metrics.jsonl").rows()
    assert [row["step"] for row in rows] == [0, 1]          # a row a step, not one an update


def test_tags_that_are_special_tokens_are_seen(policy: Policy, tmp_path: Path) -> None:
    """TRL's own texts lack them."""
    policy.tokenizer.add_special_tokens({"additional_special_tokens": list("abcdefghijklmnopqrstuvwxyz")})
    texts = []

    def reward(completions, columns):
        texts.extend(completions)
        return Rewards([float(i % 2) for i in range(len(completions))], {})

    run(policy, tmp_path, recipe=dataclasses.replace(RECIPE, steps=1, max_new_tokens=40), reward=reward)
    assert any("a" <= letter <= "z" for answer in texts for letter in answer)


def test_it_stops_and_goes_on(policy: Policy, tmp_path: Path) -> None:
    def stop_once(row):
        if row["step"] == 0:
            (tmp_path / "STOP").touch()

    recipe = dataclasses.replace(RECIPE, steps=4)
    history = run(policy, tmp_path, recipe=recipe, watchers=[stop_once])
    assert history.interrupted and history.reason == "stopped by a STOP file after 2 of 4 steps"        # seen at the end of a step
    halfway = weights(policy)
    again = run(policy, tmp_path, recipe=recipe)
    assert not again.interrupted and [row["step"] for row in again.rows] == [0, 1, 2, 3]
    assert not torch.equal(weights(policy), halfway) and not (tmp_path / "STOP").exists()
    finished = run(policy, tmp_path, recipe=recipe)
    assert [row["step"] for row in finished.rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_an_update_that_ruins_the_weights_is_said(tmp_path: Path, name: str) -> None:
    state = type("State", (), {"global_step": 3})
    kept = trl._Run(RECIPE, tmp_path, 0, [], None, steps=3)
    with pytest.raises(R1Error, match=f"step 2: {name} is nan, and TRL has applied the update.*learning_rate below 0.003"):
        kept.on_log(None, state, None, {"loss": 0.1, "grad_norm": 1.0, name: float("nan")})
    assert kept.rows == []


def test_folders_of_other_runs_are_refused(policy: Policy, tmp_path: Path) -> None:
    run(policy, tmp_path / "a", recipe=dataclasses.replace(RECIPE, steps=1))
    with pytest.raises(R1Error, match="holds a run with seed=0, this one asks for 1"):
        run(policy, tmp_path / "a", recipe=dataclasses.replace(RECIPE, steps=1), seed=1)
    with pytest.raises(R1Error, match="holds a run with learning_rate=0.003, this one asks for 0.1"):
        run(policy, tmp_path / "a", recipe=dataclasses.replace(RECIPE, steps=1, learning_rate=0.1))
    (tmp_path / "b" / "state").mkdir(parents=True)
    with pytest.raises(R1Error, match="holds a run of another backend"):
        run(policy, tmp_path / "b")


def test_no_signal_is_said_at_once(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(R1Error, match="step 0: no signal"):
        run(policy, tmp_path / "a", reward=lambda completions, columns: Rewards([0.5] * len(completions), {}))
    policy.model.generation_config.eos_token_id = None
    with pytest.raises(R1Error, match="none of the answers ended within max_new_tokens=2"):
        run(policy, tmp_path / "b", recipe=dataclasses.replace(RECIPE, max_new_tokens=2, prompts_per_step=1, samples_per_prompt=2))


def test_a_stage_by_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if trl.needs_a_gpu():
        pytest.skip("this TRL learns on a GPU alone")
    """The whole way on the smallest base: trained, kept in plain form, and loaded the next time."""
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    settings = dict(steps=2, prompts_per_step=4, samples_per_prompt=8, max_new_tokens=48, evaluate_every=5)
    made = stages.run("zero", profile="smoke+trl", settings=settings)
    assert made.finished and made.folder == tmp_path / "smoke+trl" / "zero"
    assert [row["step"] for row in made.rows] == [0, 1, 2] and {"eval_accuracy"} <= made.rows[0].keys() & made.rows[2].keys()
    assert {"rewards/accuracy_reward/mean", "rewards/format_reward/mean"} <= made.rows[0].keys()
    again = stages.run("zero", profile="smoke+trl", settings=settings)
    assert again.loaded and torch.equal(weights(again.policy), weights(made.policy))
    assert json.loads((made.folder / "lineage.json").read_text())["finished"]
    assert not torch.equal(weights(made.policy), weights(Policy.load(stages.base_folder("base-0.4m"))))


# ------------------------------------------------------------------------------------------------------------------------------------------
# Fine-tuning and reward models: the first update is ours to the last bits that matter

EXAMPLES = [Example(f"{number} + 1 =", f" {number + 1}" + " then" * (number % 3), "toy") for number in range(6)]


@pytest.mark.parametrize("tokens", [10_000, 60])
def test_fine_tuning_is_ours(policy: Policy, tmp_path: Path, tokens: int) -> None:
    recipe = SFTRecipe(epochs=1, batch_size=6, learning_rate=1e-3, final_learning_rate=1e-3, warmup_steps=0, tokens_per_micro_batch=tokens)
    policy.save(tmp_path / "start")
    theirs, ours = (Policy.load(tmp_path / "start") for _ in range(2))
    by_trl = trl.fine_tune(theirs, examples=EXAMPLES, recipe=recipe, folder=tmp_path / "trl", seed=0)
    by_us = sft.train(ours, examples=EXAMPLES, recipe=recipe, folder=tmp_path / "ours", seed=0)
    assert len(by_trl.rows) == len(by_us.rows) == 1 and by_trl.rows[0]["examples/too_long"] == 0
    assert by_trl.rows[0]["loss"] == pytest.approx(by_us.rows[0]["loss"], rel=1e-4)
    assert by_trl.rows[0]["grad_norm"] == pytest.approx(by_us.rows[0]["grad_norm"], rel=1e-3)
    moved = weights(ours) - weights(policy)
    assert (weights(theirs) - weights(ours)).abs().mean() < 0.05 * moved.abs().mean()


def test_fine_tuning_goes_through_all_epochs(policy: Policy, tmp_path: Path) -> None:
    recipe = SFTRecipe(epochs=2, batch_size=4, evaluate_every=2, warmup_steps=1)
    history = trl.fine_tune(policy, examples=EXAMPLES, recipe=recipe, folder=tmp_path, seed=0, evaluate=lambda step: {"eval_accuracy": 1.0})
    assert [row["step"] for row in history.rows] == [0, 1, 2, 3, 4]
    assert [row["step"] for row in history.rows if "eval_accuracy" in row] == [0, 2, 4]


def test_reward_models_are_ours(policy: Policy, tmp_path: Path) -> None:
    pairs = [Pair(f"{number}?", f" yes {number}", " no" * (1 + number % 3)) for number in range(6)]
    recipe = RewardModelRecipe(epochs=1, batch_size=6, learning_rate=1e-3, final_learning_rate=1e-3, warmup_steps=0)
    theirs, ours, start = (RewardModel.from_policy(policy) for _ in range(3))
    by_trl = trl.train_pairs(theirs, pairs, recipe=recipe, folder=tmp_path / "trl", seed=0)
    by_us = reward_model.train_pairs(ours, pairs, recipe=recipe, folder=tmp_path / "ours", seed=0)
    assert by_trl.rows[0]["loss"] == pytest.approx(by_us.rows[0]["loss"], rel=1e-4)
    assert not torch.equal(weights(theirs), weights(start))
    assert (weights(theirs) - weights(ours)).abs().mean() < 0.05 * (weights(ours) - weights(start)).abs().mean()
    with pytest.raises(R1Error, match="pair 0: chosen and rejected are the same"):
        trl.train_pairs(theirs, [Pair("a", "b", "b")], recipe=recipe, folder=tmp_path / "x", seed=0)
