"""Our sampler: plain torch, as fast as two cores or a GPU allow, in one file for both.

Where `model.generate` and serving engines lose their time, and what is done here instead:
- `generate` grows the key/value cache by copying it at every token; ours is allocated once and written in place;
- a prompt is run and stored once, not once per answer, and its answers attend to it in one matrix product;
- key/value heads are not repeated until there are as many as query heads; the query heads that share one are rows of a matrix product;
- answers that have ended leave the batch, and the last ones move into the gaps;
- what would be ten small operations is one: a kernel in C on a CPU (`native.py`), in triton on a GPU (`triton.py`);
- on a GPU a step is recorded once and then replayed (a CUDA graph): its kernels start without Python or a scheduler between.

A token is drawn by inverting the distribution function at one uniform number, which belongs to (seed, prompt, sample, step) alone. So an
answer does not depend on the answers that are computed beside it, on `max_rows`, or on when its neighbours end. (Matrix products of another
size round differently in the last bit, which moves one draw in some ten thousand. The same call gives the same tokens to the last bit.)
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from r1lib import seeds
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.sampling import Rollout, SamplingSettings, native

_SHAPES = ("qwen2", "qwen3", "llama")      # the model types whose blocks `_Network` computes


@dataclass(frozen=True)
class _Habits:
    """What suits a device.

    rows: how many answers at a time.
    exact: shapes follow the answers token by token. A GPU replays recordings of fixed shapes, so there are to be few of them: rows are
        halved when half of them have ended, down to `fewest_rows`; slots come in multiples of `slots`, prompts in multiples of `width`.
    copied: prompts up to this width are copied to each answer after all: one kernel then does for a short prompt what else takes ten.
    few: so few rows are given copies, too: they have little to share, and their steps are all overhead.
    look_every: after how many tokens answers that have ended may leave. Asking a GPU which have ended makes it wait.
    """

    rows: int
    exact: bool = True
    look_every: int = 1
    fewest_rows: int = 1
    slots: int = 1
    width: int = 1
    copied: int = 0
    few: int = 0


_HABITS = {"cpu": _Habits(512, few=48), "cuda": _Habits(2048, exact=False, look_every=8, fewest_rows=64, slots=64, width=32, copied=256)}
_BATCHES_KEPT = 2                          # on a GPU, with their recordings: one for training, one for evaluation


class TorchSampler:
    """Samples from `policy.model` as it is at the moment of the call.

    max_rows: how many answers are computed at a time; bounds the memory, changes no answer. None: what suits the device.
    dtype: the arithmetic, when it is not the model's own: bfloat16 for a model that is trained in float32 on a GPU.
    """

    def __init__(self, policy: Policy, max_rows: int | None = None, dtype: torch.dtype | None = None) -> None:
        self.policy, self.max_rows, self.dtype = policy, max_rows, dtype
        self._network: _Network | None = None
        self._batches: dict[tuple, _Batch] = {}

    @torch.inference_mode()
    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int, first: int = 0) -> list[Rollout]:
        """`samples` answers to each prompt, prompt by prompt: sample j of prompt i is at [i * samples + j].

        first: the place of the first prompt among more that are answered in several calls. Each draws then as it would among all.
        """
        network, prompt_ids = self._ready(), self.policy.encode(prompts)
        for index, ids in enumerate(prompt_ids):
            if not ids:
                raise R1Error(f"prompt {index} is empty: there is nothing to answer.")
            if len(ids) + settings.max_new_tokens > network.longest:
                raise R1Error(f"prompt {index} has {len(ids)} tokens, and max_new_tokens={settings.max_new_tokens} goes beyond the "
                              f"{network.longest} that the model was made for: shorten the prompt or lower max_new_tokens.")
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompt_ids[index]))     # so that little of a wave is padding
        rows = [(index, sample) for index in by_length for sample in range(samples)]
        stops = sorted(self.policy.stop_ids)
        rollouts: dict[tuple[int, int], Rollout] = {}
        at_once = self.max_rows or network.habits.rows
        for start in range(0, len(rows), at_once):
            wave = rows[start:start + at_once]
            streams = [(first + index, sample) for index, sample in wave]
            uniform = seeds.uniform("sample", seed, streams=streams, steps=settings.max_new_tokens, device=network.device)
            batch = self._batch(prompt_ids, [index for index, _ in wave], settings, stops)
            answers = batch.answer(uniform)
            texts = self.policy.decode_all([ids for ids, _, _ in answers])
            for (index, sample), (ids, logprobs, finished), text in zip(wave, answers, texts, strict=True):
                rollouts[index, sample] = Rollout(index, prompt_ids[index], ids, logprobs, text, finished)
        return [rollouts[index, sample] for index in range(len(prompts)) for sample in range(samples)]

    def _ready(self) -> "_Network":
        """The network with the model's weights of this moment, in the same memory as before, which is what recordings read."""
        model, dtype = self.policy.model, self.dtype or self.policy.model.dtype
        _require_known(model)
        if self._network is None or not self._network.belongs_to(model, dtype):
            self._network, self._batches = _Network(model, dtype), {}
        self._network.refresh()
        return self._network

    def _batch(self, prompt_ids: list[list[int]], asked: list[int], settings: SamplingSettings, stops: list[int]) -> "_Batch":
        """A batch that answers these prompts, `asked` naming each row's: one of those kept, if a recording of it can be replayed."""
        places = {index: place for place, index in enumerate(dict.fromkeys(asked))}
        habits = self._network.habits
        width = _up(max(len(prompt_ids[index]) for index in places), habits.width)
        line = max(Counter(asked).values())
        key = (len(asked), len(places), line, width, settings, tuple(stops))
        batch = self._batches.pop(key, None)
        if batch is None:
            while len(self._batches) >= _BATCHES_KEPT:
                del self._batches[next(iter(self._batches))]
            batch = _Batch(self._network, len(asked), len(places), line, width, settings, stops)
        if not habits.exact:
            self._batches[key] = batch
        batch.load([prompt_ids[index] for index in places], [places[index] for index in asked])
        return batch


