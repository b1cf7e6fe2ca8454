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
from transformers import AttentionInterface, PreTrainedModel

from r1lib.errors import R1Error

_ROWS_PER_BLOCK = {"cpu": 8, "cuda": 64}      # answers attended to together: more of them pad more, fewer make more calls


@dataclass
class _Block:
    """Rows that are attended to together, as places in the packed row; padded on the right with place 0."""

    queries: Tensor        # [rows, longest]
    real: Tensor           # [rows, longest]: False on padding
    keys: Tensor           # [rows, longest prompt + longest]; for the prompts themselves [rows, longest]
    visible: Tensor        # [rows, 1, longest, keys]: which keys a query may see


def group_log_probabilities(model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], *,
                            temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """`policy.log_probabilities` for rows of which many share a prompt: the same arguments, the same three tensors, the same gradients.

    For models whose tokens meet only in full causal attention, as in Qwen2, Qwen3 and Llama; a sliding window is an `R1Error`.
    """
    device = next(model.parameters()).device
    prompts = list(dict.fromkeys(map(tuple, prompt_ids)))
    number = {prompt: index for index, prompt in enumerate(prompts)}
    order = sorted(range(len(completion_ids)), key=lambda row: len(completion_ids[row]))     # neighbours of one length pad each other least
    owner = torch.tensor([number[tuple(prompt_ids[row])] for row in order], device=device)

    answers = [completion_ids[row] for row in order]
    pieces = [*prompts, *(answer[:-1] for answer in answers)]                 # an answer's last token foretells nothing
    lengths = torch.tensor([len(piece) for piece in pieces], device=device)
    starts = lengths.cumsum(0) - lengths                                      # where each piece begins in the packed row
    begins_at = torch.cat([torch.zeros_like(lengths[:len(prompts)]), lengths[owner]])          # and in its text: answers follow prompts
    positions = torch.arange(sum(map(len, pieces)), device=device) + (begins_at - starts).repeat_interleave(lengths)
    asked = _block(starts[:len(prompts)], lengths[:len(prompts)])
    blocks = [asked]
    for rows in torch.arange(len(order), device=device).split(_ROWS_PER_BLOCK.get(device.type, 8)):
        blocks.append(_block(starts[len(prompts) + rows], lengths[len(prompts) + rows], asked, owner[rows]))

    # The last place of a prompt foretells an answer's first token, and each place of the answer the token after it.
    columns = torch.arange(max(map(len, answers), default=0), device=device)
    mask = columns < torch.tensor([len(answer) for answer in answers], device=device)[:, None]             # [rows, longest answer]
    before = torch.where(columns > 0, starts[len(prompts):, None] + columns - 1, (starts + lengths)[owner, None] - 1)
    with _attention(model, "r1lib_packed"):
        logits = model(input_ids=_row(pieces, device)[None], position_ids=positions[None], blocks=blocks, use_cache=False,
                       logits_to_keep=before[mask]).logits[0]                                              # [tokens of answers, vocabulary]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    total = logits.logsumexp(-1)
    chosen = logits.gather(1, _row(answers, device)[:, None])[:, 0] - total
    with torch.no_grad():
        entropy = total - (torch.softmax(logits, -1) * logits).sum(-1)
    back = torch.tensor(order, device=device).argsort()                       # from the order of lengths to the caller's
    zeros = torch.zeros(mask.shape, dtype=logits.dtype, device=device)
    return zeros.masked_scatter(mask, chosen)[back], mask[back], zeros.masked_scatter(mask, entropy)[back]


def _row(pieces: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    return torch.tensor(list(chain.from_iterable(pieces)), device=device)


def _block(starts: Tensor, lengths: Tensor, asked: _Block | None = None, owner: Tensor | None = None) -> _Block:
    """Pieces of the packed row as a block; a token sees its piece up to itself and, of an answer, the whole prompt that owns it."""
    columns = torch.arange(int(lengths.max()), device=lengths.device)
    real = columns < lengths[:, None]
    queries = torch.where(real, starts[:, None] + columns, 0)
    visible = (columns[None, :] <= columns[:, None]).expand(len(starts), -1, -1)
    keys = queries
    if asked is not None:
        keys = torch.cat([asked.queries[owner], queries], dim=1)
        visible = torch.cat([asked.real[owner, None].expand(-1, len(columns), -1), visible], dim=2)
    return _Block(queries, real, keys, visible[:, None])


def _packed_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, blocks: Sequence[_Block],
                      scaling: float, sliding_window: int | None = None, **_: Any) -> tuple[Tensor, None]:
    """query: [1, heads, tokens, size], key and value with fewer heads, in transformers' convention; returns [1, tokens, heads, size]."""
    if sliding_window is not None:
        raise R1Error(f"{type(module).__name__} attends in a sliding window, which this trainer does not know: use a model without one.")
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    shared = query.shape[1] // key.shape[1]                 # query heads that share a key head are, for it, so many more queries
    outputs = []
    for block in blocks:
        rows, longest = block.queries.shape                 # longest is 0 for a block of one-token answers: nothing to attend to
        folded = query[block.queries].transpose(1, 2).reshape(rows, key.shape[1], shared * longest, query.shape[2])
        seen = F.scaled_dot_product_attention(folded, key[block.keys].transpose(1, 2), value[block.keys].transpose(1, 2),
                                              attn_mask=block.visible.repeat(1, 1, shared, 1), scale=scaling)
        outputs.append(seen.reshape(rows, query.shape[1], longest, query.shape[2]).transpose(1, 2)[block.real])
    return torch.cat(outputs)[None], None


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
