"""Profiles: every one of them can be run as it stands."""

import pytest

from r1lib import pipeline, profiles, stages, tasks, text
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.training.grpo import GRPORecipe

each_profile = pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)


@each_profile
def test_a_profile_is_whole(profile: profiles.Profile) -> None:
    """Its settings of every stage arrive where they belong: at the stage, or at its recipe."""
    assert profiles.get(profile.name) is profile and profiles.PROFILES[profile.name] is profile
    assert set(profile.settings) <= set(pipeline.STAGES)
    for name in pipeline.STAGES:
        stage, recipe = stages.configure(name, profile=profile.name)
        chosen = profile.settings.get(name, {})
        assert {key: getattr(stage if hasattr(stage, key) else recipe, key) for key in chosen} == dict(chosen)
    assert profile.device in ("cpu", "cuda")
    assert profile.what_for and min(profile.held_out_samples, profile.evaluation_samples, profile.table_samples) >= 1
    assert (stages.base_folder(profile.base) / "model.safetensors").is_file()


@each_profile
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
    smoke, cpu, gpu = (profiles.get(name) for name in ("smoke", "cpu", "gpu"))
    recipes = {name: [stages.configure(name, profile=profile.name)[1] for profile in (smoke, cpu, gpu)]
               for name, kind in pipeline.STAGES.items() if kind.recipe is GRPORecipe}
    for name, of_stage in recipes.items():
        sizes = [recipe.steps * recipe.prompts_per_step * recipe.samples_per_prompt for recipe in of_stage]
        assert sizes[0] < 500 and sizes[0] == min(sizes)
        assert name != "zero" or sizes == sorted(sizes)
    assert (smoke.device, cpu.device, gpu.device) == ("cpu", "cpu", "cuda")
    assert cpu.evaluation_problems is gpu.evaluation_problems is None


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(R1Error, match="'laptop' is not known.*smoke, cpu, gpu"):
        profiles.get("laptop")
