"""The GPU of a run: what it is, what it can do, and the versions of what builds kernels for it."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch

from benchmarks.gpu.clock import Clock


def describe_device(clock: Clock) -> dict[str, Any]:
    """The device and what it can do: copies and products of matrices, measured here."""
    if not clock.is_cuda:
        return {"name": "cpu, a dry run: no figure of it means anything"}
    about = torch.cuda.get_device_properties(0)
    found: dict[str, Any] = {
        "name": about.name,
        "multiprocessors": about.multi_processor_count,
        "memory": about.total_memory,
        "cuda": torch.version.cuda,
    }
    found["copy_bytes_a_second"] = _copy_rate(clock)
    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        left, right = a.to(dtype), b.to(dtype)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        seconds = clock.eager(lambda _, p=left, q=right: p @ q, 1).median
        found[f"{name}_flops_a_second"] = 2 * 8192**3 / seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def _copy_rate(clock: Clock) -> float:
    """Bytes read and written a second by a copy of a gigabyte."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / clock.eager(lambda _: target.copy_(source), 1).median


def extra_versions() -> dict[str, str | None]:
    """Versions of what builds and launches kernels."""
    found: dict[str, str | None] = {}
    for name in ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
