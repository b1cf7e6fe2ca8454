"""Profiles: every one of them can be run as it stands."""

import pytest

from r1lib import profiles, stages, tasks
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.training.grpo import GRPORecipe


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_is_whole(profile: profiles.Profile) -> None:
    assert profiles.get(profile.name) is profile and profiles.PROFILES[profile.name] is profile
    recipe = GRPORecipe.from_settings(profile.zero)
    assert {name: getattr(recipe, name) for name in profile.zero} == dict(profile.zero)
    assert profile.device in ("cpu", "cuda")
    assert profile.what_for and profile.held_out_samples >= 1 and profile.evaluation_samples >= 1
    assert (stages.base_folder(profile.base) / "model.safetensors").is_file()


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)
def test_a_prompt_and_its_answer_fit_into_the_base(profile: profiles.Profile) -> None:
    policy = Policy.load(stages.base_folder(profile.base))
    longest = max(map(len, policy.encode([problem.question for problem in tasks.evaluation_set("math")])))
    around = len(policy.encode([stages.evaluations.text.zero_prompt("")])[0])
    assert longest + around + GRPORecipe.from_settings(profile.zero).max_new_tokens <= policy.model.config.max_position_embeddings


def test_smoke_is_small_and_cpu_needs_no_gpu() -> None:
    smoke, cpu, gpu = (profiles.get(name) for name in ("smoke", "cpu", "gpu"))
    sizes = [recipe.steps * recipe.prompts_per_step * recipe.samples_per_prompt
             for recipe in (GRPORecipe.from_settings(profile.zero) for profile in (smoke, cpu, gpu))]
    assert sizes == sorted(sizes) and sizes[0] < 500
    assert (smoke.device, cpu.device, gpu.device) == ("cpu", "cpu", "cuda")
    assert cpu.evaluation_problems is gpu.evaluation_problems is None


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(R1Error, match="'laptop' is not known.*smoke, cpu, gpu"):
        profiles.get("laptop")
