"""Networks for tensor cores, their errors, and where fragments lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

import tnlayer as tn
from tnlayer import topologies
from tnlayer.hardware.gpu import Gpu, gpu_of
from tnlayer.ir.loops import At, Buffer, LoopProgram, LoopRegion, Mma, Precision, Threads

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: topologies.mera(8, 2),
    "brickwall": lambda: topologies.brickwall(8, dim=2, depth=3),
    "kronecker": lambda: topologies.kronecker((16, 16), (16, 16)),
    # One sample a block: x, g, y and the gradient of x are read and written straight.
    "direct": lambda: topologies.kronecker((32, 32), (32, 32)),
    # Gradients of matrices sum over 128 terms of a sample, more than are written out.
    "long": lambda: topologies.kronecker((128, 16), (128, 16)),
}
PADDED: dict[str, Callable[[], tn.Network]] = {
    **NETWORKS,
    "mera_12": lambda: topologies.mera(12, 2),
    "mera_12_fixed": lambda: topologies.mera(12, 2, fix_first_level=True),
    "brickwall_12": lambda: topologies.brickwall(12, dim=2, depth=6),
    "square": lambda: topologies.kronecker((64, 64), (64, 64)),
    "three": lambda: topologies.kronecker((16, 4, 16), (16, 4, 16)),
    "tree_8": lambda: topologies.tree(8, 2, 4),
    "tree_12": lambda: topologies.tree(12, 2, 4),
    "tree_wide": lambda: topologies.tree(12, 2, 8),
    "tucker": lambda: topologies.tucker((16, 16), (16, 16), rank=8),
    "block_term": lambda: topologies.block_term((16, 16), (16, 16), 4, 4),
    "train": lambda: topologies.tensor_train((16, 16, 16), (16, 16, 16), rank=8),
    "ring": lambda: topologies.tensor_ring((16, 16, 16), (16, 16, 16), rank=4),
    "peps": lambda: topologies.peps(2, 3, 4, 2),
}
# Relative error of a result, by precision: rounding of operands, a few steps one after another.
BOUNDS: dict[Precision, float] = {"tf32": 3e-3, "3xtf32": 4e-6, "bf16": 3e-2}


def gpu(precision: Precision | None, arch: str = "sm_90") -> Gpu:
    return replace(gpu_of(arch), tensor_cores=precision)


def distance(found: np.ndarray, exact: np.ndarray) -> float:
    """Norm of the difference over the norm."""
    return float(np.linalg.norm(found.reshape(exact.shape) - exact) / np.linalg.norm(exact))


# "Matrix Fragments" of the PTX ISA, sections of mma.m16n8k8 (.tf32) and mma.m16n8k16 (.bf16): for
# register i of a lane its row and column.
def place_of_a(lane: int, i: int, packs: bool) -> tuple[int, int]:
    group, thread = lane >> 2, lane % 4
    if not packs:
        return (group if i in (0, 2) else group + 8), (thread if i in (0, 1) else thread + 4)
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)


def place_of_b(lane: int, i: int, packs: bool) -> tuple[int, int]:
    group, thread = lane >> 2, lane % 4
    if not packs:
        return (thread if i == 0 else thread + 4), group
    return thread * 2 + (i & 1) + (8 if i >= 2 else 0), group


def place_of_c(lane: int, i: int) -> tuple[int, int]:
    group, thread = lane >> 2, lane % 4
    return (group if i < 2 else group + 8), thread * 2 + (i & 1)


def mma_program(**changes: object) -> LoopProgram:
    buffers = (Buffer("A", 256, "block"), Buffer("B", 128, "block"), Buffer("C", 128, "block"))
    a, b, c = (At(name, form="scalar") for name in "ABC")
    mma = Mma(c, a, b, tuple((r * 8, r * 8) for r in range(16)), tuple((n, n) for n in range(8)),
              tuple((k, k * 8) for k in range(8)), "tf32")  # fmt: skip
    step = LoopRegion("t", "", (Threads((), (replace(mma, **changes),)),))  # type: ignore[arg-type]
    return LoopProgram("p", "float32", 1, 1, buffers, (), (step,), (), (), 32)
