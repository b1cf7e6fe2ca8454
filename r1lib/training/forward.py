"""The training forward: what `policy.log_probabilities` computes, with each prompt read once for its whole group, and without padding.

The answers of a group share their prompt, and rows of different lengths are full of padding. So all tokens of a micro-batch, each prompt
once and then each answer, lie in one row, and the model's own layers run on that row: all of them but attention treat tokens one by one.
Attention is a function of ours that transformers calls in place of its own; it takes the tokens apart into rows again and knows which
prompt each row follows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, PreTrainedModel

from r1lib.errors import R1Error

_LOGITS_AT_ONCE = 2**27                       # half a gigabyte in float32
_SCORES_PER_BLOCK = {"cpu": 2**18, "cuda": 2**26}      # of answers attended to together: more of them pad more, fewer make more calls


@dataclass
class _Block:
    """Rows that are attended to together: a stretch of the packed row, taken apart and padded on the right with its first token."""

    tokens: int            # of the stretch
    rows: int
    longest: int           # 0 for a block of one-token answers: nothing to attend to
    own: Tensor            # [rows * longest], places in the stretch
    before: Tensor | None  # [rows * longest prompt], places of each answer's prompt in the first stretch; None for the prompts themselves
    bias: Tensor | None    # [rows, 1, query heads that share a key head * longest, keys]: 0 where a query may see a key, else -inf;
                           # None for the prompts, which see themselves up to each token
    real: Tensor           # [tokens]: which of [rows * longest] are no padding


def group_log_probabilities(model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], *,
                            temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """`policy.log_probabilities` for rows of which many share a prompt: the same arguments, the same three tensors, the same gradients.

    For models whose tokens meet only in full causal attention, as in Qwen2, Qwen3 and Llama; a sliding window is an `R1Error`.
    """
    device = model.device
    # An answer's last token foretells nothing. The last place of a prompt foretells an answer's first token, and each place of the answer
    # the token after it.
    packed = pack(model, prompt_ids, [answer[:-1] for answer in completion_ids])
    answers = [completion_ids[row] for row in packed.order]
    columns = torch.arange(max(map(len, answers), default=0), device=device)
    mask = columns < torch.tensor([len(answer) for answer in answers], device=device)[:, None]             # [rows, longest answer]
    before = torch.where(columns > 0, packed.starts[:, None] + columns - 1, packed.prompt_ends[:, None])
    hidden = packed.hidden
    dtype = _computed_in(model)
    head = model.get_output_embeddings().weight
    chosen, entropy = _ReadOff.apply(hidden.index_select(0, before[mask]).to(dtype), head.to(dtype), _row(answers, device), temperature)
    back = torch.tensor(packed.order, device=device).argsort()                # from the order of lengths to the caller's
    zeros = torch.zeros(mask.shape, dtype=chosen.dtype, device=device)
    return zeros.masked_scatter(mask, chosen)[back], mask[back], zeros.masked_scatter(mask, entropy)[back]


def _computed_in(model: PreTrainedModel) -> torch.dtype:
    """The type of matrix products: autocast's, or the model's own."""
    device = model.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


def _attended_in(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type of attention: on a CPU, torch's way back through it takes three times as long in bfloat16 as in float32."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype


@dataclass(frozen=True)
class Packed:
    """What a model's layers make of prompts and what follows them, all in one row.

    hidden: [tokens, size], behind the last layer. order: the rows in the order in which they lie there, by length. For each of them, in
    that order: starts, where it begins in the row, and prompt_ends, where the last token of its prompt lies.
    """

    hidden: Tensor
    order: list[int]
    starts: Tensor
    prompt_ends: Tensor


def pack(model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]]) -> Packed:
    """Run the layers of a model, with whatever head, over these rows, each prompt once for all that follow it."""
    device = model.device
    prompts = list(dict.fromkeys(map(tuple, prompt_ids)))
    number = {prompt: index for index, prompt in enumerate(prompts)}
    order = sorted(range(len(completion_ids)), key=lambda row: len(completion_ids[row]))     # neighbours of one length pad each other least
    owner = torch.tensor([number[tuple(prompt_ids[row])] for row in order], device=device)

    answers = [completion_ids[row] for row in order]
    pieces = [*prompts, *answers]
    lengths = torch.tensor([len(piece) for piece in pieces], device=device)
    starts = lengths.cumsum(0) - lengths                                      # where each piece begins in the packed row
    begins_at = torch.cat([torch.zeros_like(lengths[:len(prompts)]), lengths[owner]])          # and in its text: answers follow prompts
    positions = torch.arange(sum(map(len, pieces)), device=device) + (begins_at - starts).repeat_interleave(lengths)
    heads, longest_prompt = model.config.num_attention_heads, max(map(len, prompts))
    shared = heads // model.config.num_key_value_heads
    asked, asked_is_real = _places(lengths[:len(prompts)])
    blocks = [_Block(sum(map(len, prompts)), *asked.shape, asked.flatten(), None, None, asked_is_real.flatten().nonzero()[:, 0])]
    # Counted with the token behind each answer, which log-probabilities leave out: blocks, and so the last bits of a sum, depend on it.
    for rows in _shares([len(answer) + 1 for answer in answers], heads, longest_prompt, _SCORES_PER_BLOCK.get(device.type, 2**18)):
        own, is_real = _places(lengths[len(prompts):][rows])
        tokens = sum(map(len, answers[rows]))
        blocks.append(_block(tokens, own, is_real, asked[owner[rows]], asked_is_real[owner[rows]], shared,
                             _attended_in(_computed_in(model), device)))

    with _attention(model, "r1lib_packed"), sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        hidden = model.base_model(input_ids=_row(pieces, device)[None], position_ids=positions[None], blocks=blocks,
                                  use_cache=False).last_hidden_state[0]
    return Packed(hidden, order, starts[len(prompts):], (starts + lengths)[owner] - 1)


class _ReadOff(torch.autograd.Function):
    """Log-probabilities of tokens, and the entropy of their distributions, from hidden states.

    Logits are the largest tensor of all where the vocabulary is large, and float32 on top. So they are made in chunks, forwards and again
    backwards, where d log p(token) / d logits = one-hot(token) - softmax(logits).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """hidden: [tokens, size], of the place before each token; head: [vocabulary, size]; ids: [tokens]. Returns [tokens] twice."""
        chosen, entropy, totals = [], [], []
        for part, of in zip(hidden.split(_chunk(head)), ids.split(_chunk(head)), strict=True):
            logits = _logits(part, head, temperature)
            total = logits.logsumexp(-1)
            chosen.append(logits.gather(1, of[:, None])[:, 0] - total)
            entropy.append(total - (torch.exp(logits - total[:, None]) * logits).sum(-1))
            totals.append(total)
        ctx.save_for_backward(hidden, head, ids, torch.cat(totals))
        ctx.temperature = temperature
        entropies = torch.cat(entropy)
        ctx.mark_non_differentiable(entropies)
        return torch.cat(chosen), entropies

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, head, ids, totals = ctx.saved_tensors
        of_hidden, of_head = torch.empty_like(hidden), torch.zeros_like(head)
        size = _chunk(head)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            moved = torch.exp(_logits(hidden[part], head, ctx.temperature) - totals[part, None]).mul_(-gradient[part, None])
            moved.scatter_add_(1, ids[part, None], gradient[part, None])
            moved = (moved / ctx.temperature).to(hidden.dtype)
            of_hidden[part] = moved @ head
            of_head.addmm_(moved.T, hidden[part])
        return of_hidden, of_head, None, None


