"""Our sampler: plain torch, as fast on two cores as the arithmetic allows.

Where `model.generate` loses its time, and what is done here instead:
- it grows the key/value cache by copying it at every token; ours is allocated once and written in place;
- it runs the prompt once per answer; here once per prompt, and the answers begin from a copy of its cache;
- it repeats key/value heads until there are as many as query heads; here the query heads that share one are the rows of a matrix product;
- it computes answers that have ended until the last one has; here they leave the batch at once, and the last row moves into the gap.

A token is drawn by inverting the distribution function at one uniform number, which belongs to (seed, prompt, sample, step) alone. So an answer
does not depend on the answers that are computed beside it, on `max_rows`, or on when its neighbours end.
"""

from collections.abc import Callable, Sequence

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
        prompt_ids = self.policy.encode(prompts)
        network = _Network(self.policy.model)
        for index, ids in enumerate(prompt_ids):
            if not ids:
                raise R1Error(f"prompt {index} is empty: there is nothing to answer.")
            if len(ids) + settings.max_new_tokens > network.longest:
                raise R1Error(f"prompt {index} has {len(ids)} tokens, and {settings.max_new_tokens} new ones go beyond the {network.longest} that "
                              "the model was made for. Shorten the prompt or lower max_new_tokens.")
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompt_ids[index]))     # so that little of a wave is padding
        rows = [(index, sample) for index in by_length for sample in range(samples)]
        rollouts: dict[tuple[int, int], Rollout] = {}
        for start in range(0, len(rows), self.max_rows):
            wave = rows[start:start + self.max_rows]
            answers = _Wave(network, wave, prompt_ids, settings, self.policy.stop_ids, seed).run()
            for (index, sample), (ids, logprobs, finished) in zip(wave, answers, strict=True):
                text = self.policy.decode(ids)
                rollouts[index, sample] = Rollout(index, prompt_ids[index], ids, logprobs, text, finished)
        return [rollouts[index, sample] for index in range(len(prompts)) for sample in range(samples)]


