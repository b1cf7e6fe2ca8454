"""What a CPU does in one pass where plain torch makes ten: C, compiled for the heads of one model when it is first asked for.

For `sampling/torch.py`, which works without it, too: where there is no C compiler, or for numbers other than float32. The work is split
between torch's own threads. Nothing is kept: the compiled file is gone as soon as it is loaded.
"""

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from r1lib.policy import first_line

_SOURCE = Path(__file__).with_name("native.c")
_PROCESSOR = ("-march=native", "-mprefer-vector-width=512") if platform.machine() in ("x86_64", "AMD64") else ("-mcpu=native",)
# fast-math lets sums be computed side by side. It is not said when linking: a library that is linked with it makes the whole process flush
# the smallest numbers to zero. The pool of threads is the one that torch has loaded.
_COMPILE = ("-c", "-O3", *_PROCESSOR, "-ffast-math", "-fopenmp", "-fPIC")
_LINK = ("-shared", "-fopenmp")


class Kernels:
    """Those of `sampling.triton` that pay on a CPU, and `norm`, for one model's heads and vocabulary. All tensors are float32 and whole."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._attend, self._norm, self._gated, self._draw = library.attend, library.norm, library.gated, library.draw
        self._attend.argtypes = [pointer] * 8 + [integer] + [pointer] * 3 + [integer] * 7 + [real] * 2
        self._norm.argtypes = [pointer] * 3 + [integer] * 2 + [real]
        self._gated.argtypes = [pointer] * 2 + [integer]
        self._draw.argtypes = [pointer] * 3 + [integer, real] + [pointer] * 6 + [integer] * 2
        for kernel in (self._attend, self._norm, self._gated, self._draw):
            kernel.restype = None

    def attend(self, joint: Tensor, cos: Tensor, sin: Tensor, prompt_memory: Tensor, own_memory: Tensor, prompt_of: Tensor,
               length_of: Tensor, answer_of: Tensor, step: Tensor, *, heads: int, norms: Sequence[Tensor] = (), eps: float = 0.0) -> Tensor:
        """As `triton.attend`."""
        rows, _, dim = joint.shape
        out = joint.new_empty(rows, heads * dim)
        q_norm, k_norm = (norm.data_ptr() for norm in norms) if norms else (None, None)
        self._attend(joint.data_ptr(), cos.data_ptr(), sin.data_ptr(), prompt_memory.data_ptr(), own_memory.data_ptr(),
                     prompt_of.data_ptr(), length_of.data_ptr(), answer_of.data_ptr(), int(step), q_norm, k_norm, out.data_ptr(), rows,
                     *prompt_memory.stride()[:3], *own_memory.stride()[:3], dim ** -0.5, eps)
        return out

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x [..., width], each line divided by the root of its mean square, times the weights [width]."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self._norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), x.numel() // len(weight), len(weight), eps)
        return out

    def gated(self, both: Tensor) -> Tensor:
        """As `triton.gated`, into the gate's own memory."""
        gate, up = both
        self._gated(gate.data_ptr(), up.data_ptr(), gate.numel())
        return gate

    def draw(self, logits: Tensor, uniform: Tensor, answer_of: Tensor, step: Tensor, temperature: float, ids: Tensor, all_ids: Tensor,
             all_logprobs: Tensor, ended: Tensor, stops: Tensor) -> None:
        """As `triton.draw`."""
        weights = torch.empty_like(logits)
        self._draw(logits.data_ptr(), uniform.data_ptr(), answer_of.data_ptr(), int(step), 1 / temperature, ids.data_ptr(),
                   all_ids.data_ptr(), all_logprobs.data_ptr(), ended.data_ptr(), stops.data_ptr(), weights.data_ptr(), len(logits),
                   uniform.shape[1])


@functools.cache
def kernels(heads: int, kv_heads: int, dim: int, vocabulary: int) -> Kernels | None:
    """Compiled for a model of this shape, in a third of a second. None, and a line that says so, where that cannot be done."""
    sizes = [f"-D{name}={value}" for name, value in dict(HEADS=heads, KV_HEADS=kv_heads, DIM=dim, VOCABULARY=vocabulary).items()]
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = f"{folder}/kernels.o", f"{folder}/kernels.so"
        try:
            compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "cc", "gcc", "clang"))), None)
            if compiler is None:
                raise OSError("there is no C compiler")
            for step in ([*_COMPILE, *sizes, str(_SOURCE), "-o", compiled], [*_LINK, compiled, "-o", linked, "-lm"]):
                ran = subprocess.run([compiler, *step], capture_output=True, text=True)
                if ran.returncode:
                    raise OSError(ran.stderr or f"{compiler} fails and does not say why")
            return Kernels(ctypes.CDLL(linked))
        except OSError as error:
            print(f"The sampler does without its kernels in C, which would be faster: {first_line(error)[:200]}.")
            return None
