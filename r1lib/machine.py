"""What this machine is: the numbers that a measured time or size means nothing without."""

import os
import platform
import resource
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


@dataclass(frozen=True)
class Machine:
    """cores: those this process may use. memory_gb: of the machine, or of the container when that has less. gpus: name -> memory in GB."""

    cpu: str
    cores: int
    memory_gb: float
    gpus: tuple[tuple[str, float], ...]
    versions: dict[str, str]

    def __str__(self) -> str:
        gpus = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in self.gpus) or "none"
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"CPU     {self.cpu}, {self.cores} cores\nmemory  {self.memory_gb:.1f} GB\nGPU     {gpus}\nwith    {versions}"


def describe() -> Machine:
    """Look at the machine that this process runs on."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Machine(_cpu(), cores(), _memory_bytes() / 1e9, tuple((gpu.name, gpu.total_memory / 1e9) for gpu in gpus), _versions())


def multiplies_bfloat16(device: str = "cpu") -> bool:
    """Whether the processor (AVX-512, AMX or Arm) or the GPU (from Ampere on, so no T4) has instructions for products of bfloat16.

    Without them float32 is faster.
    """
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    able = getattr(torch.cpu, "get_capabilities", dict)()                       # an older torch, as in requirements-gpu.txt, may not say
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def gpu_memory_gb() -> float | None:
    """Of the first GPU, in GB; None where torch sees none."""
    return torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else None


def peak_memory_gb() -> float:
    """The most main memory that this process has held so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9       # macOS counts bytes, Linux kibibytes


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")                                  # a container's own limit, or "max"
    allowed = limit.read_text().strip() if limit.exists() else "max"
    return memory if allowed == "max" else min(memory, int(allowed))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    try:
        found["transformers"] = version("transformers")
    except PackageNotFoundError:
        found["transformers"] = "missing"
    return found
