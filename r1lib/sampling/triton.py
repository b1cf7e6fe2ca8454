"""What a GPU does in one kernel where plain torch starts ten: a step of few or small answers is the starting of kernels, not arithmetic.

For `sampling/torch.py`, which works without them, too: where triton is missing or finds no C compiler. For a CPU there is `native.py`.
Each kernel computes in float32 what the torch operations around it compute, and rounds where they store.
"""

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import next_power_of_2 as _power

from r1lib.policy import first_line


@functools.cache
def works(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, dim: int) -> bool:
    """Whether triton compiles for this GPU, this arithmetic and heads of this size.

    It needs a C compiler, and an old GPU has no products in bfloat16, or too little memory beside its processors for wide heads.
    """
    try:
        new = functools.partial(torch.zeros, device=device)
        index = new(1, dtype=torch.long)
        joint, table = new(1, heads + 2 * kv_heads, dim, dtype=dtype), new(2, dim, dtype=dtype)
        memory = new(2, 1, kv_heads, 16, dim, dtype=dtype)
        attend(joint, table, table, memory, memory.clone(), index, index, index, index, heads=heads)
        gated(new(2, 1, 32, dtype=dtype))
        draw(new(1, 4, dtype=dtype), new(1, 1, dtype=torch.float64), index, index, 1.0, index.clone(), index[None].clone(), new(1, 1),
             new(1, dtype=torch.bool), new(4, dtype=torch.bool))
        torch.cuda.synchronize(device)
    except Exception as error:  # of triton, of the compiler that it calls, of the driver: whichever it is, torch does the work
        print(f"The sampler does without triton, which would be faster: {first_line(error)[:200]}.")
        return False
    return True


# ------------------------------------------------------------------------------------------------------------------------------------------
# Attention of a token to what came before

