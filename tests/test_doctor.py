"""The doctor: memory counted against measured runs, what it advises, packages beside their pins, and its one report."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from r1lib import doctor, machine, paths, stages
from r1lib.__main__ import main
from r1lib.doctor import SHAPES, Load, Shape
from r1lib.errors import R1Error
from r1lib.policy import Policy

MEASURED = json.loads((paths.root() / "benchmarks" / "results" / "growth-cuda.json").read_text(encoding="utf-8"))
BENCHMARKED = {"135m": Shape(576, 1536, 30, 9, 3, 49_152), "0.5b": Shape(896, 4864, 24, 14, 2, 49_152),
               "1.5b": Shape(1536, 8960, 28, 12, 2, 49_152)}


def total(shape: Shape, load: Load) -> float:
    return sum(doctor.memory(shape, load).values())


# ------------------------------------------------------------------------------------------------------------------------------------------
# Memory

@pytest.mark.parametrize("row", [row for row in MEASURED if row["model"] in BENCHMARKED],
                         ids=lambda row: f"{row['model']}-{row['answers']}x{row['tokens']}")
def test_the_count_is_what_was_measured(row: dict) -> None:
    """Steps of ours on one H200, in micro-batches of 16,384 tokens."""
    load = Load(answers=row["answers"], prompt_tokens=64, answer_tokens=row["tokens"], tokens_at_once=16_384)
    assert total(BENCHMARKED[row["model"]], load) == pytest.approx(row["peak_gb"], rel=0.2)


def test_there_are_measured_runs() -> None:
    assert sum(row["model"] in BENCHMARKED for row in MEASURED) >= 20


@pytest.mark.parametrize("name", ["base-0.4m", "base-3m"])
def test_a_shape_counts_the_parameters(name: str) -> None:
    policy = Policy.load(stages.base_folder(name))
    shape = doctor.shape_of(name)
    assert shape == Shape.of(policy.model.config)
    assert shape.parameters == pytest.approx(sum(parameter.numel() for parameter in policy.model.parameters()), rel=0.02)


@pytest.mark.parametrize(("name", "millions"), [
    ("HuggingFaceTB/SmolLM2-135M", 134.5), ("Qwen/Qwen2.5-0.5B", 494), ("Qwen/Qwen3-0.6B-Base", 596), ("meta-llama/Llama-3.2-1B", 1236),
    ("Qwen/Qwen2.5-1.5B", 1544), ("Qwen/Qwen2.5-3B", 3086), ("Qwen/Qwen2.5-7B", 7616)])
def test_known_shapes_have_their_published_size(name: str, millions: float) -> None:
    assert SHAPES[name].parameters / 1e6 == pytest.approx(millions, rel=0.002)


def test_each_setting_shows_in_its_part() -> None:
    shape, load = SHAPES["Qwen/Qwen2.5-0.5B"], Load()
    plain = doctor.memory(shape, load)

    def of(part: str, **changes: object) -> float:
        return doctor.memory(shape, dataclasses.replace(load, **changes)).get(part, 0.0)

    assert of("activations", tokens_at_once=8192 + 48) == pytest.approx(plain["activations"] / 2, rel=0.06)
    assert of("gradients", answers=4) < plain["gradients"] == plain["weights"]                   # a single micro-batch
    assert of("key/value cache", answers=1024) == 2 * plain["key/value cache"]
    assert of("key/value cache", answers=4096) == of("key/value cache", answers=2048)            # our sampler draws in waves
    assert of("reference", reference=True) == plain["weights"] and "reference" not in plain
    assert of("vLLM", backend="trl", rollouts="vllm", gpu_gb=40.0) == 12 and of("key/value cache", rollouts="vllm") == 0
    assert of("optimizer", backend="unsloth") == 0
    four, sixteen = (of("frozen copy", backend="unsloth", lora=doctor.LoRA(four_bit=four_bit)) for four_bit in (True, False))
    assert four < 0.6 * sixteen == pytest.approx(0.6 * 2 * shape.parameters / 1e9)


def test_advice_until_it_fits() -> None:
    half, seven = SHAPES["Qwen/Qwen2.5-0.5B"], SHAPES["Qwen/Qwen2.5-7B"]
    assert doctor.advice(half, Load(gpu_gb=140)) == []
    small = doctor.advice(half, Load(gpu_gb=24, tokens_at_once=65_536))
    assert len(small) == 1 and small[0].startswith("tokens_per_micro_batch=")
    fitting = Load(gpu_gb=24, tokens_at_once=int(small[0].split("=")[1].split(":")[0]))
    assert doctor.advice(half, fitting) == [] and doctor.advice(half, dataclasses.replace(fitting, tokens_at_once=65_536)) == small
    assert any("beta=0" in step for step in doctor.advice(half, Load(gpu_gb=13, reference=True)))
    assert "LoRA" in doctor.advice(seven, Load(gpu_gb=80))[-1]
    assert "several GPUs" in doctor.advice(seven, Load(gpu_gb=16))[-1]


def test_a_base_that_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(R1Error, match="base model 'base-9m' is neither"):
        doctor.shape_of("base-9m")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(R1Error, match="config.json tells no sizes"):
        doctor.shape_of(str(tmp_path))


# ------------------------------------------------------------------------------------------------------------------------------------------
# Packages

def test_packages_beside_their_pins(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"# a remark\ntorch=={torch.__version__.split('+')[0]}\n\npytest==0.0.1      # another\nnot-a-package==1.0\n")
    same, other, missing = doctor.packages(lock)
    assert same.same and not other.same and other.installed and (missing.installed, missing.same) == ("", False)
    lock.write_text("torch>=2\n")
    with pytest.raises(R1Error, match="row 1: 'torch>=2' is no exact pin"):
        doctor.packages(lock)
    with pytest.raises(R1Error, match="no such file of pinned packages"):
        doctor.packages(tmp_path / "other.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt"])
def test_every_pin_of_the_project_is_exact(name: str) -> None:
    pins = doctor.packages(paths.root() / name)
    assert len(pins) > 10 and len({package.name for package in pins}) == len(pins)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The report

def with_gpus(monkeypatch: pytest.MonkeyPatch, *gpus: tuple[str, float]) -> None:
    here = dataclasses.replace(machine.describe(), gpus=gpus)
    monkeypatch.setattr(machine, "describe", lambda: here)
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda: gpus[0][1] if gpus else None)


def test_two_cores_are_enough_for_the_miniature() -> None:
    report = doctor.examine("cpu")
    assert report.faults == () and report.lock == "requirements.txt" and report.available_gb == machine.describe().memory_gb
    assert str(report).endswith("Nothing stands in the way.") and "packages:" in str(report)


def test_no_gpu_and_no_packages_are_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch)
    monkeypatch.setattr(doctor, "_installed", lambda name: "" if name in ("vllm", "trl") else "1.0")
    report = doctor.examine("gpu+trl+vllm", base="Qwen/Qwen2.5-1.5B")
    assert len(report.faults) == 2 and "needs a GPU, and torch sees none" in report.faults[0]
    assert report.faults[1].startswith("trl, vllm: not installed. pip install -r requirements-gpu.txt")
    assert report.available_gb is None and "no GPU here to compare with" in str(report)


def test_a_card_that_is_too_small_is_said_with_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, ("Tesla T4", 15.6))
    for fits in ("gpu", "gpu+miniature"):
        assert doctor.examine(fits).faults == () and doctor.examine(fits).available_gb == 15.6
    assert "base Qwen/Qwen2.5-0.5B" in doctor.examine("gpu").title
    large = doctor.examine("gpu+miniature", base="Qwen/Qwen2.5-0.5B")
    assert len(large.faults) == 1 and "will not fit" in large.faults[0] and "tokens_per_micro_batch=" in large.faults[0]
    with_gpus(monkeypatch, ("NVIDIA H200", 150.0))
    assert doctor.examine("gpu+miniature", base="Qwen/Qwen2.5-0.5B", settings={"tokens_per_micro_batch": 16_384}).faults == ()


def test_several_gpus_in_one_process_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, ("NVIDIA H100", 80.0), ("NVIDIA H100", 80.0))
    assert any("accelerate" in note for note in doctor.examine("gpu+trl").notes)
    assert not any("accelerate" in note for note in doctor.examine("gpu").notes)
    assert any("torchrun --nproc-per-node 2" in note for note in doctor.examine("gpu").notes)
    assert not any("torchrun" in note for note in doctor.examine("cpu").notes)


def test_only_stages_that_sample_and_learn_can_be_examined() -> None:
    with pytest.raises(R1Error, match="stage dev1: does not learn by GRPO"):
        doctor.examine("cpu", stage="dev1")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--profile", "cpu"]) == 0
    assert "memory of a step" in capsys.readouterr().out
    assert main(["doctor", "--profile", "cpu", "--base", "Qwen/Qwen2.5-7B"]) == 1
    assert "FAULT: the model with these settings will not fit" in capsys.readouterr().out
    assert main(["doctor", "--profile", "laptop"]) == 2
