"""Our sampler: plain torch, as fast on two cores as the arithmetic allows.

Where `model.generate` loses its time, and what is done here instead:
- it grows the key/value cache by copying it at every token; ours is allocated once and written in place;
- it runs and stores the prompt once per answer; here once per prompt, and its answers attend to it in one matrix product;
- it repeats key/value heads until there are as many as query heads; here the query heads that share one are the rows of a matrix product;
- it computes answers that have ended until the last one has; here they leave the batch at once, and the last row moves into the gap.

A token is drawn by inverting the distribution function at one uniform number, which belongs to (seed, prompt, sample, step) alone. So an
answer does not depend on the answers that are computed beside it, on `max_rows`, or on when its neighbours end. (Matrix products of another
size round differently in the last bit, which moves one draw in some ten thousand. The same call gives the same tokens to the last bit.)
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from r1lib import seeds
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.sampling import Rollout, SamplingSettings

_SHAPES = ("qwen2", "qwen3", "llama")      # the model types whose blocks `_Network` computes


class TorchSampler:
    """Samples from `policy.model` as it is at the moment of the call.

    max_rows: how many answers are computed at a time; bounds the memory, changes no answer.
    """

    def __init__(self, policy: Policy, max_rows: int = 512) -> None:
        self.policy = policy
        self.max_rows = max_rows

    @torch.inference_mode()
    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int) -> list[Rollout]:
        """`samples` answers to each prompt, prompt by prompt: sample j of prompt i is at [i * samples + j]."""
        network, prompt_ids = _Network(self.policy.model), self.policy.encode(prompts)
        for index, ids in enumerate(prompt_ids):
            if not ids:
                raise R1Error(f"prompt {index} is empty: there is nothing to answer.")
            if len(ids) + settings.max_new_tokens > network.longest:
                raise R1Error(f"prompt {index} has {len(ids)} tokens, and max_new_tokens={settings.max_new_tokens} goes beyond the "
                              f"{network.longest} that the model was made for: shorten the prompt or lower max_new_tokens.")
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompt_ids[index]))     # so that little of a wave is padding
        rows = [(index, sample) for index in by_length for sample in range(samples)]
        rollouts: dict[tuple[int, int], Rollout] = {}
        for start in range(0, len(rows), self.max_rows):
            wave = rows[start:start + self.max_rows]
            streams = [seeds.generator("sample", seed, *row) for row in wave]
            uniform = torch.stack([torch.rand(settings.max_new_tokens, dtype=torch.float64, generator=stream) for stream in streams])
            answers = _answer(network, [prompt_ids[index] for index, _ in wave], uniform, settings, self.policy.stop_ids)
            for (index, sample), (ids, logprobs, finished) in zip(wave, answers, strict=True):
                rollouts[index, sample] = Rollout(index, prompt_ids[index], ids, logprobs, self.policy.decode(ids), finished)
        return [rollouts[index, sample] for index in range(len(prompts)) for sample in range(samples)]


# After how many tokens ended answers leave the batch. Asking a GPU which have ended makes it wait; a CPU has the answer at hand.
_LOOK_EVERY = {"cpu": 1, "cuda": 8}


def _answer(
    network: "_Network", prompt_ids: list[list[int]], uniform: Tensor, settings: SamplingSettings, stop_ids: frozenset[int],
) -> list[tuple[list[int], list[float], bool]]:
    """One wave: (ids, log-probabilities, finished) for each prompt, where answers to one prompt share its computation.

    uniform: [rows, max_new_tokens], the random numbers of each answer.
    """
    device, steps = network.device, settings.max_new_tokens
    uniform = uniform.to(device)
    all_ids = torch.zeros(uniform.shape, dtype=torch.long, device=device)
    all_logprobs = torch.zeros(uniform.shape, device=device)
    stops = torch.zeros(network.vocabulary, dtype=torch.bool, device=device)
    stops[list(stop_ids)] = True
    look_every = _LOOK_EVERY.get(device.type, 1)

    cache = _Cache(network, prompt_ids, steps)
    logits = cache.read_prompts()
    row = torch.arange(len(prompt_ids), device=device)               # which answer is in each place of the batch
    ended = torch.zeros_like(row, dtype=torch.bool)
    for step in range(steps):
        ids, logprobs = draw(logits, uniform[row, step], settings)
        all_ids[row, step], all_logprobs[row, step] = ids, logprobs
        ended = ended | stops[ids]
        if step == steps - 1 or (step % look_every == 0 and ended.all()):
            break
        if step % look_every == 0 and ended.any():
            kept = cache.drop(ended)
            ids, row, ended = ids[kept], row[kept], ended[kept]
        logits = cache.read(ids)

    def cut(ids: list[int], logprobs: list[float]) -> tuple[list[int], list[float], bool]:
        """What belongs to the answer: all up to the first stop token."""
        end = next((place for place, id in enumerate(ids, 1) if id in stop_ids), None)
        return ids[:end], logprobs[:end], end is not None

    return [cut(*answer) for answer in zip(all_ids.tolist(), all_logprobs.tolist(), strict=True)]


class _Network:
    """The model's weights and arithmetic, without what training needs. Layers that read the same input are joined into one product."""

    def __init__(self, model: torch.nn.Module) -> None:
        config = model.config
        if config.model_type not in _SHAPES:
            raise R1Error(f"TorchSampler reads models of type {', '.join(_SHAPES)}, not {config.model_type}: use another sampler.")
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise R1Error("TorchSampler attends to all that came before, this model to a sliding window: use another sampler.")
        if model.model.rotary_emb.rope_type in ("dynamic", "longrope"):
            raise R1Error("TorchSampler takes rotary angles as fixed, in this model they depend on the length: use another sampler.")
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.longest = config.max_position_embeddings
        self.embedding, self.head = model.model.embed_tokens.weight, model.lm_head.weight
        self.vocabulary, self.device, self.dtype = len(self.head), self.head.device, self.head.dtype
        self.final_norm, self.rotary = model.model.norm.weight, model.model.rotary_emb
        self.layers = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            self.layers.append((
                layer.input_layernorm.weight, _join(attention.q_proj, attention.k_proj, attention.v_proj),
                [getattr(attention, norm).weight for norm in ("q_norm", "k_norm") if hasattr(attention, norm)], _join(attention.o_proj),
                layer.post_attention_layernorm.weight, _join(mlp.gate_proj, mlp.up_proj), _join(mlp.down_proj)))

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary angles for positions 0 to length - 1, each [length, 1, dim], with any scaling that the model has.

        The first half of the sines is negated: (a, b) turns into (a cos - b sin, b cos + a sin).
        """
        cos, sin = self.rotary(self.embedding, torch.arange(length, device=self.device)[None])
        sin = torch.cat([-sin[..., :self.dim // 2], sin[..., self.dim // 2:]], dim=-1)
        return cos[0, :, None], sin[0, :, None]

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def hidden(self, ids: Tensor, cos: Tensor, sin: Tensor, attend: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
        """[tokens] ids and their rotary angles [tokens, 1, dim] -> [tokens, hidden size] behind the last norm.

        attend(layer, queries [tokens, heads, dim], keys and values [tokens, 2, kv_heads, dim]) -> [tokens, heads * dim].
        """
        x = self.embedding[ids]
        for index, (norm, qkv, qk_norms, out, mlp_norm, gate_up, down) in enumerate(self.layers):
            joint = qkv(self.norm(x, norm)).view(len(x), -1, self.dim)                             # [tokens, heads + 2 * kv_heads, dim]
            turning = joint[:, :self.heads + self.kv_heads]
            if qk_norms:                                          # Qwen3 norms each head
                parts = turning.split([self.heads, self.kv_heads], dim=1)
                turning.copy_(torch.cat([self.norm(part, weight) for part, weight in zip(parts, qk_norms, strict=True)], dim=1))
            first, second = turning.chunk(2, dim=-1)              # rotary embedding: the halves of a head are the coordinates that turn
            turned = torch.cat([second, first], dim=-1)
            turning.mul_(cos).addcmul_(turned, sin)
            memory = joint[:, self.heads:].unflatten(1, (2, self.kv_heads))
            x += out(attend(index, joint[:, :self.heads], memory))
            gate, up = gate_up(self.norm(x, mlp_norm)).chunk(2, dim=-1)
            x += down(F.silu(gate, inplace=True).mul_(up))
        return self.norm(x, self.final_norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden size] -> [tokens, vocabulary], float32."""
        return F.linear(hidden, self.head).float()


