"""What the compiler makes of the tensor-core mode: registers, spills, size; steps on parameters."""

from __future__ import annotations

import struct
from math import prod

import pytest

import tnlayer as tn
from tests.support.nvidia_tools import needs_nvrtc
from tests.support.tensor_core_cases import PADDED, gpu
from tnlayer.backends.cuda_resources import read_ptxas
from tnlayer.backends.cuda_source import backward_source, forward_source
from tnlayer.backends.toolchains.nvrtc import compile_cubin
from tnlayer.ir.loops import Precision, Tile, statements
from tnlayer.lowering.gpu.pipeline import schedule_backward
from tnlayer.lowering.gpu.tensor_cores.matrices import PRECISIONS

FULL = pytest.mark.full
# Two of those that had the most registers: each takes NVRTC some seconds.
BUILT: list[tuple[str, Precision, str]] = [
    ("mera_12", "tf32", "sm_90"),
    ("block_term", "3xtf32", "sm_80"),
]
# Tucker's matrices of rank 8 have no 16 terms, which bf16 takes.
REST: list[tuple[str, Precision, str]] = [
    (name, precision, arch)
    for name in PADDED
    for precision in PRECISIONS
    for arch in ("sm_80", "sm_90")
    if (name, precision, arch) not in BUILT and (name, precision) != ("tucker", "bf16")
]


@needs_nvrtc
@pytest.mark.parametrize(
    ("name", "precision", "arch"), [*BUILT, *(pytest.param(*case, marks=FULL) for case in REST)]
)
def test_registers_are_few_and_none_spills(name: str, precision: Precision, arch: str) -> None:
    """No kernel of a topology has more than 168 registers or spills, also where two blocks share
    the registers of a multiprocessor; kernels on parameters have at most 128."""
    plan = tn.plan(PADDED[name](), batch=64, minimize="flops")
    device = gpu(precision, arch)
    wanted = [value.name for value in plan.inputs]
    for source in (forward_source(plan, device), backward_source(plan, wanted, device)):
        persistent = {entry.name for entry in source.entries if entry.grid == "persistent"}
        for kernel, said in read_ptxas(compile_cubin(source.text, arch).log).items():
            assert said.spill_bytes == 0, kernel
            assert said.registers <= (168 if kernel in persistent else 128), kernel


def code_bytes(cubin: bytes, kernel: str) -> int:
    """Size of the machine code of a kernel: of its section in an ELF file."""
    (sections,) = struct.unpack_from("<Q", cubin, 40)
    each, count, names = struct.unpack_from("<HHH", cubin, 58)
    found = [struct.unpack_from("<IIQQQQ", cubin, sections + k * each) for k in range(count)]
    start = found[names][4]
    for section in found:
        text = cubin[start + section[0] :]
        if text[: text.index(b"\0")].decode() == f".text.{kernel}":
            return section[5]
    raise AssertionError(f"no kernel {kernel}")


@needs_nvrtc
def test_kernels_on_parameters_are_short() -> None:
    """MERA-2's steps on parameters, backward, are at most 48 KiB of machine code: they were 76 with
    64 products of a point written out."""
    plan = tn.plan(PADDED["mera_12"](), batch=64, minimize="flops")
    source = backward_source(plan, [value.name for value in plan.inputs], gpu("tf32"))
    cubin = compile_cubin(source.text, "sm_90")
    assert 8 * 1024 < code_bytes(cubin.binary, "backward_after1") <= 48 * 1024


@pytest.mark.parametrize(("name", "most"), [("mera_12", 64), ("tree_12", 64), ("tree_wide", 128)])
def test_long_sums_on_parameters_are_shared(name: str, most: int) -> None:
    """In kernels that run once a call at most 16 products of a point are written out, and loops
    around them stay loops. No point sums more terms than ``most``; one alone of MERA-2 would sum
    1024. A second step adds the shares."""
    plan = tn.plan(PADDED[name](), batch=64, minimize="flops")
    program = schedule_backward(plan, [v.name for v in plan.inputs], gpu("tf32")).program
    tiles = [s for s in statements((*program.before, *program.after)) if isinstance(s, Tile)]
    assert tiles
    for tile in tiles:
        assert len(tile.rows) * len(tile.columns) * len(tile.sums) <= 16
        assert all(axis.rolled for axis in tile.loops)
        assert len(tile.sums) * prod(axis.count for axis in tile.loops) <= most
    shares = [tile for tile in tiles if tile.left.buffer.endswith("_t")]
    assert shares and all(tile.right is None for tile in shares)