def _logits(hidden: Tensor, head: Tensor, temperature: float) -> Tensor:
    logits = hidden @ head.T
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature


def _chunk(head: Tensor) -> int:
    return max(_LOGITS_AT_ONCE // len(head), 1)


def _row(pieces: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    return torch.tensor(list(chain.from_iterable(pieces)), device=device)


def _shares(lengths: Sequence[int], heads: int, longest_prompt: int, scores: int) -> Iterator[slice]:
    """Rows in order of their length, as many together as have so many attention scores, and at least one."""
    start = 0
    for end in range(1, len(lengths) + 1):
        longest = lengths[min(end, len(lengths) - 1)]                         # of the row that would be next
        if end == len(lengths) or (end + 1 - start) * heads * longest * (longest_prompt + longest) > scores:
            yield slice(start, end)
            start = end


def _places(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Where the tokens of pieces lie that stand one behind the other, and which of these places are no padding: [pieces, longest] each."""
    columns = torch.arange(int(lengths.max()), device=lengths.device)
    real = columns < lengths[:, None]
    return torch.where(real, (lengths.cumsum(0) - lengths)[:, None] + columns, 0), real


def _block(tokens: int, own: Tensor, real: Tensor, before: Tensor, before_is_real: Tensor, shared: int, dtype: torch.dtype) -> _Block:
    """Answers as a block; a token sees the prompt before its answer and its answer up to itself."""
    rows, longest = own.shape
    columns = torch.arange(longest, device=own.device)
    so_far = (columns[None, :] <= columns[:, None]).expand(rows, -1, -1)
    visible = torch.cat([before_is_real[:, None].expand(-1, longest, -1), so_far], dim=2)
    bias = torch.zeros(visible.shape, dtype=dtype, device=own.device).masked_fill_(~visible, float("-inf"))[:, None].repeat(1, 1, shared, 1)
    return _Block(tokens, rows, longest, own.flatten(), before.flatten(), bias, real.flatten().nonzero()[:, 0])


def _packed_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, blocks: Sequence[_Block],
                      scaling: float, sliding_window: int | None = None, **_: Any) -> tuple[Tensor, None]:
    """query: [1, heads, tokens, size], key and value with fewer heads, in transformers' convention; returns [1, tokens, heads, size]."""
    if sliding_window is not None:
        raise R1Error(f"{type(module).__name__} attends in a sliding window, which this trainer does not know: use a model without one.")
    (heads, _, size), kv_heads = query.shape[1:], key.shape[1]
    # Stretches, [tokens, heads, size] each: the gradient of a split is one concatenation, that of many slices a sum of large tensors.
    dtype = _attended_in(value.dtype, value.device)
    stretches = [tensor[0].transpose(0, 1).to(dtype).split([block.tokens for block in blocks]) for tensor in (query, key, value)]
    prompts = [stretch[0] for stretch in stretches[1:]]
    outputs = []
    for block, *stretch in zip(blocks, *stretches, strict=True):

        def rows(tensor: Tensor, places: Tensor, rows: int = block.rows) -> Tensor:
            return tensor.index_select(0, places).view(rows, -1, *tensor.shape[1:])       # whose gradient is a plain sum

        queries, keys, values = (rows(tensor, block.own) for tensor in stretch)
        if block.before is not None:
            keys, values = (torch.cat([rows(prompt, block.before), own], dim=1)
                            for prompt, own in zip(prompts, (keys, values), strict=True))
        queries, keys, values = queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        with torch.autocast(value.device.type, enabled=False):              # which would change the type of attention back
            if block.bias is None:
                seen = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scaling, enable_gqa=True)
            else:                                           # query heads that share a key head are, for it, so many more queries
                folded = queries.reshape(block.rows, kv_heads, -1, size)
                seen = F.scaled_dot_product_attention(folded, keys, values, attn_mask=block.bias, scale=scaling)
        seen = seen.reshape(block.rows, heads, block.longest, size).transpose(1, 2).reshape(-1, heads, size)
        outputs.append(seen.index_select(0, block.real))
    return torch.cat(outputs)[None].to(value.dtype), None


AttentionInterface.register("r1lib_packed", _packed_attention)


@contextmanager
def _attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let the model attend by this function, and by its own again afterwards, so that samplers and savers see the model that was loaded."""
    own = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(own)
