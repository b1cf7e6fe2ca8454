"""Profiles: every one of them can be run as it stands."""

import re

import pytest
import torch

from r1lib import ablations, doctor, machine, pipeline, profiles, stages, tasks, text, unsuccessful
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.training.grpo import GRPORecipe

each_profile = pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)
each_that_ships = pytest.mark.parametrize(
    "profile", [profile for profile in profiles.PROFILES.values() if profile.base.startswith("base-")], ids=lambda profile: profile.name)


@each_profile
def test_a_profile_is_whole(profile: profiles.Profile) -> None:
    """Its settings of every stage arrive where they belong: at the stage, or at its recipe."""
    assert profiles.get(profile.name) == profile == profiles.PROFILES[profile.name] or profile.name == "gpu" and torch.cuda.is_available()
    assert set(profile.settings) <= set(pipeline.STAGES)
    for name in pipeline.STAGES:
        stage, recipe = stages.configure(name, profile=profile.name)
        chosen = profile.settings.get(name, {})
        assert {key: getattr(stage if hasattr(stage, key) else recipe, key) for key in chosen} == dict(chosen)
    assert profile.device in ("cpu", "cuda")
    assert profile.what_for and min(profile.held_out_samples, profile.evaluation_samples, profile.table_samples) >= 1
    assert unsuccessful.plan(profile.name).problems and ablations.settings("plain", profile=profile.name)["steps"]


@each_that_ships
def test_its_base_is_there(profile: profiles.Profile) -> None:
    assert (stages.base_folder(profile.base) / "model.safetensors").is_file()


@each_that_ships
def test_a_prompt_and_its_answer_fit_into_the_base(profile: profiles.Profile) -> None:
    """Whatever is asked, in the plain prompt and in the chat's, by every stage that samples; and the longest example of fine-tuning."""
    policy = Policy.load(stages.base_folder(profile.base))
    asked = [prompt(problem.question) for name in tasks.EVALUATION_SETS for problem in tasks.evaluation_set(name)
             for prompt in (text.zero_prompt, text.chat_prompt)]
    longest, positions = max(map(len, policy.encode(asked))), policy.model.config.max_position_embeddings
    assert longest + profile.answer_tokens <= positions
    for name in pipeline.STAGES:
        _, recipe = stages.configure(name, profile=profile.name)
        assert longest + getattr(recipe, "max_new_tokens", 0) <= positions
        assert getattr(recipe, "max_tokens", 0) <= positions


@each_profile
def test_a_precision_is_the_profiles_where_a_stage_has_none_of_its_own(profile: profiles.Profile) -> None:
    for name in pipeline.STAGES:
        own = profile.settings.get(name, {}).get("precision", profile.precision)
        assert stages.configure(name, profile=profile.name)[1].precision == own
    assert stages.configure("zero", profile=profile.name, settings={"precision": "float32"})[1].precision == "float32"


def test_smoke_is_small_and_cpu_needs_no_gpu() -> None:
    smoke, cpu, gpu = (profiles.get(name) for name in ("smoke", "cpu", "gpu+miniature"))
    recipes = {name: [stages.configure(name, profile=profile.name)[1] for profile in (smoke, cpu, gpu)]
               for name, kind in pipeline.STAGES.items() if kind.recipe is GRPORecipe}
    for name, of_stage in recipes.items():
        sizes = [recipe.steps * recipe.prompts_per_step * recipe.samples_per_prompt for recipe in of_stage]
        assert sizes[0] < 500 and sizes[0] == min(sizes)
        assert name != "zero" or sizes == sorted(sizes)
    assert (smoke.device, cpu.device, gpu.device) == ("cpu", "cpu", "cuda")
    assert cpu.evaluation_problems is gpu.evaluation_problems is None


@pytest.mark.parametrize("profile", [profile for profile in profiles.PROFILES.values() if not profile.base.startswith("base-")],
                         ids=lambda profile: profile.name)
def test_whatever_starts_from_a_language_model_learns_in_its_small_steps(profile: profiles.Profile) -> None:
    """The miniature's rate would ruin it, in the experiments beside the road to R1 as well. Students are bases of the miniature."""
    def rate(name: str) -> float:
        return stages.configure(name, profile=profile.name)[1].learning_rate

    rl = {name for name, kind in pipeline.STAGES.items() if issubclass(kind.recipe, GRPORecipe)
          and not kind.student and not pipeline.STAGES.get(kind.parent, kind).student}
    assert {"zero", "dev2", "r1", "r1_hacked", "prm_rl", "zero_ppo"} <= rl
    assert {rate(name) for name in rl} == {rate("zero")} and rate("zero") <= 5e-5
    assert {rate(name) for name in ("v3", "dev1", "dev3", "rm_helpful", "rm_safe")} == {rate("dev1")} and rate("dev1") <= 1e-4


def test_an_unknown_profile_lists_the_known_ones() -> None:
    for name in ("laptop", "laptop+trl", "gpu+small", "smollm2", "trl", "+"):
        with pytest.raises(R1Error, match=re.escape(f"profile {name!r} is not known: choose one of smoke, cpu, gpu, gpu+smollm2, gpu+m")):
            profiles.get(name)


def test_behind_a_profile_stands_who_trains_and_who_draws() -> None:
    found = profiles.get("gpu+smollm2+trl+vllm")
    assert (found.name, found.base, found.backend, found.rollouts) == ("gpu+smollm2+trl+vllm", profiles.SMOLLM2, "trl", "vllm")
    assert found == profiles.get("gpu+trl+smollm2+vllm").__class__(**{**vars(profiles.get("gpu+trl+smollm2+vllm")), "name": found.name})
    assert [(profiles.get(name).backend, profiles.get(name).four_bit) for name in ("cpu", "cpu+trl", "gpu+unsloth", "gpu+qlora")] == [
        ("ours", False), ("trl", False), ("unsloth", False), ("unsloth", True)]
    assert unsuccessful.plan("cpu+trl") == unsuccessful.plan("cpu")
    assert ablations.settings("short", profile="gpu+smollm2+trl") == ablations.settings("short", profile="gpu+smollm2")


@pytest.mark.parametrize(("memory_gb", "base"), [(15.8, "0.5B"), (24, "0.5B"), (40, "0.5B"), (48, "0.5B"), (80, "1.5B"), (141, "1.5B")])
def test_a_gpu_gets_the_largest_model_that_it_can_train(memory_gb: float, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda: memory_gb)
    profile = profiles.get("gpu+trl")
    assert profile.base == f"Qwen/Qwen2.5-{base}" and profile.name == "gpu+trl"
    for name in ("zero", "dev2", "r1"):
        _, recipe = stages.configure(name, profile="gpu")
        load = doctor.Load(answers=recipe.prompts_per_step * recipe.samples_per_prompt, answer_tokens=recipe.max_new_tokens,
                           tokens_at_once=recipe.tokens_per_micro_batch, gpu_gb=memory_gb)
        assert doctor.advice(doctor.SHAPES[profile.base], load) == []


def test_without_a_gpu_the_larger_model_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda: None)
    assert profiles.get("gpu") == profiles.PROFILES["gpu"] and profiles.get("gpu").base == "Qwen/Qwen2.5-1.5B"
