"""The ablations differ in what they say they differ in, and what is found is kept."""

import json

import pytest

from r1lib import ablations, findings, paths, stages
from r1lib.errors import R1Error

NAMES = {"clip_narrow", "clip_default", "clip_default_minus_narrow", "length_short", "length_long", "long_minus_short", "grpo", "ppo",
         "grpo_minus_ppo", "group_small", "group_large"}


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_all_have_as_many_answers_steps_and_questions_of_one_kind(profile):
    recipes = {}
    for name, variation in ablations.VARIATIONS.items():
        stage, recipes[name] = stages.configure(variation.stage, profile=profile, settings=ablations.settings(name, profile=profile))
        assert stage.domains == ("math", "code", "logic")
    shared = {(recipe.steps, recipe.prompts_per_step * recipe.samples_per_prompt, recipe.learning_rate) for recipe in recipes.values()}
    assert len(shared) == 1
    plain = vars(recipes["plain"])
    for name, recipe in recipes.items():
        changed = {setting for setting, value in plain.items() if vars(recipe)[setting] != value}
        assert changed <= {*ablations.VARIATIONS[name].changes, "prompts_per_step"}


def test_what_is_not_known_is_named():
    with pytest.raises(R1Error, match="variation 'wide'.*clip_narrow"):
        ablations.settings("wide", profile="cpu")
    with pytest.raises(R1Error, match="variation 'wide'"):
        ablations.run("wide", profile="cpu")
    with pytest.raises(R1Error, match="profile"):
        ablations.settings("plain", profile="laptop")


def test_measured_once_and_read_afterwards(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    monkeypatch.setattr(ablations, "_SHARED", {"smoke": dict(answers=16, samples_per_prompt=8, steps=1, max_new_tokens=48)})
    monkeypatch.setattr(ablations, "_UPDATES", 2)
    changed = {name: {**variation.changes, **({"updates_per_rollout": 2} if "updates_per_rollout" in variation.changes else {})}
               for name, variation in ablations.VARIATIONS.items()}
    monkeypatch.setattr(ablations, "VARIATIONS", {name: ablations.Variation(variation.about, changed[name], variation.stage)
                                                  for name, variation in ablations.VARIATIONS.items()})
    found = ablations.measure(profile="smoke")
    assert found.keys() >= NAMES
    assert all(interval["low"] <= interval["value"] <= interval["high"] for interval in found.values())
    assert found["grpo"] == found["length_long"] == found["group_large"]
    assert found["grpo_minus_ppo"]["value"] == pytest.approx(found["grpo"]["value"] - found["ppo"]["value"])
    assert findings.read_all(paths.runs("smoke"))["ablations"]["findings"] == found
    made = json.loads((tmp_path / "smoke" / "ablations" / "ppo" / "lineage.json").read_text(encoding="utf-8"))
    assert made["stage"] == "zero_ppo" and made["recipe"]["gae_lambda"] == 1.0
    capfd.readouterr()
    assert ablations.measure(profile="smoke") == found
    assert "trained from" not in capfd.readouterr().out