def attend(joint: Tensor, cos: Tensor, sin: Tensor, prompt_memory: Tensor, own_memory: Tensor, prompt_of: Tensor, length_of: Tensor,
           answer_of: Tensor, step: Tensor, *, heads: int, norms: Sequence[Tensor] = (), eps: float = 0.0) -> Tensor:
    """One token of each row: turn its queries and keys, note its keys and values, and attend; [rows, heads * dim].

    joint: [rows, heads + 2 * kv_heads, dim], its queries, keys and values. cos, sin: [positions, dim], with the first half of the sines
    negated. prompt_memory: [2, prompts, kv_heads, width, dim], keys and values; own_memory: [2, answers, kv_heads, slots, dim].
    prompt_of, length_of and answer_of: [rows], each row's prompt, how long it is, and the answer it writes. step: [1], the slot that this
    token takes. norms: weights, each [dim], of the norms of queries and keys, where a model has them.
    """
    rows, lines, dim = joint.shape
    kv_heads, slots = (lines - heads) // 2, prompt_memory.shape[3] + own_memory.shape[3]
    out = joint.new_empty(rows, heads * dim)
    q_norm, k_norm = norms or (joint, joint)
    parts, queries, wide = _parts(rows * kv_heads, slots), max(16, _power(heads // kv_heads)), max(16, _power(dim))
    sizes = dict(HEADS=heads, SHARING=heads // kv_heads, DIM=dim, QUERIES=queries, WIDE=wide, PARTS=parts)
    scratch = out if parts == 1 else out.new_empty(rows, kv_heads, parts, queries, wide + 2, dtype=torch.float32)
    _attend[rows, kv_heads, parts](
        joint, cos, sin, prompt_memory, own_memory, prompt_of, length_of, answer_of, step, q_norm, k_norm, out, scratch,
        prompt_memory.stride(0), prompt_memory.stride(1), prompt_memory.stride(2), own_memory.stride(0), own_memory.stride(1),
        own_memory.stride(2), dim ** -0.5, eps, NORMED=bool(norms), SLOTS=128 // joint.element_size(),
        PRECISION="ieee" if joint.dtype == torch.float32 else "tf32", num_warps=2 if dim <= 64 else 4, num_stages=2, KV_HEADS=kv_heads,
        **sizes)
    if parts > 1:
        _join[rows, kv_heads](scratch, out, num_warps=2, **sizes)
    return out


_PROGRAMS, _SLOTS_A_PART = 512, 256               # so many keep a large GPU's memory busy; with fewer slots a part is not worth its start


def _parts(programs: int, slots: int) -> int:
    """In how many parts each row's memory is read: long ones of few rows would otherwise be read by too few programs."""
    wanted = min(_PROGRAMS // programs, slots // _SLOTS_A_PART)
    return 2 ** max(wanted.bit_length() - 1, 0) if wanted > 1 else 1


@triton.jit
def _turned(vectors, at, place, cos, sin, norm, eps, real, DIM: tl.constexpr, NORMED: tl.constexpr):
    """Vectors [lines, WIDE] of `joint`, normed where the model does, turned by the angles of their position. at: their addresses' first."""
    partner = (place + DIM // 2) % DIM
    here = tl.load(vectors + at + place[None, :], mask=real, other=0.0).to(tl.float32)
    there = tl.load(vectors + at + partner[None, :], mask=real, other=0.0).to(tl.float32)
    if NORMED:
        scale = tl.rsqrt(tl.sum(here * here, axis=1) / DIM + eps)[:, None]
        inside = place < DIM
        here = here * scale * tl.load(norm + place, mask=inside, other=0.0).to(tl.float32)[None, :]
        there = there * scale * tl.load(norm + partner, mask=inside, other=0.0).to(tl.float32)[None, :]
    return here * cos[None, :] + there * sin[None, :]


@triton.jit
def _attend(joint, cos_table, sin_table, prompt_memory, own_memory, prompt_of, length_of, answer_of, step, q_norm, k_norm, out, scratch,
            prompt_kind, prompt_row, prompt_head, own_kind, own_row, own_head, scale, eps,
            HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SHARING: tl.constexpr, DIM: tl.constexpr, NORMED: tl.constexpr,
            QUERIES: tl.constexpr, WIDE: tl.constexpr, PARTS: tl.constexpr, SLOTS: tl.constexpr, PRECISION: tl.constexpr):
    """A program for each row, key/value head and part of the memory: the query heads that share it are the rows of its products.

    One pass with a running softmax. What a part has found goes to `scratch`, with its highest score and the sum of its weights.
    """
    row, head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    now, length = tl.load(step), tl.load(length_of + row)
    kind = out.dtype.element_ty

    place, query = tl.arange(0, WIDE), tl.arange(0, QUERIES)
    inside, asks = place < DIM, query < SHARING
    angle = (length + now) * DIM + place
    cos = tl.load(cos_table + angle, mask=inside, other=0.0).to(tl.float32)
    sin = tl.load(sin_table + angle, mask=inside, other=0.0).to(tl.float32)

    first = row * (HEADS + 2 * KV_HEADS) * DIM
    one = tl.arange(0, 1)
    query_at = first + (head * SHARING + query[:, None]) * DIM
    key_at = first + (HEADS + head + one[:, None]) * DIM
    queries = _turned(joint, query_at, place, cos, sin, q_norm, eps, asks[:, None] & inside[None, :], DIM, NORMED)
    key = _turned(joint, key_at, place, cos, sin, k_norm, eps, (one[:, None] == 0) & inside[None, :], DIM, NORMED).to(kind)
    value = tl.load(joint + key_at + KV_HEADS * DIM + place[None, :], mask=inside[None, :], other=0.0)

    own = own_memory + tl.load(answer_of + row) * own_row + head * own_head
    if part == 0:
        tl.store(own + now * DIM + place[None, :], key, mask=inside[None, :])
        tl.store(own + own_kind + now * DIM + place[None, :], value, mask=inside[None, :])

    queries = queries.to(kind)
    itself = tl.sum(queries.to(tl.float32) * key.to(tl.float32), axis=1) * scale     # the token sees itself, in the first part
    best = tl.where(part == 0, itself, float("-inf"))
    total = tl.zeros((QUERIES,), tl.float32) + tl.where(part == 0, 1.0, 0.0)
    found = tl.zeros((QUERIES, WIDE), tl.float32) + tl.where(part == 0, value.to(tl.float32), 0.0)
    slot = tl.arange(0, SLOTS)
    shared = prompt_memory + tl.load(prompt_of + row) * prompt_row + head * prompt_head
    for which in tl.static_range(2):                                                 # the prompt, then what the row has written before
        memory, apart, count = shared, prompt_kind, length
        if which == 1:
            memory, apart, count = own, own_kind, now
        each = tl.cdiv(tl.cdiv(count, PARTS), SLOTS) * SLOTS
        end = tl.minimum((part + 1) * each, count)
        for start in range(part * each, end, SLOTS):
            written = start + slot < end
            at = memory + (start + slot)[:, None] * DIM + place[None, :]
            seen = written[:, None] & inside[None, :]
            keys = tl.load(at, mask=seen, other=0.0)
            values = tl.load(at + apart, mask=seen, other=0.0)
            scores = tl.where(written[None, :], tl.dot(queries, keys.T, input_precision=PRECISION) * scale, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, axis=1))
            weights = tl.exp(scores - higher[:, None])
            less = tl.exp(best - higher)
            total = total * less + tl.sum(weights, axis=1)
            found = found * less[:, None] + tl.dot(weights.to(kind), values, input_precision=PRECISION)
            best = higher
    if PARTS == 1:
        at = row * HEADS * DIM + (head * SHARING + query[:, None]) * DIM + place[None, :]
        tl.store(out + at, (found / total[:, None]).to(kind), mask=asks[:, None] & inside[None, :])
    else:
        line = (((row * KV_HEADS + head) * PARTS + part) * QUERIES + query) * (WIDE + 2)
        tl.store(scratch + line[:, None] + place[None, :], found)
        tl.store(scratch + line + WIDE, best)
        tl.store(scratch + line + WIDE + 1, total)


@triton.jit
def _join(scratch, out, HEADS: tl.constexpr, SHARING: tl.constexpr, DIM: tl.constexpr, QUERIES: tl.constexpr, WIDE: tl.constexpr,
          PARTS: tl.constexpr):
    """The parts of a row and key/value head under one softmax."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place, query = tl.arange(0, WIDE), tl.arange(0, QUERIES)
    best = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    found = tl.zeros((QUERIES, WIDE), tl.float32)
    for part in range(PARTS):                                                        # the first holds the token itself, so none is empty
        line = (((row * (HEADS // SHARING) + head) * PARTS + part) * QUERIES + query) * (WIDE + 2)
        highest = tl.load(scratch + line + WIDE)
        higher = tl.maximum(best, highest)
        more, less = tl.exp(highest - higher), tl.exp(best - higher)
        total = total * less + tl.load(scratch + line + WIDE + 1) * more
        found = found * less[:, None] + tl.load(scratch + line[:, None] + place[None, :]) * more[:, None]
        best = higher
    at = row * HEADS * DIM + (head * SHARING + query[:, None]) * DIM + place[None, :]
    tl.store(out + at, (found / total[:, None]).to(out.dtype.element_ty), mask=(query < SHARING)[:, None] & (place < DIM)[None, :])


# ------------------------------------------------------------------------------------------------------------------------------------------
# The gate of a feed-forward layer

def gated(both: Tensor) -> Tensor:
    """silu(gate) * up of [2, rows, inner], gate and up; [rows, inner]."""
    _, rows, inner = both.shape
    out = both.new_empty(rows, inner)
    _gated[rows, triton.cdiv(inner, 1024)](both, out, inner, both.stride(0), both.stride(1), BLOCK=1024)
    return out


@triton.jit
def _gated(both, out, inner, apart, line, BLOCK: tl.constexpr):
    row, place = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < inner
    gate = tl.load(both + row * line + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + row * line + apart + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * inner + place, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


# ------------------------------------------------------------------------------------------------------------------------------------------
# One token

def draw(logits: Tensor, uniform: Tensor, answer_of: Tensor, step: Tensor, temperature: float, ids: Tensor, all_ids: Tensor,
         all_logprobs: Tensor, ended: Tensor, stops: Tensor) -> None:
    """Draw the next token of each row by inverting the distribution function, as `sampling.torch.draw` does, and note it.

    logits: [rows, vocabulary]; uniform, all_ids, all_logprobs: [answers, steps]; answer_of: [rows], step: [1], which of these to read and
    write. Also written: ids, [rows], and ended, [rows], where the token is one of `stops`, [vocabulary].
    """
    rows, vocabulary = logits.shape
    _draw[rows,](logits, uniform, answer_of, step, 1 / temperature, ids, all_ids, all_logprobs, ended, stops, uniform.shape[1],
                 VOCABULARY=vocabulary, BLOCK=min(4096, _power(vocabulary)))


@triton.jit
def _weights(logits, place, highest, heat, VOCABULARY: tl.constexpr):
    """exp of the logits at these places, in relation to the highest: float64, whose sums over a large vocabulary move no draw."""
    some = tl.load(logits + place, mask=place < VOCABULARY, other=float("-inf")).to(tl.float32)
    return tl.exp((some - highest) * heat).to(tl.float64)


@triton.jit
def _draw(logits, uniform, answer_of, step, heat, ids, all_ids, all_logprobs, ended, stops, steps,
          VOCABULARY: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    note = tl.load(answer_of + row) * steps + tl.load(step)
    logits += row * VOCABULARY
    block = tl.arange(0, BLOCK)
    highest = float("-inf")
    for start in range(0, VOCABULARY, BLOCK):
        place = start + block
        some = tl.load(logits + place, mask=place < VOCABULARY, other=float("-inf")).to(tl.float32)
        highest = tl.maximum(highest, tl.max(some, axis=0))
    total = tl.zeros((), tl.float64)
    for start in range(0, VOCABULARY, BLOCK):
        total += tl.sum(_weights(logits, start + block, highest, heat, VOCABULARY), axis=0)

    wanted = tl.load(uniform + note) * total
    before, token, chosen = tl.zeros((), tl.float64), tl.zeros((), tl.int64), tl.zeros((), tl.float64)
    for start in range(0, VOCABULARY, BLOCK):
        weights = _weights(logits, start + block, highest, heat, VOCABULARY)
        running = before + tl.cumsum(weights, axis=0)
        # The first place where the running sum passes what is wanted, among those that have weight; the last such, if rounding hides it.
        passed = (running > wanted) & (weights > 0)
        here = tl.min(tl.where(passed, block, BLOCK), axis=0)
        last = tl.max(tl.where(weights > 0, block, -1), axis=0)
        place = tl.where(here < BLOCK, here, last)
        take = (before <= wanted) & (last >= 0)
        token = tl.where(take, (start + place).to(tl.int64), token)
        chosen = tl.where(take, tl.sum(tl.where(block == place, weights, 0.0), axis=0), chosen)
        before += tl.sum(weights, axis=0)
    tl.store(ids + row, token)
    tl.store(all_ids + note, token)
    tl.store(all_logprobs + note, tl.log(chosen / total).to(tl.float32))
    tl.store(ended + row, tl.load(ended + row) | tl.load(stops + token))
