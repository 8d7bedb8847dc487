"""How fast this machine is beside that of a shipped profile, measured in half a second."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import torch

from .. import topologies
from ..hardware.profile.grid import Grid
from ..hardware.profile.profile import STARTED, Profile
from ..hardware.profile.scaling import Factors, is_far, scaled_by
from ..support.debug import debug
from ..support.fresh_thread import outside_modes
from ..support.told import told
from ..support.torch_threads import torch_threads
from .calibrate import Programs, in_programs
from .measure_profile import Probe

# What is timed of each table; the median of the ratios is the factor. Products so large that
# arithmetic bounds them, of few rows and of many; small ones as steps of plans have them.
_GEMM = ((16, 256, 2048), (64, 256, 256), (256, 256, 256), (256, 64, 2048))
# One that reads or writes more than caches hold, as a dense layer does.
_FAR = (64, 2048, 2048)
_BATCHED = ((4, 16, 16), (16, 16, 16), (8, 64, 8), (64, 16, 64), (64, 64, 64))
_STREAM = (2**14, 2**18, 2**22)
_STRIDED = ((8, 16, 2**15), (8, 128, 2**18), (32, 1024, 2**18), (128, 16, 2**18))
_TRANSPOSED = (2**15, 2**18)
_FEW = ((4, 4, 4), (1, 16, 4), (4, 4, 16))
# More than the C library keeps, little enough for any machine.
_FAULT = 40 * 2**20
# Whole programs: in them the operations before have taken the caches, and calls are cold.
_CUBE = (16, 16, 16)
_SMALL: Programs = (
    (lambda: topologies.tensor_train((4, 4, 4), (4, 4, 4), 2), 1),
    (lambda: topologies.tucker((4, 4, 4), (4, 4, 4), 2), 2),
)
_LARGE: Programs = (
    (lambda: topologies.tensor_train(_CUBE, _CUBE, 4), 8),
    (lambda: topologies.tucker(_CUBE, _CUBE, 8), 16),
    (lambda: topologies.btt((64, 64), (64, 64), 2), 16),
)


def machine_factors(profile: Profile) -> Factors:
    """How many times as long things take on this machine as a profile says.

    Measured on one thread, for beside a loop that takes all cores the threads of one operation wait
    for each other. The least of several short runs counts, which nothing disturbed. A plan may be
    made under any mode of torch, which says nothing of the machine.

    Arguments:
        profile: of another machine, on one thread.
    """
    with told("measuring how fast this machine is, once"):
        found = outside_modes(lambda: _measured(profile))
    debug(1, f"this machine beside that of the profile: {found}")
    return found


def _measured(profile: Profile) -> Factors:
    with torch_threads(1):
        with torch.no_grad():
            factors = _of_operations(profile).bounded()
        starting, working = in_programs(scaled_by(profile, factors), _SMALL, _LARGE)
    return replace(factors, starting=starting, working=working)


def _of_operations(profile: Profile) -> Factors:
    """The median ratio of some entries of each table, and of the start of each kind of call."""
    probe = Probe(torch.device(profile.device), getattr(torch, profile.dtype))
    _measure(probe)
    starts = {kind: probe.calls[kind] / profile.call_seconds[kind] for kind in STARTED}
    # What autograd adds is Python and C++ of the same kind.
    usual = statistics.median(starts.values())
    own, vectors = probe.multiply_add, profile.multiply_add
    return Factors(
        gemm=_of_variants(probe.gemm, profile.gemm, far=False),
        far=_of_variants(probe.gemm, profile.gemm, far=True),
        batched=_of_variants(probe.batched, profile.batched, far=False),
        small=_ratio(probe.small, profile.small),
        stream=_ratio(probe.stream, profile.stream),
        strided=_ratio(probe.strided, profile.strided),
        transposed=_ratio(probe.transposed, profile.transposed),
        row=probe.row / profile.row,
        block=probe.block / profile.block,
        reduce=_ratio(probe.reduce, profile.reduce),
        fault=probe.fault / profile.fault,
        multiply_add=own / vectors if own is not None and vectors is not None else 1.0,
        calls=tuple((kind, starts.get(kind, usual)) for kind, _ in profile.calls),
    )


def _measure(probe: Probe) -> None:
    probe.measure_calls()
    for sizes in (*_GEMM, _FAR):
        probe.measure_gemm(*sizes)
    for sizes in _BATCHED:
        probe.measure_batched(*sizes)
    for sizes in _FEW:
        probe.measure_small(*sizes)
    for size in _STREAM:
        probe.measure_stream(size)
    probe.measure_rows()
    for lines, stride, entries in _STRIDED:
        probe.measure_strided(lines, stride, entries)
    for entries in _TRANSPOSED:
        probe.measure_transposed(entries)
    probe.measure_fault(_FAULT, samples=3)
    probe.measure_vectors()


def _of_variants(
    measured: dict[str, dict[tuple[int, ...], float]], grids: Sequence[Grid], *, far: bool
) -> float:
    """The median over products of all variants, of those beyond caches or of the others."""
    pairs = zip(measured.values(), grids, strict=True)
    return statistics.median(
        ratio
        for one, grid in pairs
        for ratio in _ratios({s: t for s, t in one.items() if is_far(*s) is far}, grid)
    )


def _ratio(measured: dict[tuple[int, ...], float], grid: Grid) -> float:
    return statistics.median(_ratios(measured, grid))


def _ratios(measured: dict[tuple[int, ...], float], grid: Grid) -> list[float]:
    """How many times as long each entry takes as the table says."""
    return [seconds / grid.per_unit(*sizes) for sizes, seconds in measured.items()]