def _join(*linears: torch.nn.Linear) -> Callable[[Tensor], Tensor]:
    """One linear map that gives the outputs of these, side by side."""
    biases = [linear.bias for linear in linears]
    return partial(F.linear, weight=torch.cat([linear.weight for linear in linears]), bias=None if biases[0] is None else torch.cat(biases))


class _Cache:
    """The keys and values of a wave, and attention to them.

    Two tensors [layer, key or value, prompt or row, kv head, slot, dim]. `prompt_memory` holds each prompt once, padded on the right, and
    all answers to it read it there. `own_memory` holds what each row has written so far, its token of step t in slot t. The rows still
    being written fill the first places, in any order: `prompt[i]` says where the prompt of row i lies, `length[i]` how long it is.
    """

    def __init__(self, network: "_Network", prompt_ids: list[list[int]], steps: int) -> None:
        self.network, device = network, network.device
        places: dict[tuple[int, ...], int] = {}
        prompt = [places.setdefault(tuple(ids), len(places)) for ids in prompt_ids]
        self.prompts, self.slot = len(places), 0
        self.width = max(map(len, places))
        self.ids = torch.tensor([[*ids, *[0] * (self.width - len(ids))] for ids in places], device=device)
        lengths = torch.tensor([len(ids) for ids in places], device=device)
        self.prompt = torch.tensor(prompt, device=device)
        self.length = lengths[self.prompt]
        pads = torch.arange(self.width, device=device) >= lengths[:, None]
        self.bias = torch.zeros(pads.shape, device=device, dtype=network.dtype).masked_fill_(pads, float("-inf")) if pads.any() else None
        self.cos, self.sin = network.tables(self.width + steps)
        layers, kv_heads, dim = len(network.layers), network.kv_heads, network.dim
        self.prompt_memory = torch.empty(layers, 2, self.prompts, kv_heads, self.width, dim, device=device, dtype=network.dtype)
        self.own_memory = torch.empty(layers, 2, len(prompt_ids), kv_heads, steps, dim, device=device, dtype=network.dtype)
        self.line_up()

    def read_prompts(self) -> Tensor:
        """Compute each prompt once; the logits of every row's first token: [rows, vocabulary]."""
        prompts, width = self.ids.shape

        def attend(layer: int, queries: Tensor, memory: Tensor) -> Tensor:
            q = queries.unflatten(0, (prompts, width)).transpose(1, 2)                             # [prompts, heads, width, dim]
            self.prompt_memory[layer] = memory.unflatten(0, (prompts, width)).permute(2, 0, 3, 1, 4)
            # Pads are on the right, so that under the causal mask no token sees one; `bias` will hide them from the answers.
            attended = F.scaled_dot_product_attention(q, *self.prompt_memory[layer], is_causal=True, enable_gqa=True)
            return attended.transpose(1, 2).reshape(prompts * width, -1)

        position = torch.arange(width, device=self.ids.device).repeat(prompts)
        hidden = self.network.hidden(self.ids.flatten(), self.cos[position], self.sin[position], attend)
        return self.network.logits(hidden.view(prompts, width, -1)[self.prompt, self.length - 1])

    def read(self, ids: Tensor) -> Tensor:
        """Write one more token of each row into the cache; the logits of the next: [rows] -> [rows, vocabulary]."""
        network, rows, slots, slot = self.network, len(ids), self.slot + 1, self.slot
        kv_rows = rows * network.kv_heads
        here = self.own_memory[:, :, :rows, :, slot].unbind()
        own = self.own_memory[:, :, :rows, :, :slots].flatten(2, 3)                            # [layer, 2, kv_rows, slots, dim]
        shared = self.prompt_memory[:, :, :self.prompts].flatten(2, 3)                         # [layer, 2, prompts * kv_heads, width, dim]
        own_keys, own_values = own[:, 0].mT.unbind(), own[:, 1].unbind()                       # one view a layer, made once a token
        prompt_keys, prompt_values = shared[:, 0].mT.unbind(), shared[:, 1].unbind()
        bias = None if self.bias is None else self.bias.repeat_interleave(network.kv_heads, 0)[:, None]

        def attend(layer: int, queries: Tensor, memory: Tensor) -> Tensor:
            here[layer].copy_(memory.transpose(0, 1))
            q = queries * network.dim ** -0.5
            on_prompt = torch.bmm(self.by_prompt(q), prompt_keys[layer])
            if bias is not None:
                on_prompt += bias
            on_own = torch.bmm(q.view(kv_rows, -1, network.dim), own_keys[layer]).view(rows, -1, slots)
            scores = torch.cat([self.by_row(on_prompt), on_own], dim=-1)                           # [rows, heads, width + slots]
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
            for_prompt, for_own = weights.split([self.width, slots], dim=-1)
            from_own = torch.bmm(for_own.reshape(kv_rows, -1, slots), own_values[layer]).view(rows, -1)
            from_prompt = self.by_row(torch.bmm(self.by_prompt(for_prompt), prompt_values[layer])).view(rows, -1)
            return from_own.add_(from_prompt)

        self.slot += 1
        position = self.length + slot
        return network.logits(network.hidden(ids, self.cos[position], self.sin[position], attend))

    def drop(self, gone: Tensor) -> Tensor:
        """Let rows go, and prompts that no row reads any more; what lies last moves into the gaps.

        gone: [rows]. Returns the old places of the rows that stay, in their new order.
        """
        kept = _close(gone)
        _move(self.own_memory[..., :self.slot, :], kept)
        self.length, prompt = self.length[kept], self.prompt[kept]
        kept_prompts = _close(prompt.bincount(minlength=self.prompts) == 0)
        _move(self.prompt_memory, kept_prompts)
        if self.bias is not None:
            self.bias = self.bias[kept_prompts]
        new_place = torch.zeros(self.prompts, dtype=torch.long, device=gone.device)
        new_place[kept_prompts] = torch.arange(len(kept_prompts), device=gone.device)
        self.prompt, self.prompts = new_place[prompt], len(kept_prompts)
        self.line_up()
        return kept

    def line_up(self) -> None:
        """Say where each row stands when the rows are lined up by prompt, in lines as long as the longest.

        So one matrix product with a prompt's keys serves all its rows. Places left over repeat some row, and nobody reads them back.
        """
        rows = torch.arange(len(self.prompt), device=self.prompt.device)
        order = self.prompt.argsort(stable=True)
        counts = self.prompt.bincount(minlength=self.prompts)
        self.line = int(counts.max())
        rank = torch.empty_like(rows)
        rank[order] = rows - (counts.cumsum(0) - counts)[self.prompt[order]]
        self.place = self.prompt * self.line + rank                                                # [rows]
        self.row_at = rows.new_zeros(self.prompts * self.line)
        self.row_at[self.place] = rows

    def by_prompt(self, x: Tensor) -> Tensor:
        """[rows, heads, n] -> [prompts * kv_heads, line * heads that share a kv head, n]."""
        lines = x.index_select(0, self.row_at).view(self.prompts, self.line, self.network.kv_heads, -1, x.shape[-1])
        return lines.transpose(1, 2).reshape(self.prompts * self.network.kv_heads, -1, x.shape[-1])

    def by_row(self, x: Tensor) -> Tensor:
        """[prompts * kv_heads, line * heads that share a kv head, n] -> [rows, heads, n]."""
        lines = x.view(self.prompts, self.network.kv_heads, self.line, -1, x.shape[-1])
        return lines.transpose(1, 2).reshape(self.prompts * self.line, -1, x.shape[-1]).index_select(0, self.place)


