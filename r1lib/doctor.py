"""What can go wrong before a run begins: packages that are not those that ran together, no GPU, and a model that does not fit.

    python -m r1lib doctor --profile gpu+trl+vllm --base Qwen/Qwen2.5-1.5B
    print(examine("gpu"))

The memory is counted, part by part, with three constants for what training keeps of each token; these were read off measured runs of our
own trainer on an H200 (benchmarks/results/growth-cuda.json), of which the sum is within a fifth for models from 135 M parameters up. For
TRL and Unsloth the same constants are taken, which is an estimate and no measurement.
"""

import dataclasses
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

from r1lib import machine, paths, profiles, stages
from r1lib.errors import R1Error
from r1lib.sampling import vllm
from r1lib.training.unsloth import LoRA

Backend = Literal["ours", "trl", "unsloth"]

_KEPT_OF_HIDDEN, _KEPT_OF_INTERMEDIATE = 46, 8          # bytes of a token and layer, for each unit of the two widths
_KEPT_OF_SCORE = 20                                     # bytes of one attention score, where a mask keeps the fastest kernels out (ours)
_FIXED_GB = 0.5                                         # what torch, CUDA and their kernels take
_ROWS_AT_ONCE = 2048                                    # answers that our sampler draws at a time on a GPU
_PROMPT_TOKENS = 96
_MARGIN = 0.9                                           # of the memory that a plan may fill; allocators need the rest


# ------------------------------------------------------------------------------------------------------------------------------------------
# Memory

