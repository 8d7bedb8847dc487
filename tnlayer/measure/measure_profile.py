"""Measuring a Profile: a few seconds of small operations on the device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch

from ..backends.toolchains.find_cpp_compiler import find_compiler
from ..errors import BuildError
from ..hardware.detect_processor import processor_name
from ..hardware.profile.grid import Grid, fill_grid
from ..hardware.profile.profile import AUTOGRAD, VARIANTS, Profile
from ..support.debug import debug
from .calibrate import calibrate
from .clock import clock
from .vector_rate import multiply_add_seconds

# Sizes at which matrix products are timed; between them the tables interpolate.
_GEMM_AXIS = (1, 4, 16, 64, 256, 2048, 16384, 131072)
_GEMM_ENTRIES, _GEMM_PRODUCTS = 2**21, 2**27
_BATCHED_AXIS = (1, 2, 4, 8, 16, 64, 512)
_BATCHED_ENTRIES, _BATCHED_PRODUCTS = 2**16, 2**20
_SMALL_AXIS = (1, 4, 16, 64)
# torch runs loops of its own for bmm of matrices with fewer multiplications than this.
_SMALL_LIMIT = 400
_BATCHED_TOTAL = 2**18
# Entries beside each other that a sum keeps; 1 is a sum over the last axis.
_INNERS = (1, 4, 64, 512)
_STREAM_BYTES = tuple(2**n for n in range(12, 27, 2))
# Nothing moves bytes faster than a core's first cache.
_FASTEST_BYTE = 1e-12
# Copies that read with a stride: entries of a cache line, lines in flight, their distance, entries.
_LINE = 16
_LINES = (2, 8, 32, 128, 512, 2048)
_STRIDES = (16, 128, 1024, 16384)
_STRIDED_ENTRIES = (2**15, 2**18, 2**22)
_ROW_ENTRIES = 2**18
_TURNS, _TURN_BYTES = 4, 2**25
# glibc never keeps blocks larger than this: they are mapped, and their pages faulted, every time.
_FAULT_BYTES = 32 * 2**20
# More than the C library may have free.
_FAULT_PROBE = 192 * 2**20

# Share of the time that the tables take; fitting them to programs takes the rest.
_TABLES = 0.6


class _Timer:
    """Times calls on one device: short ones in a loop, each after a warm-up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.now = clock(device.type)

    def wait(self) -> None:
        """Wait until the device has done all that was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object], samples: int = 3) -> float:
        """Least duration of a call: what disturbs a measurement only ever adds to it."""
        call()
        self.wait()
        start = self.now()
        call()
        self.wait()
        once = self.now() - start
        loop = max(1, min(200, int(100e-6 / max(once, 1e-7))))
        times: list[float] = []
        for _ in range(samples if once < 5e-3 or samples > 3 else 1):
            start = self.now()
            for _ in range(loop):
                call()
            self.wait()
            times.append((self.now() - start) / loop)
        return min(times)


def measure_profile(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    progress: Callable[[float], object] = lambda share: None,
) -> Profile:
    """Measure what operations cost on a device, with torch's present number of threads.

    Arguments:
        device: where to measure.
        dtype: of the arrays.
        progress: called with the share done, from 0 to 1.
    """
    probe = Probe(torch.device(device), dtype)
    jobs = list(probe.jobs())
    with torch.no_grad():
        for number, job in enumerate(jobs):
            job()
            progress(_TABLES * (number + 1) / len(jobs))
    return calibrate(probe.profile(), lambda share: progress(_TABLES + (1 - _TABLES) * share))


class Probe:
    """Collects the measurements of one profile, job by job."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.timer = _Timer(device)
        self.itemsize = torch.empty(0, dtype=dtype).itemsize
        self.gemm: dict[str, dict[tuple[int, ...], float]] = {v: {} for v in VARIANTS}
        self.batched: dict[str, dict[tuple[int, ...], float]] = {v: {} for v in VARIANTS}
        self.small: dict[tuple[int, ...], float] = {}
        self.stream: dict[tuple[int, ...], float] = {}
        self.strided: dict[tuple[int, ...], float] = {}
        self.transposed: dict[tuple[int, ...], float] = {}
        self.reduce: dict[tuple[int, ...], float] = {}
        self.row = self.block = self.fault = 0.0
        self.calls: dict[str, float] = {}
        self.multiply_add: float | None = None

    def jobs(self) -> Iterator[Callable[[], None]]:
        """All measurements, each a call of some milliseconds."""
        yield self.measure_calls
        for sizes in itertools.product(_GEMM_AXIS, repeat=3):
            m, n, k = sizes
            if max(m * n, n * k, m * k) <= _GEMM_ENTRIES and m * n * k <= _GEMM_PRODUCTS:
                yield lambda sizes=sizes: self.measure_gemm(*sizes)
        for sizes in itertools.product(_BATCHED_AXIS, repeat=3):
            m, n, k = sizes
            if m * n * k < _SMALL_LIMIT:
                continue
            if max(m * n, n * k, m * k) <= _BATCHED_ENTRIES and m * n * k <= _BATCHED_PRODUCTS:
                yield lambda sizes=sizes: self.measure_batched(*sizes)
        for sizes in itertools.product(_SMALL_AXIS, repeat=3):
            if math.prod(sizes) < _SMALL_LIMIT:
                yield lambda sizes=sizes: self.measure_small(*sizes)
        for size in _STREAM_BYTES:
            yield lambda size=size: self.measure_stream(size)
        yield self.measure_rows
        for sizes in itertools.product(_LINES, _STRIDES, _STRIDED_ENTRIES):
            if sizes[0] * sizes[1] <= sizes[2]:
                yield lambda sizes=sizes: self.measure_strided(*sizes)
        for entries in _STRIDED_ENTRIES:
            yield lambda entries=entries: self.measure_transposed(entries)
        yield self.measure_fault
        if self.device.type == "cpu":
            yield self.measure_vectors

    def random(self, *shape: int) -> torch.Tensor:
        """An array that is no special case for any kernel."""
        return torch.ones(shape, dtype=self.dtype, device=self.device).mul_(1.25)

    def _factors(self, variant: str, m: int, n: int, k: int, *lead: int) -> list[torch.Tensor]:
        left = self.random(*lead, k, m).mT if variant[0] == "t" else self.random(*lead, m, k)
        right = self.random(*lead, n, k).mT if variant[1] == "t" else self.random(*lead, k, n)
        return [left, right]

    def measure_gemm(self, m: int, n: int, k: int) -> None:
        """One product of matrices, of each variant."""
        for variant in VARIANTS:
            left, right = self._factors(variant, m, n, k)
            seconds = self.timer.seconds(lambda left=left, right=right: torch.mm(left, right))
            self.gemm[variant][m, n, k] = seconds / (m * n * k)

    def measure_batched(self, m: int, n: int, k: int) -> None:
        """Many products of small matrices, of each variant."""
        count = max(2, _BATCHED_TOTAL // max(m * n, n * k, m * k))
        for variant in VARIANTS:
            left, right = self._factors(variant, m, n, k, count)
            seconds = self.timer.seconds(lambda left=left, right=right: torch.bmm(left, right))
            self.batched[variant][m, n, k] = max(
                1e-13, (seconds - self.calls["bmm"]) / (count * m * n * k)
            )

    def measure_small(self, m: int, n: int, k: int) -> None:
        """The same where torch does not call the BLAS."""
        count = max(2, _BATCHED_TOTAL // 4 // max(m * n, n * k, m * k))
        left, right = self._factors("nn", m, n, k, count)
        seconds = self.timer.seconds(lambda: torch.bmm(left, right))
        self.small[m, n, k] = max(1e-13, (seconds - self.calls["bmm"]) / (count * m * n * k))

    def measure_stream(self, size: int) -> None:
        """Bytes count twice: read and written."""
        source = self.random(max(1, size // 2 // self.itemsize))
        seconds = self._copy_seconds(source)
        self.stream[(size,)] = max(_FASTEST_BYTE * size, seconds - self.calls["copy"] / 2) / size
        entries = source.numel()
        for inner in _INNERS:
            if inner > entries:
                continue
            rows = min(_INNERS[-1], entries)
            matrix = source.reshape(-1, inner) if inner > 1 else source.reshape(rows, -1)
            seconds = self.timer.seconds(lambda m=matrix, i=inner: m.sum(0 if i > 1 else 1))
            rest = max(_FASTEST_BYTE * size, seconds - self.calls["sum"])
            self.reduce[inner, size // 2] = rest / (size // 2)

    def _copy_seconds(self, source: torch.Tensor) -> float:
        """A copy between arrays that take turns: in a program the next one is another one."""
        turns = _TURNS if source.numel() * self.itemsize <= _TURN_BYTES else 1
        # empty_like keeps the strides of a permuted array.
        sources = itertools.cycle([torch.empty_like(source).copy_(source) for _ in range(turns)])
        targets = itertools.cycle([source.new_empty(source.shape) for _ in range(turns)])
        return self.timer.seconds(lambda: next(targets).copy_(next(sources)), 2 * turns)

    def measure_strided(self, lines: int, stride: int, entries: int) -> None:
        """Rows of ``lines`` entries that lie ``stride`` apart; the next row reads beside them."""
        inner, outer = stride // _LINE, entries // (lines * stride)
        source = self.random(outer, lines, inner, _LINE).permute(0, 2, 3, 1)
        seconds = self._copy_seconds(source)
        loops = entries / lines * self.row
        if inner * outer > 1:
            loops += entries / (lines * _LINE) * self.block
        rest = seconds - self.calls["copy"] - loops
        self.strided[lines, stride, entries] = max(_FASTEST_BYTE, rest / entries)

    def measure_transposed(self, entries: int) -> None:
        """torch has a blocked transposition for two axes."""
        rows = 2 ** (int(math.log2(entries)) // 2)
        source = self.random(rows, entries // rows)
        seconds = self._copy_seconds(source.mT)
        self.transposed[(entries,)] = max(_FASTEST_BYTE, (seconds - self.calls["copy"]) / entries)

    def measure_rows(self) -> None:
        """Rows of four entries in two loops, then in many loops of two."""
        plain = self.stream[min(self.stream, key=lambda s: abs(s[0] - 2 * _ROW_ENTRIES * 4))]
        moved = 2 * _ROW_ENTRIES * self.itemsize * plain
        rows = self.random(_ROW_ENTRIES // 64, 16, 4).permute(1, 0, 2)
        target = torch.empty(rows.shape, dtype=self.dtype, device=self.device)
        seconds = self.timer.seconds(lambda: target.copy_(rows), 7)
        self.row = max(1e-12, (seconds - moved) / (_ROW_ENTRIES / 4))
        legs = int(math.log2(_ROW_ENTRIES)) - 2
        order = (*range(legs // 2 - 1, -1, -1), *range(legs - 1, legs // 2 - 1, -1), legs)
        many = self.random(*(2,) * legs, 4).permute(order)
        spread = torch.empty(many.shape, dtype=self.dtype, device=self.device)
        seconds = self.timer.seconds(lambda: spread.copy_(many), 7)
        rest = seconds - moved - self.row * _ROW_ENTRIES / 4
        self.block = max(1e-12, rest / (_ROW_ENTRIES / 8))

    def measure_fault(self, size: int = _FAULT_PROBE, samples: int = 5) -> None:
        """Fresh memory, which the system maps."""
        source = self.random(size // self.itemsize)
        target = torch.empty_like(source)
        fresh = self.timer.seconds(lambda: source + 1, samples)
        reused = self.timer.seconds(lambda: torch.add(source, 1, out=target), samples)
        self.fault = max(1e-14, (fresh - reused) / size)

    def measure_calls(self) -> None:
        """Calls on a few entries: what it takes to start them."""
        small = self.random(4, 4)
        calls: dict[str, Callable[[], object]] = {
            "mm": lambda: torch.mm(small, small),
            "bmm": lambda: torch.bmm(small[None], small[None]),
            "copy": lambda: small.mT.clone(memory_format=torch.contiguous_format),
            "product": lambda: torch.mul(small, small),
            "sum": lambda: torch.sum(small, dim=0),
            "view": lambda: small.reshape(2, 8),
        }
        self.calls = {name: self.timer.seconds(call, 15) for name, call in calls.items()}
        # Calibration measures what autograd adds.
        self.calls |= dict.fromkeys(AUTOGRAD, _FASTEST_BYTE)

    def measure_vectors(self) -> None:
        """Kernels reach what the processor does, products of torch what its library makes of it."""
        try:
            compiler = find_compiler()
            self.multiply_add = multiply_add_seconds(compiler.vector_bytes, torch.get_num_threads())
        except BuildError as error:
            debug(1, f"multiply-adds of compiled code are not measured: {error}")

    def profile(self) -> Profile:
        """Everything that was measured, as tables."""
        gemm, batched = (_GEMM_AXIS,) * 3, (_BATCHED_AXIS,) * 3
        return Profile(
            device=self.device.type,
            name=processor_name(self.device.type),
            dtype=str(self.dtype).removeprefix("torch."),
            threads=torch.get_num_threads() if self.device.type == "cpu" else 1,
            versions=(("torch", torch.__version__),),
            gemm=tuple(Grid(gemm, fill_grid(gemm, self.gemm[v])) for v in VARIANTS),
            batched=tuple(Grid(batched, fill_grid(batched, self.batched[v])) for v in VARIANTS),
            small=_filled((_SMALL_AXIS,) * 3, self.small),
            small_limit=_SMALL_LIMIT,
            stream=_filled((_STREAM_BYTES,), self.stream),
            strided=_filled((_LINES, _STRIDES, _STRIDED_ENTRIES), self.strided),
            transposed=_filled((_STRIDED_ENTRIES,), self.transposed),
            row=self.row,
            block=self.block,
            reduce=_filled((_INNERS, tuple(size // 2 for size in _STREAM_BYTES)), self.reduce),
            fault=self.fault,
            fault_bytes=_FAULT_BYTES,
            calls=tuple(sorted(self.calls.items())),
            multiply_add=self.multiply_add,
        )


def _filled(axes: Sequence[tuple[int, ...]], measured: dict[tuple[int, ...], float]) -> Grid:
    return Grid(tuple(axes), fill_grid(axes, measured))