def _close(gone: Tensor) -> Tensor:
    """[places] -> the old places of what stays, in its new order: all keep their place, and the last ones fill the gaps."""
    stays = ~gone
    count = int(stays.sum())
    kept = torch.arange(count, device=gone.device)
    kept[gone[:count]] = count + stays[count:].nonzero()[:, 0]
    return kept


def _move(cache: Tensor, kept: Tensor) -> None:
    """Bring what was in place kept[i] of the cache's third dimension to place i."""
    for place, old in enumerate(kept.tolist()):
        if place != old:
            cache[:, :, place] = cache[:, :, old]


def draw(logits: Tensor, uniform: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the distribution function.

    logits: [rows, vocabulary]; uniform: [rows], in [0, 1).
    Returns the tokens and their log-probabilities under the distribution they were drawn from, each [rows].
    """
    probabilities = torch.softmax(logits / settings.temperature, dim=-1)
    order = None
    if settings.top_k or settings.top_p < 1:
        count = min(settings.top_k or logits.shape[-1], logits.shape[-1])
        probabilities, order = probabilities.topk(count)                    # sorted, most probable first
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        before = probabilities.cumsum(-1) - probabilities                   # what is more probable
        probabilities = probabilities.masked_fill(before >= settings.top_p, 0)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    place = torch.searchsorted(cumulative, (uniform * total)[:, None], right=True)
    logprob = torch.log(probabilities.gather(1, place)[:, 0] / total.float())
    token = place if order is None else order.gather(1, place)
    return token[:, 0], logprob
