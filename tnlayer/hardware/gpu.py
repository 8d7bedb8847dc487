"""What CUDA kernels are made for: a GPU as schedules see it."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.loops import Precision


@dataclass(frozen=True, slots=True)
class Tiling:
    """How large the block of results is that one point makes.

    Arguments:
        rows, columns: legs of the left operand alone, and of the right one alone.
        products: products that are written out for them.
        points: points that a loop should keep: fewer leave threads of a block without work.
    """

    rows: int = 4
    columns: int = 4
    products: int = 64
    points: int = 256


SMALL, LARGE = Tiling(), Tiling(8, 8, 64, 128)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What kernels are made for.

    Arguments:
        arch: as NVRTC names it, "sm_90".
        shared_bytes: shared memory that one block may have.
        registers: 32-bit entries of a sample's state that a thread may hold at any time.
        kept: the same for all states of a segment that a backward holds at once, with a gradient of
            a state and one of a weight; half as many more where one block has all registers. With
            192 MERA-2 takes 9 segments and not 11, but 240 registers: a GPU has to tell.
        threads: of a block, at most.
        resident: threads on a multiprocessor that a kernel's registers are bounded for: 512 leave
            128 registers each. Where a kernel spills with that it is printed again for fewer.
        tensor_cores: None, or the precision of products on tensor cores.
        tilings: how many results of a step a thread may make that is no segment's.
    """

    arch: str = "sm_90"
    shared_bytes: int = 227 * 1024
    registers: int = 32
    kept: int = 128
    threads: int = 256
    resident: int = 512
    tensor_cores: Precision | None = None
    tilings: tuple[Tiling, ...] = (SMALL, LARGE)


# Shared memory that one block may have, by architecture (CUDA programming guide, table of compute
# capabilities); what is not listed has what each has.
SHARED_BYTES = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_87": 163 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "sm_103": 227 * 1024,
    "sm_120": 99 * 1024,
}


def gpu_of(arch: str) -> Gpu:
    """The GPU of an architecture, e.g. "sm_90"."""
    return Gpu(arch, SHARED_BYTES.get(arch, 99 * 1024))
