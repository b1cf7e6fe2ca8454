"""How our sampler and trainer grow with the number of answers, their length and the model: numbers and a picture.

    python -m benchmarks growth                     # on a GPU if there is one: results/growth-cuda.json and .png, otherwise -cpu
    python -m benchmarks growth --only 1.5b length  # the points of which all of these words are true; the others stay as they are

One point is the median of up to three repetitions after a first one that warms up, of fewer where one takes longer than `PATIENCE`, and
that first one alone where it takes longer than `LONG`. In each, all answers are as long as each other. Random weights, but for the
miniature: speed does not depend on what a model knows.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks import workload
from r1lib import machine
from r1lib.report import board
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.training import grpo

RESULTS = Path(__file__).parent / "results"
NAMES = {"base-3m": "3 M", "135m": "135 M", "0.5b": "0.5 B", "1.5b": "1.5 B"}
MODELS = {"cuda": ("base-3m", "135m", "0.5b", "1.5b"), "cpu": ("base-3m",)}
BATCHES = {"cuda": (32, 128, 512, 2048), "cpu": (32, 128, 512)}            # answers of `SHORT` tokens
LENGTHS = {"cuda": (256, 1024, 4096, 8192), "cpu": (64, 256, 512)}         # of `FEW` answers
SHORT = {"cuda": 256, "cpu": 64}
FEW = {"cuda": 64, "cpu": 32}
GROUP = 8                                                                   # answers to a prompt
PATIENCE = 4.0                                                              # seconds after which a point is not repeated again
LONG = 30.0                                                                 # ... and of which warming up is so little that one is enough
Point = dict[str, Any]


def points(device: str) -> Iterator[tuple[str, int, int]]:
    """(over what, answers, tokens) of each point."""
    yield from (("batch", answers, SHORT[device]) for answers in BATCHES[device])
    yield from (("length", FEW[device], tokens) for tokens in LENGTHS[device])


def measure(device: str, only: Sequence[str] = ()) -> list[Point]:
    """The points for which all words of `only` are true, written to results/ as they come; one that does not fit into the memory says so
    and has no numbers. Points that were not asked for stay, and must be of the same machine."""
    file = RESULTS / f"growth-{device}.json"
    name = workload.machine_name(device)
    asked = [{"over": over, "model": model, "answers": answers, "tokens": tokens} for model in MODELS[device]
             for over, answers, tokens in points(device)]
    asked = [point for point in asked if all(word in map(str, point.values()) for word in only)]
    old = json.loads(file.read_text(encoding="utf-8")) if only and file.exists() else []
    made = {_place(point): point for point in old}
    for point in made.values():
        if point["machine"] != name:
            raise SystemExit(f"{file.name} was measured on {point['machine']}, and this is {name}: leave out --only, to measure all of it")
    for point in asked:
        measured = point | {"machine": name}
        try:
            measured |= _point(point["model"], device, point["answers"], point["tokens"])
        except torch.OutOfMemoryError as error:
            measured["error"] = str(error).splitlines()[0]
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        made[_place(point)] = measured
        print(json.dumps(measured), flush=True)
        file.write_text(json.dumps(list(made.values()), indent=1) + "\n", encoding="utf-8")
    return list(made.values())


def _place(point: Point) -> tuple:
    """Where a point lies in the picture."""
    return tuple(point[key] for key in ("over", "model", "answers", "tokens"))


def _point(model: str, device: str, answers: int, tokens: int) -> Point:
    """Tokens/s of the rollout, seconds of the learning and of the whole step, and the most memory held."""
    policy = workload.load(model, device, endless=True)
    policy.model.config.max_position_embeddings = 16_384          # rotary angles know no limit; the miniature was made for 1,024
    recipe = grpo.GRPORecipe(prompts_per_step=answers // GROUP, samples_per_prompt=GROUP, max_new_tokens=tokens, learning_rate=1e-6,
                             tokens_per_micro_batch=16_384 if device == "cuda" else 4096,
                             precision="bfloat16" if device == "cuda" else "float32")
    sampler = TorchSampler(policy, dtype=getattr(torch, recipe.precision))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-6, fused=True)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    sampling, learning = [], []
    for repetition in range(4):
        started = time.perf_counter()
        rollouts = sampler.sample(workload.prompts(answers // GROUP), GROUP, SamplingSettings(tokens), seed=repetition)
        sampled = time.perf_counter()
        workload.learn(policy, optimizer, rollouts, recipe, repetition)           # reads its numbers back, so all of it is timed
        sampling.append(sampled - started)
        learning.append(time.perf_counter() - sampled)
        if sampling[-1] + learning[-1] > (PATIENCE if repetition else LONG):
            break
    if len(sampling) > 1:
        sampling, learning = sampling[1:], learning[1:]
    held = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else machine.peak_memory_gb()
    return {"rollout": round(answers * tokens / statistics.median(sampling)), "learn": round(statistics.median(learning), 4),
            "step": round(statistics.median(map(sum, zip(sampling, learning, strict=True))), 4), "repetitions": len(sampling),
            "peak_gb": round(held, 2)}


# ------------------------------------------------------------------------------------------------------------------------------------------
# The picture

def draw(made: list[Point], file: Path) -> None:
    """Two rows, writing and learning, over the number of answers and over their length; a line for each model."""
    made = [point for point in made if "error" not in point]
    models = list(dict.fromkeys(point["model"] for point in made))
    figure = Figure(figsize=(13, 8), layout="constrained")
    board.entitle(figure, _finding(made, models), 16)
    panels = figure.subplots(2, 2, sharey="row")
    rows: tuple[tuple[str, Callable[[Point], float]], ...] = (
        ("writing, tokens/s", lambda point: point["rollout"]), ("one GRPO step, seconds", lambda point: point["step"]))
    for (ylabel, value), row in zip(rows, panels, strict=True):
        for axes, over, x in zip(row, ("batch", "length"), ("answers", "tokens"), strict=True):
            here = [point for point in made if point["over"] == over]
            for model, colour, mark in zip(models, (board.BLUE, board.GREEN, board.PURPLE, board.ORANGE), "osD^", strict=False):
                line = [point for point in here if point["model"] == model]
                axes.plot([point[x] for point in line], [value(point) for point in line], color=colour, marker=mark, linewidth=2.2,
                          markersize=7, label=NAMES[model])
            other, unit = ("tokens", "tokens each") if x == "answers" else ("answers", "answers")
            axes.set(xscale="log", yscale="log", xlabel=f"{'answers' if x == 'answers' else 'tokens of an answer'} "
                                                        f"({here[0][other]} {unit})")
            ticks = sorted({point[x] for point in here})
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
            axes.tick_params(labelsize=11)
            axes.xaxis.label.set_size(12)
            axes.grid(color=board.GRID)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(ylabel, fontsize=13)
    panels[0][0].legend(fontsize=12, frameon=False, ncols=2, loc="best")
    file.write_bytes(board.png(figure))


def _finding(made: list[Point], models: list[str]) -> str:
    line = {point["answers"]: point["rollout"] for point in made if point["over"] == "batch" and point["model"] == models[0]}
    fewest, most = min(line), max(line)
    return (f"{made[0]['machine']}: {most // fewest} times as many answers, {line[most] / line[fewest]:.0f} times the tokens/s "
            f"({NAMES[models[0]]} parameters)")


def main(only: Sequence[str] = ()) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    draw(measure(device, only), RESULTS / f"growth-{device}.png")