@dataclass(frozen=True)
class Shape:
    """A decoder-only model by its sizes, as its config.json names them. tied: the head is the embedding."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_size: int = 0
    tied: bool = True

    @classmethod
    def of(cls, config: Any) -> Self:
        """From a transformers config of a dense model with gated feed-forward layers (Qwen, Llama, Mistral, SmolLM)."""
        heads = config.num_attention_heads
        return cls(config.hidden_size, config.intermediate_size, config.num_hidden_layers, heads,
                   getattr(config, "num_key_value_heads", None) or heads, config.vocab_size, getattr(config, "head_dim", None) or 0,
                   bool(config.tie_word_embeddings))

    @property
    def head(self) -> int:
        return self.head_size or self.hidden // self.heads

    @property
    def linear(self) -> int:
        """Weights in the linear layers, the part that LoRA adapts and that four bits shrink."""
        return self.layers * (self.hidden * self.head * 2 * (self.heads + self.kv_heads) + 3 * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        """Without biases and norms, a thousandth of the whole."""
        return self.linear + self.hidden * self.vocabulary * (1 if self.tied else 2)


# Shapes by hub name, from the models' config.json, so that a plan can be made before anything is fetched.
SHAPES = {
    "HuggingFaceTB/SmolLM2-135M": Shape(576, 1536, 30, 9, 3, 49_152),
    "Qwen/Qwen2.5-0.5B": Shape(896, 4864, 24, 14, 2, 151_936),
    "Qwen/Qwen3-0.6B-Base": Shape(1024, 3072, 28, 16, 8, 151_936, head_size=128),
    "meta-llama/Llama-3.2-1B": Shape(2048, 8192, 16, 32, 8, 128_256, head_size=64),
    "Qwen/Qwen2.5-1.5B": Shape(1536, 8960, 28, 12, 2, 151_936),
    "Qwen/Qwen2.5-3B": Shape(2048, 11_008, 36, 16, 2, 151_936),
    "Qwen/Qwen2.5-7B": Shape(3584, 18_944, 28, 28, 4, 152_064, tied=False),
}


@dataclass(frozen=True)
class Load:
    """What GRPO asks of the memory: a recipe's numbers, and who trains.

    tokens_at_once: the recipe's tokens_per_micro_batch. gpu_gb: of one GPU, for vLLM, which takes a share of it.
    """

    backend: Backend = "ours"
    rollouts: str = ""
    answers: int = 512
    prompt_tokens: int = _PROMPT_TOKENS
    answer_tokens: int = 512
    tokens_at_once: int = 16_384
    reference: bool = False
    lora: LoRA = dataclasses.field(default_factory=LoRA)
    gpu_gb: float = 80.0


def memory(shape: Shape, load: Load) -> dict[str, float]:
    """What a training step holds at its largest, in GB (10^9 bytes): part -> size. In bfloat16 arithmetic with float32 weights."""
    full, token = shape.parameters, _kept(shape)
    row = load.prompt_tokens + load.answer_tokens
    rows = min(max((load.tokens_at_once - load.prompt_tokens) // load.answer_tokens, 1), load.answers)       # in a micro-batch
    at_once = load.prompt_tokens + rows * load.answer_tokens                       # answers of a group share their prompt
    parts = {"libraries": _FIXED_GB * 1e9}
    if load.backend == "unsloth":
        adapters = load.lora.rank * shape.layers * (2 * shape.hidden + 2 * shape.head * (shape.heads + shape.kv_heads)
                                                    + 2 * shape.hidden + 3 * (shape.hidden + shape.intermediate))
        frozen = 0.55 * shape.linear + 2 * (full - shape.linear) if load.lora.four_bit else 2 * full
        parts |= {"weights": 4 * full, "frozen copy": frozen, "LoRA and its optimizer": 16 * adapters,
                  "activations": at_once * (2 * shape.hidden * shape.layers + token / shape.layers)}          # each layer is computed again
    else:
        # With a single micro-batch, gradients take the place of activations, which go one by one as these come.
        gradients = 4 * full if rows < load.answers else max(4 * full - at_once * token, 0)
        parts |= {"weights": 4 * full, "gradients": gradients, "optimizer": 8 * full, "activations": at_once * token}
    if load.reference and load.backend != "unsloth":
        parts["reference"] = 4 * full
    if load.backend == "ours":
        parts["attention"] = _KEPT_OF_SCORE * shape.heads * rows * load.answer_tokens * row
    kv_token = 2 * shape.layers * shape.kv_heads * shape.head * 2
    if load.rollouts == "vllm":
        parts["vLLM"] = vllm.MEMORY * load.gpu_gb * 1e9
    elif not load.rollouts:
        drawn = min(load.answers, _ROWS_AT_ONCE) if load.backend == "ours" else load.answers
        parts["key/value cache"] = drawn * row * kv_token
        if load.backend == "ours":
            parts["sampler's weights"] = 2 * full
    return {name: size / 1e9 for name, size in parts.items()}


def _kept(shape: Shape) -> float:
    """Bytes that the backward pass needs of one token."""
    return shape.layers * (_KEPT_OF_HIDDEN * shape.hidden + _KEPT_OF_INTERMEDIATE * shape.intermediate)


def advice(shape: Shape, load: Load) -> list[str]:
    """What to change, in the order of what it costs, until the step fits into gpu_gb; empty if it fits as it is."""
    tried, said = load, []

    def fits() -> bool:
        return sum(memory(shape, tried).values()) <= _MARGIN * load.gpu_gb

    if fits():
        return []
    smaller = load.tokens_at_once
    row = load.prompt_tokens + load.answer_tokens
    while not fits() and smaller > row:
        smaller = max(smaller // 2, row)
        tried = dataclasses.replace(tried, tokens_at_once=smaller)
    said.append(f"tokens_per_micro_batch={smaller}: less memory at once, the same result, somewhat slower")
    if fits():
        return said
    if load.reference:
        tried = dataclasses.replace(tried, reference=False)
        said.append("beta=0: no reference model is kept")
        if fits():
            return said
    for four_bit in (False, True):
        if load.backend != "unsloth" or (four_bit and not load.lora.four_bit):
            tried = dataclasses.replace(tried, backend="unsloth", reference=False, lora=dataclasses.replace(load.lora, four_bit=four_bit))
            if fits():
                name, on = ("qlora", " on weights in four bits") if four_bit else ("unsloth", "")
                return [*said, f"LoRA{on} (profile gpu+{name}): a copy of the weights is frozen, and small matrices learn"]
    while not fits() and tried.answers > 64:
        tried = dataclasses.replace(tried, answers=tried.answers // 2)
        if fits():
            return [*said, f"LoRA (profile gpu+unsloth), and {tried.answers} answers a step: what is left is the key/value cache of all"]
    return [*said, "several GPUs (recipes/fsdp.yaml), or a smaller model: none of this is enough on one GPU"]


def shape_of(base: str) -> Shape:
    """The shape of a base model: one of data/, a folder with a config.json, or a hub name of `SHAPES`. `R1Error` for others."""
    from transformers import AutoConfig

    if base in SHAPES and not Path(base).exists():
        return SHAPES[base]
    folder = stages.base_folder(base)
    try:
        return Shape.of(AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True))
    except (OSError, ValueError, AttributeError) as error:
        raise R1Error(f"{folder}: its config.json tells no sizes of a language model ({str(error).splitlines()[0]}).") from None


# ------------------------------------------------------------------------------------------------------------------------------------------
# Packages

@dataclass(frozen=True)
class Package:
    """A pinned package and what is installed; "" where it is missing."""

    name: str
    locked: str
    installed: str

    @property
    def same(self) -> bool:
        return self.installed.split("+")[0] == self.locked


def packages(lock: Path) -> list[Package]:
    """Every pin of a requirements file beside the version that is installed here."""
    if not lock.is_file():
        raise R1Error(f"{lock}: there is no such file of pinned packages.")
    found = []
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), 1):
        if pin := line.split("#")[0].strip():
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", pin)
            if not match:
                raise R1Error(f"{lock}, row {number}: {pin!r} is no exact pin, write name==version.")
            found.append(Package(match[1], match[2], _installed(match[1])))
    return found


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


# ------------------------------------------------------------------------------------------------------------------------------------------
# The examination

@dataclass(frozen=True)
class Report:
    """What was found.

    faults: what keeps this profile from running here; notes: what is only worth knowing; parts: of the memory, in GB; available_gb: None
    where the profile asks for a GPU and there is none.
    """

    title: str
    machine: machine.Machine
    lock: str
    packages: tuple[Package, ...]
    parts: dict[str, float]
    available_gb: float | None
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        same = sum(package.same for package in self.packages)
        lines = [self.title, str(self.machine), "", f"packages: {same} of {len(self.packages)} are those of {self.lock}"]
        lines += [f"  {package.name:24} {package.installed or 'missing':18} locked {package.locked}"
                  for package in self.packages if not package.same]
        total = sum(self.parts.values())
        lines += ["", f"memory of a step: about {total:.2f} GB "
                  + (f"of {self.available_gb:.1f} GB" if self.available_gb else "(there is no GPU here to compare with)")]
        lines += [f"  {name:24} {size:8.2f} GB" for name, size in sorted(self.parts.items(), key=lambda part: -part[1])]
        lines += ["", *(f"FAULT: {fault}" for fault in self.faults), *(f"note: {note}" for note in self.notes)]
        return "\n".join([*lines, "Nothing stands in the way." if not self.faults else ""]).rstrip()


def examine(profile: str, *, base: str | None = None, stage: str = "zero", settings: dict[str, Any] | None = None,
            backend: Backend | None = None) -> Report:
    """Look at this machine with the eyes of a profile and a stage of it that learns by GRPO. `R1Error` for what is not known."""
    chosen, here = profiles.get(profile), machine.describe()
    backend, base = backend or chosen.backend, base or chosen.base
    _, recipe = stages.configure(stage, profile=profile, settings=settings)
    if not hasattr(recipe, "samples_per_prompt"):
        raise R1Error(f"stage {stage}: does not learn by GRPO, whose memory is estimated here; choose zero, dev2 or r1.")
    on_gpu = chosen.device == "cuda"
    available = here.memory_gb if not on_gpu else here.gpus[0][1] if here.gpus else None
    shape = shape_of(base)
    load = Load(backend=backend, rollouts=chosen.rollouts, lora=LoRA(four_bit=chosen.four_bit),
                answers=recipe.prompts_per_step * recipe.samples_per_prompt, answer_tokens=recipe.max_new_tokens,
                tokens_at_once=recipe.tokens_per_micro_batch, reference=bool(recipe.beta), gpu_gb=available or Load.gpu_gb)
    lock = paths.root() / ("requirements-gpu.txt" if on_gpu and (backend != "ours" or chosen.rollouts) else "requirements.txt")
    pins = packages(lock)
    faults, notes = [], []
    if on_gpu and not here.gpus:
        faults.append(f"profile {profile} needs a GPU, and torch sees none. Use profile cpu; or install torch's build for CUDA "
                      "(TORCH_INDEX=https://pypi.org/simple make run) and a driver.")
    needed = {"ours": ["torch", "transformers"], "trl": ["trl", "datasets"], "unsloth": ["unsloth", "trl", "peft"]}[backend]
    needed = needed + (["vllm"] if chosen.rollouts == "vllm" else []) + (["bitsandbytes"] if chosen.four_bit else [])
    if missing := [name for name in needed if not _installed(name)]:
        faults.append(f"{', '.join(missing)}: not installed. pip install -r {lock.name}, in an environment of its own.")
    if different := [package for package in pins if package.installed and not package.same]:
        notes.append(f"{len(different)} packages have another version than those that ran together; if something fails, begin here: "
                     f"pip install -r {lock.name}.")
    if len(here.gpus) > 1 and on_gpu:
        notes.append(f"{len(here.gpus)} GPUs share the work of GRPO with: torchrun --nproc-per-node {len(here.gpus)} -m r1lib run ..."
                     if backend == "ours" and not chosen.rollouts else
                     "several GPUs are visible to one process: start by accelerate (recipes/), or set CUDA_VISIBLE_DEVICES=0.")
    parts = memory(shape, load)
    change = advice(shape, load)
    if change and available:
        faults.append("the model with these settings will not fit. In this order: " + "; then ".join(change) + ".")
    title = f"profile {profile}, stage {stage}, base {base} ({shape.parameters / 1e6:,.1f} M parameters), backend {backend}"
    return Report(title, here, lock.name, tuple(pins), parts, available, tuple(faults), tuple(notes))