# ------------------------------------------------------------------------------------------------------------------------------------------
# The network

def _require_known(model: torch.nn.Module) -> None:
    """An `R1Error` for a model whose arithmetic is not what `_Network` computes."""
    config = model.config
    if config.model_type not in _SHAPES:
        raise R1Error(f"TorchSampler reads models of type {', '.join(_SHAPES)}, not {config.model_type}: use another sampler.")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise R1Error("TorchSampler attends to all that came before, this model to a sliding window: use another sampler.")
    if model.model.rotary_emb.rope_type in ("dynamic", "longrope"):
        raise R1Error("TorchSampler takes rotary angles as fixed, in this model they depend on the length: use another sampler.")


class _Weights:
    """The weights of linear layers that read the same input, side by side as one, or any other weight, in memory of its own.

    A weight that is alone and already of the right type is the model's own tensor: then there is nothing to refresh.
    """

    def __init__(self, sources: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.sources, self.parts = sources, []
        if len(sources) == 1 and sources[0].dtype == dtype:
            self.tensor = sources[0]
            return
        lengths = [len(source) for source in sources]
        self.tensor = torch.empty(sum(lengths), *sources[0].shape[1:], dtype=dtype, device=sources[0].device)
        self.parts = list(self.tensor.split(lengths))

    def refresh(self) -> None:
        for part, source in zip(self.parts, self.sources, strict=False):
            part.copy_(source)


def _kernels(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, dim: int,
             vocabulary: int) -> native.Kernels | ModuleType | None:
    """What `sampling.native` compiles, or `sampling.triton`, where they can be used for heads of this size."""
    if device.type == "cpu" and dtype == torch.float32:
        return native.kernels(heads, kv_heads, dim, vocabulary)
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    from r1lib.sampling import triton

    return triton if triton.works(device, dtype, heads, kv_heads, dim) else None


def _places(model: torch.nn.Module) -> list[tuple[torch.device, torch.dtype, int]]:
    """Where each weight lies, and as what."""
    return [(weight.device, weight.dtype, weight.data_ptr()) for weight in model.parameters()]


class _Network:
    """The model's weights and arithmetic, without what training needs. Layers that read the same input are joined into one product."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        config = model.config
        self.model, self.dtype, self.device = model, dtype, model.device
        self.habits = _HABITS.get(self.device.type, _HABITS["cpu"])
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.smallest_square = torch.tensor(self.eps)
        self.cpu_float32 = self.device.type == "cpu" and dtype == torch.float32
        self.longest = config.max_position_embeddings
        self._kept: list[_Weights] = []
        self.embedding = self._keep(model.model.embed_tokens.weight)
        self.head = self.embedding if model.lm_head.weight is model.model.embed_tokens.weight else self._keep(model.lm_head.weight)
        self.vocabulary = len(self.head)
        self.kernels = _kernels(self.device, dtype, self.heads, self.kv_heads, self.dim, self.vocabulary)
        self.final_norm, self.rotary = self._keep(model.model.norm.weight), model.model.rotary_emb
        self.layers = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            self.layers.append((
                self._keep(layer.input_layernorm.weight), self._join(attention.q_proj, attention.k_proj, attention.v_proj),
                [self._keep(getattr(attention, norm).weight) for norm in ("q_norm", "k_norm") if hasattr(attention, norm)],
                self._join(attention.o_proj), self._keep(layer.post_attention_layernorm.weight),
                self._joined(mlp.gate_proj, mlp.up_proj), self._join(mlp.down_proj)))
        self._places = _places(model)

    def _keep(self, *sources: Tensor) -> Tensor:
        self._kept.append(_Weights(sources, self.dtype))
        return self._kept[-1].tensor

    def _joined(self, *linears: torch.nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the one linear map that gives the outputs of these, side by side."""
        bias = None if linears[0].bias is None else self._keep(*(linear.bias for linear in linears))
        return self._keep(*(linear.weight for linear in linears)), bias

    def _join(self, *linears: torch.nn.Linear) -> Callable[..., Tensor]:
        """That map; with a second argument, what its outputs are added to."""
        weight, bias = self._joined(*linears)

        def linear(x: Tensor, residual: Tensor | None = None) -> Tensor:
            if residual is None:
                return F.linear(x, weight, bias)
            return (residual if bias is None else residual.add_(bias)).addmm_(x, weight.T)       # in its place: nothing is copied

        return linear

    def belongs_to(self, model: torch.nn.Module, dtype: torch.dtype) -> bool:
        """Whether this is that model's network, and its weights lie where they lay."""
        return model is self.model and dtype == self.dtype and _places(model) == self._places

    def refresh(self) -> None:
        """Take over what training has done to the weights."""
        for weights in self._kept:
            weights.refresh()

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary angles for positions 0 to length - 1, each [length, 1, dim], with any scaling that the model has.

        The first half of the sines is negated: (a, b) turns into (a cos - b sin, b cos + a sin).
        """
        cos, sin = self.rotary(self.embedding, torch.arange(length, device=self.device)[None])
        sin = torch.cat([-sin[..., :self.dim // 2], sin[..., self.dim // 2:]], dim=-1)
        return cos[0, :, None], sin[0, :, None]

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        if not self.cpu_float32:
            return F.rms_norm(x, (x.shape[-1],), weight, self.eps)
        if self.kernels:
            return self.kernels.norm(x, weight, self.eps)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)         # five operations, of which `rms_norm` makes nine on a CPU
        return (x * torch.addcmul(self.smallest_square, length, length, value=1 / x.shape[-1]).rsqrt_()).mul_(weight)

    def halves(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """A linear map of x [tokens, inputs], the first and the second half of its outputs apart: [2, tokens, outputs / 2].

        On a CPU a product of two batches, one for each core: a product of few rows and many outputs, which the library splits by itself,
        takes up to twice as long.
        """
        if not self.cpu_float32:
            return F.linear(x, weight, bias).unflatten(-1, (2, -1)).transpose(0, 1)
        both = torch.bmm(x.expand(2, *x.shape), weight.unflatten(0, (2, -1)).mT)
        return both if bias is None else both.add_(bias.view(2, 1, -1))

    def hidden(self, ids: Tensor, attend: Callable[[int, Tensor], Tensor]) -> Tensor:
        """[tokens] ids -> [tokens, hidden size] behind the last norm.

        attend(layer, joint queries, keys and values [tokens, heads + 2 * kv_heads, dim], not turned yet) -> [tokens, heads * dim].
        """
        x = self.embedding[ids]
        for index, (norm, qkv, _, out, mlp_norm, gate_up, down) in enumerate(self.layers):
            x = out(attend(index, qkv(self.norm(x, norm)).view(len(x), -1, self.dim)), x)
            x = down(self.gated(self.norm(x, mlp_norm), *gate_up), x)
        return self.norm(x, self.final_norm)

    def gated(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The gated linear unit of x [tokens, hidden size]; weight and bias give gate and up side by side."""
        both = self.halves(x, weight, bias)
        if self.kernels:
            return self.kernels.gated(both)
        gate, up = both
        return F.silu(gate, inplace=True).mul_(up)

    def turned(self, layer: int, joint: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [tokens, heads, dim], keys and values [tokens, 2, kv_heads, dim], turned by their rotary angles [tokens, 1, dim]."""
        turning, qk_norms = joint[:, :self.heads + self.kv_heads], self.layers[layer][2]
        if qk_norms:                                              # Qwen3 norms each head
            parts = turning.split([self.heads, self.kv_heads], dim=1)
            turning.copy_(torch.cat([self.norm(part, weight) for part, weight in zip(parts, qk_norms, strict=True)], dim=1))
        turned = turning.roll(self.dim // 2, dims=-1)             # the halves of a head are the coordinates that turn
        turning.mul_(cos).addcmul_(turned, sin)
        return joint[:, :self.heads], joint[:, self.heads:].unflatten(1, (2, self.kv_heads))

    def logits(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden size] -> [tokens, vocabulary], float32."""
        if self.vocabulary % 2:
            return F.linear(hidden, self.head).float()
        return self.halves(hidden, self.head).transpose(0, 1).flatten(1).float()


# ------------------------------------------------------------------------------------------------------------------------------------------
# A batch of answers

class _Batch:
    """Answers that are written together, one token a step.

    Keys and values lie in two tensors [layer, key or value, prompt or row, kv head, slot, dim]. `prompt_memory` holds each prompt once,
    padded on the right, and all answers to it read it there. `own_memory` holds what each row has written so far, its token of step t in
    slot t. The rows still being written fill the first places, in any order; of `prompts`, too, the first are those still read. (With
    kernels only the rows' names move: their memory, and the prompts, stay where they are.)

    All that a step reads and writes is allocated once, because a recording replays on the very same memory. What changes from step to step
    but not from replay to replay are the sizes: how many rows are written and how many slots are attended to.
    """

    def __init__(self, network: _Network, rows: int, prompts: int, line: int, width: int, settings: SamplingSettings,
                 stop_ids: list[int]) -> None:
        self.network, self.settings, self.width, device = network, settings, width, network.device
        steps, layers, kv_heads, dim = settings.max_new_tokens, len(network.layers), network.kv_heads, network.dim
        new = partial(torch.zeros, device=device)
        self.cos, self.sin = network.tables(width + steps)
        copied = not network.kernels and (width <= network.habits.copied or rows <= network.habits.few)
        self.copied = width if copied else 0                                  # slots of a row that hold a copy of its prompt
        self.prompt_memory = new(layers, 2, prompts, kv_heads, width, dim, dtype=network.dtype)
        # Exact shapes read no slot before it is written. Others do, and hide it by a weight of 0: it must hold numbers, for 0 * nan is nan.
        own = torch.empty if network.habits.exact else torch.zeros
        self.own_memory = own(layers, 2, rows, kv_heads, _up(self.copied + steps, 8), dim, dtype=network.dtype, device=device)
        self.bias = new(prompts, width, dtype=network.dtype)                 # -inf on a prompt's padding
        self.stops = new(network.vocabulary, dtype=torch.bool)
        self.stops[stop_ids] = True
        # of the row in each place: the answer it writes, its prompt, its length and its latest token; and whether it has ended
        self.answer_of, self.prompt, self.length, self.ids = (new(rows, dtype=torch.long) for _ in range(4))
        self.ended = new(rows, dtype=torch.bool)
        self.step = new(1, dtype=torch.long)                                 # the token that is drawn next, and the slot of the one before
        self.place, self.row_at = new(rows, dtype=torch.long), new(prompts * line, dtype=torch.long)
        self.all_ids, self.all_logprobs = new(rows, steps, dtype=torch.long), new(rows, steps)
        self.uniform = new(rows, steps, dtype=torch.float64)
        self.recordings: dict[tuple[int, ...], torch.cuda.CUDAGraph | None] = {}

    def load(self, prompts: list[list[int]], prompt: list[int]) -> None:
        """Begin anew with these prompts; `prompt` says which of them each answer continues."""
        device = self.network.device
        self.rows, self.prompts = len(prompt), len(prompts)
        self.prompt_ids = torch.tensor([id for ids in prompts for id in ids], device=device)      # end to end, without pads
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        pads = torch.arange(self.width, device=device) >= lengths[:, None]
        self.prompt_place, self.prompt_end = (~pads).nonzero(as_tuple=True), lengths.cumsum(0) - 1
        self.prompt.copy_(torch.tensor(prompt))
        self.length.copy_(lengths[self.prompt])
        self.padded = not self.network.habits.exact or min(map(len, prompts)) < self.width
        self.prompt_memory.zero_()                                            # pads stay so
        self.bias.zero_().masked_fill_(pads, float("-inf"))
        self.answer_of.copy_(torch.arange(self.rows))
        self.ended.zero_()
        self.step.zero_()
        self.line = 0
        if not self.network.kernels:
            self.line_up()

    def answer(self, uniform: Tensor) -> list[tuple[list[int], list[float], bool]]:
        """Write all answers: (ids, log-probabilities, finished) of each. uniform: [answers, max_new_tokens], their random numbers."""
        habits, steps = self.network.habits, self.settings.max_new_tokens
        jump = _up(math.ceil(steps / 8), habits.slots) if not habits.exact else 1           # at most eight sizes, so eight recordings
        self.uniform.copy_(uniform)
        self.draw(self.read_prompts())
        written = 1
        while written < steps:
            if written % habits.look_every == 0 or habits.exact:
                going = self.rows - int(self.ended[:self.rows].sum())
                if not going:
                    break
                self.shrink(going if habits.exact else self._half(going))
            self.write(steps if self.network.kernels else min(steps, _up(written, jump)))
            written += 1
        stopped = self.stops[self.all_ids[:, :written]]
        finished = stopped.any(dim=1)
        lengths = torch.where(finished, stopped.int().argmax(dim=1) + 1, written)
        real = torch.arange(written, device=lengths.device) < lengths[:, None]
        ids, logprobs = self.all_ids[:, :written][real].tolist(), self.all_logprobs[:, :written][real].tolist()
        ends = lengths.cumsum(0).tolist()
        return [(ids[start:end], logprobs[start:end], done)
                for start, end, done in zip([0, *ends[:-1]], ends, finished.tolist(), strict=True)]

    def draw(self, logits: Tensor) -> None:
        """Draw the next token of each row and note it; logits: [rows, vocabulary]."""
        answer, kernels = self.answer_of[:self.rows], self.network.kernels
        if kernels and not self.settings.top_k and self.settings.top_p == 1:
            return kernels.draw(logits, self.uniform, answer, self.step, self.settings.temperature, self.ids, self.all_ids,
                                self.all_logprobs, self.ended, self.stops)
        ids, logprobs = draw(logits, self.uniform[answer, self.step], self.settings)
        self.all_ids[answer, self.step], self.all_logprobs[answer, self.step] = ids, logprobs
        self.ids[:self.rows] = ids
        self.ended[:self.rows] |= self.stops[ids]

    def write(self, slots: int) -> None:
        """Take one more token of each row into the memory and draw the next; on a GPU, replay the recording of just this."""
        if self.network.device.type != "cuda":
            return self.write_now(slots)
        key = (self.rows, slots)
        if key not in self.recordings:                             # the first time for real: libraries set themselves up then
            self.recordings[key] = None
            return self.write_now(slots)
        if self.recordings[key] is None:
            self.recordings[key] = graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool()):
                self.write_now(slots)
        self.recordings[key].replay()

    def _pool(self) -> tuple[int, int] | None:
        """Recordings are never replayed at the same time, so all may use the same memory for what lies between."""
        return next((graph.pool() for graph in list(self.recordings.values())[:-1] if graph is not None), None)

    def write_now(self, slots: int) -> None:
        logits = self.read(self.ids[:self.rows], slots)
        self.step += 1
        self.draw(logits)

    def read_prompts(self) -> Tensor:
        """Compute each prompt once; the logits of every row's first token: [rows, vocabulary]."""
        place, position = self.prompt_place, self.prompt_place[1]
        cos, sin = self.cos[position], self.sin[position]

        def attend(layer: int, joint: Tensor) -> Tensor:
            queries, memory = self.network.turned(layer, joint, cos, sin)
            # Only attention sees pads. They are on the right, hidden from the prompt by the causal mask and from the answers by `bias`.
            self.prompt_memory[layer].permute(1, 3, 0, 2, 4)[place] = memory
            q = queries.new_zeros(self.prompts, self.width, *queries.shape[1:])
            q[place] = queries
            attended = F.scaled_dot_product_attention(q.transpose(1, 2), *self.prompt_memory[layer], is_causal=True, enable_gqa=True)
            return attended.transpose(1, 2)[place].view(len(queries), -1)

        hidden = self.network.hidden(self.prompt_ids, attend)
        if self.copied:
            self.own_memory[..., :self.width, :] = self.prompt_memory[:, :, self.prompt]
        return self.network.logits(hidden[self.prompt_end])[self.prompt]

    def read(self, ids: Tensor, slots: int) -> Tensor:
        """Take in one more token of each row, attending to so many of its own slots; the logits of the next: [rows, vocabulary]."""
        if self.network.kernels:
            return self.network.logits(self.network.hidden(ids, self.attention_in_one_kernel()))
        position = self.length[:self.rows] + self.step
        cos, sin = self.cos[position], self.sin[position]
        attention = (self.attention_to_copies if self.copied else self.attention_in_two_parts)(slots)

        def attend(layer: int, joint: Tensor) -> Tensor:
            return attention(layer, *self.network.turned(layer, joint, cos, sin))

        return self.network.logits(self.network.hidden(ids, attend))

    def attention_in_one_kernel(self) -> Callable[[int, Tensor], Tensor]:
        """The kernel finds by itself what there is of a row's prompt and of its own slots: no copies, no masks, no sizes to record."""
        network = self.network

        def attend(layer: int, joint: Tensor) -> Tensor:
            return network.kernels.attend(
                joint, self.cos, self.sin, self.prompt_memory[layer], self.own_memory[layer], self.prompt, self.length, self.answer_of,
                self.step, heads=network.heads, norms=network.layers[layer][2], eps=network.eps)

        return attend

    def attention_to_copies(self, slots: int) -> Callable[[int, Tensor, Tensor], Tensor]:
        """Where each row holds its prompt in its first slots, all that it sees lies in one place."""
        network, rows = self.network, self.rows
        kv_rows, slots = rows * network.kv_heads, self.copied + slots
        if not network.habits.exact:
            slots = min(_up(slots, 8), self.own_memory.shape[4])
        own = self.own_memory[:, :, :rows, :, :slots]
        note, rows_memory = self.note(own), own.flatten(2, 3)                                  # [layer, 2, kv_rows, slots, dim]
        keys, values = rows_memory[:, 0].mT.unbind(), rows_memory[:, 1].unbind()
        hidden = F.pad(self.bias[self.prompt[:rows]], (0, slots - self.copied))                # -inf on pads
        if not network.habits.exact:                                                           # and on what is not written yet
            hidden.masked_fill_(torch.arange(slots, device=hidden.device) > self.step + self.copied, float("-inf"))
        hidden = hidden.repeat_interleave(network.kv_heads, 0)[:, None]

        def attend(layer: int, queries: Tensor, memory: Tensor) -> Tensor:
            note(layer, memory)
            q = queries.reshape(kv_rows, -1, network.dim)
            scores = torch.baddbmm(hidden, q, keys[layer], alpha=network.dim ** -0.5)
            return torch.bmm(torch.softmax(scores, dim=-1), values[layer]).view(rows, -1)

        return attend

    def attention_in_two_parts(self, slots: int) -> Callable[[int, Tensor, Tensor], Tensor]:
        """The scores on the prompt, which a row shares with its siblings, and on its own slots, under one softmax."""
        network, rows = self.network, self.rows
        kv_rows = rows * network.kv_heads
        own = self.own_memory[:, :, :rows, :, :slots]
        shared = self.prompt_memory[:, :, :self.prompts].flatten(2, 3)                         # [layer, 2, prompts * kv_heads, width, dim]
        note, rows_memory = self.note(own), own.flatten(2, 3)                                  # [layer, 2, kv_rows, slots, dim]
        own_keys, own_values = rows_memory[:, 0].mT.unbind(), rows_memory[:, 1].unbind()       # one view a layer, made once a token
        prompt_keys, prompt_values = shared[:, 0].mT.unbind(), shared[:, 1].unbind()
        on_pads = self.bias[:self.prompts].repeat_interleave(network.kv_heads, 0)[:, None] if self.padded else None
        on_unwritten = None
        if not network.habits.exact:
            on_unwritten = torch.where(torch.arange(slots, device=own.device) > self.step, float("-inf"), 0.0).to(network.dtype)

        def attend(layer: int, queries: Tensor, memory: Tensor) -> Tensor:
            note(layer, memory)
            q = queries * network.dim ** -0.5
            on_prompt = torch.bmm(self.by_prompt(q), prompt_keys[layer])
            if on_pads is not None:
                on_prompt += on_pads
            on_own = torch.bmm(q.view(kv_rows, -1, network.dim), own_keys[layer]).view(rows, -1, slots)
            if on_unwritten is not None:
                on_own += on_unwritten
            scores = torch.cat([self.by_row(on_prompt), on_own], dim=-1)                           # [rows, heads, width + slots]
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
            for_prompt, for_own = weights.split([self.width, slots], dim=-1)
            from_own = torch.bmm(for_own.reshape(kv_rows, -1, slots), own_values[layer]).view(rows, -1)
            from_prompt = self.by_row(torch.bmm(self.by_prompt(for_prompt), prompt_values[layer])).view(rows, -1)
            return from_own.add_(from_prompt)

        return attend

    def note(self, own: Tensor) -> Callable[[int, Tensor], object]:
        """How a layer puts its new keys and values into the rows' memory, of which `own` is what is attended to."""
        if self.network.habits.exact:                              # then the last slot of these is the new one
            last = own[..., -1, :].unbind()
            return lambda layer, memory: last[layer].copy_(memory.transpose(0, 1))
        here, slot = own.unbind(), self.step + self.copied
        return lambda layer, memory: here[layer].index_copy_(3, slot, memory.transpose(0, 1)[:, :, :, None])

    def _half(self, going: int) -> int:
        """The present number of rows, halved as often as there is still room for those that go on."""
        rows = self.rows
        while rows // 2 >= max(going, self.network.habits.fewest_rows):
            rows //= 2
        return rows

    def shrink(self, rows: int) -> None:
        """Let all but so many rows leave, and prompts that no row reads any more; what lies last moves into the gaps."""
        if rows == self.rows:
            return
        if self.network.kernels:                                  # they find a row's memory by its answer: it need not move
            kept = self.ended[:self.rows].argsort(stable=True)[:rows]
        else:
            kept = _closed(self.ended[:self.rows], rows)
            _move(self.own_memory[..., :self.copied + int(self.step), :], kept)
        for state in (self.answer_of, self.prompt, self.length, self.ids, self.ended):
            state[:rows] = state[kept]
        self.rows = rows
        if self.copied or self.network.kernels:
            return
        if self.network.habits.exact:
            unread = self.prompt[:rows].bincount(minlength=self.prompts) == 0
            kept_prompts = _closed(unread, self.prompts - int(unread.sum()))
            _move(self.prompt_memory, kept_prompts)
            self.bias[:len(kept_prompts)] = self.bias[kept_prompts]
            new_place = torch.zeros(self.prompts, dtype=torch.long, device=unread.device)
            new_place[kept_prompts] = torch.arange(len(kept_prompts), device=unread.device)
            self.prompt[:rows], self.prompts = new_place[self.prompt[:rows]], len(kept_prompts)
        self.line_up()
        if rows <= self.network.habits.few:                       # zero on a GPU
            self.copy_prompts()

    def copy_prompts(self) -> None:
        """Give each row a copy of its prompt, in front of its own slots."""
        own, written = self.own_memory[:, :, :self.rows], int(self.step)
        self.own_memory = own.new_empty(*own.shape[:4], self.width + own.shape[4], own.shape[5])
        self.own_memory[..., :self.width, :] = self.prompt_memory[:, :, self.prompt[:self.rows]]
        self.own_memory[..., self.width:self.width + written, :] = own[..., :written, :]
        self.copied = self.width

    def line_up(self) -> None:
        """Say where each row stands when the rows are lined up by prompt, in lines as long as the longest.

        So one matrix product with a prompt's keys serves all its rows. Places left over repeat some row, and nobody reads them back.
        """
        prompt = self.prompt[:self.rows]
        rows = torch.arange(self.rows, device=prompt.device)
        order = prompt.argsort(stable=True)
        counts = prompt.bincount(minlength=self.prompts)
        if self.network.habits.exact or not self.line:
            self.line = int(counts.max())
        rank = torch.empty_like(rows)
        rank[order] = rows - (counts.cumsum(0) - counts)[prompt[order]]
        self.place[:self.rows] = prompt * self.line + rank
        self.row_at[:self.prompts * self.line] = 0
        self.row_at[self.place[:self.rows]] = rows

    def by_prompt(self, x: Tensor) -> Tensor:
        """[rows, heads, n] -> [prompts * kv_heads, line * heads that share a kv head, n]."""
        lines = x.index_select(0, self.row_at[:self.prompts * self.line])
        lines = lines.view(self.prompts, self.line, self.network.kv_heads, -1, x.shape[-1])
        return lines.transpose(1, 2).reshape(self.prompts * self.network.kv_heads, -1, x.shape[-1])

    def by_row(self, x: Tensor) -> Tensor:
        """[prompts * kv_heads, line * heads that share a kv head, n] -> [rows, heads, n]."""
        lines = x.view(self.prompts, self.network.kv_heads, self.line, -1, x.shape[-1])
        return lines.transpose(1, 2).reshape(self.prompts * self.line, -1, x.shape[-1]).index_select(0, self.place[:self.rows])


def _up(number: int, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple


def _closed(gone: Tensor, count: int) -> Tensor:
    """[places] -> the old places of what stays, in its new order: all keep their place, and the last ones fill the gaps.

    `count` stay: all that are not gone, and of the others the first, if there is room.
    """
    spared = gone & (gone.cumsum(0) <= count - int((~gone).sum()))
    stays = ~gone | spared
    kept = torch.arange(count, device=gone.device)
    kept[~stays[:count]] = count + stays[count:].nonzero()[:, 0]
    return kept


def _move(memory: Tensor, kept: Tensor) -> None:
    """Bring what was in place kept[i] of the memory's third dimension to place i."""
    to = (kept != torch.arange(len(kept), device=kept.device)).nonzero()[:, 0]
    memory[:, :, to] = memory[:, :, kept[to]]


# ------------------------------------------------------------------------------------------------------------------------------------------
# One token

def draw(logits: Tensor, uniform: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the distribution function.

    logits: [rows, vocabulary]; uniform: [rows], in [0, 1).
    Returns the tokens and their log-probabilities under the distribution they were drawn from, each [rows].
    """
    weights = torch.softmax(logits if settings.temperature == 1 else logits / settings.temperature, dim=-1)
    order = None
    if settings.top_k or settings.top_p < 1:
        count = min(settings.top_k or logits.shape[-1], logits.shape[-1])
        weights, order = weights.topk(count)                                # sorted, most probable first
        before = weights.cumsum(-1) - weights                               # what is more probable
        weights = weights.masked_fill(before >= settings.top_p * weights.sum(-1, keepdim=True), 0)
    place, total = _invert(weights, uniform)
    logprob = torch.log(weights.gather(1, place)[:, 0] / total)
    token = place if order is None else order.gather(1, place)
    return token[:, 0], logprob.float()


def _invert(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Where the running sum of the weights passes `uniform` of the total, [rows, 1], and the total, [rows].

    Found in two steps, first the block and then the place in it, so that the running sum of a large vocabulary is never computed. Sums are
    float64: a float32 sum over 150,000 tokens would move draws. `_BELOW` keeps rounding from reaching what has no weight.
    """
    rows, vocabulary = weights.shape
    size = next(size for size in range(math.isqrt(vocabulary), 0, -1) if vocabulary % size == 0)
    blocks = weights.view(rows, -1, size)
    sums = blocks.sum(-1, dtype=torch.float64)
    running = sums.cumsum(-1)
    total = running[:, -1:]
    wanted = torch.minimum(uniform[:, None] * total, total * _BELOW)
    block = torch.searchsorted(running, wanted, right=True)
    inside = blocks[torch.arange(rows, device=block.device), block[:, 0]].cumsum(-1, dtype=torch.float64)
    rest = wanted - (running.gather(1, block) - sums.gather(1, block))
    place = torch.searchsorted(inside, torch.minimum(rest, inside[:, -1:] * _BELOW).clamp_min_(0), right=True)
    return block * size + place, total[:, 0]


_BELOW = 1 - 2.0**-50