class _Network:
    """The model's weights and arithmetic, without what training needs. Matrices that read the same input are joined, so that one product does."""

    def __init__(self, model: torch.nn.Module) -> None:
        config = model.config
        if config.model_type not in _SHAPES:
            raise R1Error(f"TorchSampler reads models of type {', '.join(_SHAPES)}, not {config.model_type}: use another sampler.")
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise R1Error("TorchSampler attends to all that came before, this model to a sliding window: use another sampler.")
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.longest = config.max_position_embeddings
        self.embedding, self.head = model.model.embed_tokens.weight, model.lm_head.weight
        self.final_norm, self.rotary = model.model.norm.weight, model.model.rotary_emb
        self.layers = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            self.layers.append((
                layer.input_layernorm.weight, *_join(attention.q_proj, attention.k_proj, attention.v_proj),
                [getattr(attention, norm).weight for norm in ("q_norm", "k_norm") if hasattr(attention, norm)],
                *_join(attention.o_proj), layer.post_attention_layernorm.weight, *_join(mlp.gate_proj, mlp.up_proj), *_join(mlp.down_proj)))

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary angles for positions 0 to length - 1, each [length, 1, dim]; the model's own, with any scaling it has."""
        positions = torch.arange(length, device=self.embedding.device)[None]
        cos, sin = self.rotary(self.embedding, positions)
        return cos[0, :, None], sin[0, :, None]

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def hidden(self, ids: Tensor, cos: Tensor, sin: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """[tokens] ids and their rotary angles [tokens, 1, dim] -> [tokens, hidden size] behind the last norm.

        attend(layer, queries [tokens, heads, dim], keys and values [tokens, kv_heads, dim]) -> [tokens, heads * dim].
        """
        x, half = self.embedding[ids], self.dim // 2
        for index, (norm, qkv, qkv_bias, qk_norms, out, out_bias, mlp_norm, gate_up, gate_up_bias, down, down_bias) in enumerate(self.layers):
            joint = F.linear(self.norm(x, norm), qkv, qkv_bias).view(len(x), -1, self.dim)
            turning, values = joint.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
            if qk_norms:                                          # Qwen3 norms each head
                parts = turning.split([self.heads, self.kv_heads], dim=1)
                turning = torch.cat([self.norm(part, weight) for part, weight in zip(parts, qk_norms, strict=True)], dim=1)
            turned = turning * cos                                # rotary embedding: both halves of a head turn as one vector of the plane
            turned[..., :half].addcmul_(turning[..., half:], sin[..., :half], value=-1)
            turned[..., half:].addcmul_(turning[..., :half], sin[..., half:])
            attended = attend(index, turned[:, :self.heads], turned[:, self.heads:], values)
            x = x + F.linear(attended, out, out_bias)
            gate, up = F.linear(self.norm(x, mlp_norm), gate_up, gate_up_bias).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, down, down_bias)
        return self.norm(x, self.final_norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden size] -> [tokens, vocabulary], float32."""
        return F.linear(hidden, self.head).float()


def _join(*linears: torch.nn.Linear) -> tuple[Tensor, Tensor | None]:
    """The weights and biases of layers with one input, one under the other."""
    biases = [linear.bias for linear in linears]
    return torch.cat([linear.weight for linear in linears]), None if biases[0] is None else torch.cat(biases)


class _Wave:
    """Answers that are computed together, from their prompts to the last token.

    The cache is [layer, key or value, row, kv head, slot, dim]. Prompts end at the same slot, so that the token of step t stands in one slot
    for all rows; shorter prompts leave empty slots at the front, which a bias of minus infinity hides.
    The first `live` rows are answers not ended yet; `row[i]` says which answer of the wave is in place i.
    """

    def __init__(self, network: _Network, rows: list[tuple[int, int]], prompt_ids: list[list[int]], settings: SamplingSettings,
                 stop_ids: frozenset[int], seed: int) -> None:
        self.network, self.settings, self.stop_ids = network, settings, stop_ids
        device, dtype = network.embedding.device, network.embedding.dtype
        self.counts: dict[int, int] = {}                          # prompt index -> its rows in this wave, in the order of the rows
        for index, _ in rows:
            self.counts[index] = self.counts.get(index, 0) + 1
        self.prompts = [prompt_ids[index] for index in self.counts]
        self.width = max(map(len, self.prompts))
        steps = settings.max_new_tokens
        self.cache = torch.empty(len(network.layers), 2, len(rows), network.kv_heads, self.width + steps, network.dim, device=device, dtype=dtype)
        self.cos, self.sin = network.tables(self.width + steps)
        draws = [torch.rand(steps, dtype=torch.float64, generator=seeds.generator("sample", seed, *row)) for row in rows]
        self.uniform = torch.stack(draws).to(device)              # [rows, steps]
        self.ids = torch.zeros(len(rows), steps, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(len(rows), steps, device=device)
        self.stops = torch.zeros(len(network.embedding), dtype=torch.bool, device=device)
        self.stops[list(stop_ids)] = True
        self.look_every = 1 if device.type == "cpu" else 8        # asking a GPU what has ended makes it wait for the answer

    def run(self) -> list[tuple[list[int], list[float], bool]]:
        """(ids, log-probabilities, finished) of each row."""
        logits = self.prefill()
        self.row = torch.arange(len(self.ids), device=logits.device)
        ended = torch.zeros_like(self.row, dtype=torch.bool)
        steps = self.settings.max_new_tokens
        for step in range(steps):
            token, logprob = draw(logits, self.uniform[self.row, step], self.settings)
            self.ids[self.row, step], self.logprobs[self.row, step] = token, logprob
            ended = ended | self.stops[token]
            if step == steps - 1:
                break
            if step % self.look_every == 0:
                kept = self.close_gaps(ended, self.width + step)
                if kept is not None:
                    token, ended = token[kept], ended[kept]
                if not len(token):
                    break
            logits = self.decode(token, self.width + step)
        return [self.cut(ids, logprobs) for ids, logprobs in zip(self.ids.tolist(), self.logprobs.tolist(), strict=True)]

    def cut(self, ids: list[int], logprobs: list[float]) -> tuple[list[int], list[float], bool]:
        """What belongs to the answer: all up to the first stop token."""
        end = next((place for place, id in enumerate(ids, 1) if id in self.stop_ids), None)
        return ids[:end], logprobs[:end], end is not None

    def prefill(self) -> Tensor:
        """Compute each prompt once, fill the cache of its rows, and give the logits of every row's first token: [rows, vocabulary]."""
        device, width, count = self.row_device(), self.width, len(self.prompts)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids in self.prompts], device=device)      # on the right no pad is seen
        lengths = torch.tensor([len(ids) for ids in self.prompts], device=device)
        repeats = torch.tensor(list(self.counts.values()), device=device)
        network, cache = self.network, self.cache
        starts = [0, *repeats.cumsum(0).tolist()]

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            q, k, v = (part.unflatten(0, (count, width)).transpose(1, 2) for part in (queries, keys, values))    # [prompts, heads, width, dim]
            for index, prompt in enumerate(self.prompts):
                here = slice(starts[index], starts[index + 1])
                cache[layer, 0, here, :, width - len(prompt):width] = k[index, :, :len(prompt)]
                cache[layer, 1, here, :, width - len(prompt):width] = v[index, :, :len(prompt)]
                cache[layer, :, here, :, :width - len(prompt)] = 0          # hidden, but 0 * NaN would be NaN
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2).flatten(0, 1)

        places = torch.arange(width, device=device).repeat(count)
        hidden = network.hidden(ids.flatten(), self.cos[places], self.sin[places], attend)
        last = hidden.view(count, width, -1)[torch.arange(count, device=device), lengths - 1]
        lengths = lengths.repeat_interleave(repeats)
        self.position = lengths - width                                     # plus the slot gives the position
        empty = torch.arange(width, device=device) < (width - lengths)[:, None]
        self.bias = torch.zeros(empty.shape, device=device).masked_fill(empty, float("-inf"))[:, None] if empty.any() else None
        return network.logits(last).repeat_interleave(repeats, dim=0)

    def row_device(self) -> torch.device:
        return self.ids.device

    def decode(self, token: Tensor, slot: int) -> Tensor:
        """Put one token a row into the cache and give the logits of the next: [rows] -> [rows, vocabulary]."""
        network, live = self.network, len(token)
        scale = network.dim ** -0.5

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            cache = self.cache[layer, :, :live]
            cache[0, :, :, slot], cache[1, :, :, slot] = keys, values
            k, v = (cache[part, :, :, :slot + 1].flatten(0, 1) for part in (0, 1))              # [rows * kv_heads, slots, dim], no copy
            q = queries.reshape(len(k), -1, network.dim)                                       # the query heads of one kv head together
            scores = torch.bmm(q * scale, k.transpose(1, 2))
            if self.bias is not None:
                scores.view(live, -1, slot + 1)[..., :self.width] += self.bias
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype)
            return torch.bmm(weights, v).view(live, -1)

        position = self.position + slot
        return network.logits(network.hidden(token, self.cos[position], self.sin[position], attend))

    def close_gaps(self, ended: Tensor, slot: int) -> Tensor | None:
        """Drop the rows that have ended: live rows from the end move into their places.

        Returns the old places of the rows that stay, in their new order, or None when none has ended. Costs the cache of the moved rows, which
        are at most as many as have ended.
        """
        live = len(ended) - int(ended.sum())
        if live == len(ended):
            return None
        gaps = ended[:live].nonzero()[:, 0]
        movers = live + (~ended[live:]).nonzero()[:, 0]
        kept = torch.arange(live, device=ended.device)
        kept[gaps] = movers
        filled = self.cache[:, :, :, :, :slot]
        filled[:, :, gaps] = filled[:, :, movers]
        self.row, self.position = self.row[kept], self.position[kept]
        if self.bias is not None:
            self.bias = self.bias[kept]
        return kept


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
