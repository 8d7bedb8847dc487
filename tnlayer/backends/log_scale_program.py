"""A Program whose results may lie beyond the range of its dtype: a mantissa and the log of a scale.

The plan runs span by span (passes/log_scale_spans.py); between two spans torch divides the value by
a power of two and notes the exponent. Exponents are whole numbers in float64: their sum is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from ..graph.graph import Graph
from ..ir.backend_names import TORCH
from ..ir.plan import Plan
from ..ir.steps import BATCH
from ..lowering.calls.training_schedules import Mask
from ..passes.log_scale_spans import Span, degrees, product_vectors, spans
from ..runtime.autograd import autocast_is_on, is_traced, run
from ..runtime.program import Program, joined
from ..targets.backend import Build, backend_of
from ..targets.lowered import Lowered
from .cuda_resources import Resources

_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]
_jit_state = torch._C._get_tracing_state  # pyright: ignore[reportPrivateUsage]
_LOG_2 = math.log(2)


@dataclass(frozen=True, slots=True)
class Scaled:
    """Arrays divided by powers of two.

    Arguments:
        mantissa: the quotient.
        exponent: of the divisor, in float64; one a sample, or shape (1,). It has no gradient.
        peak: the largest entry before the division, of the same shape.
    """

    mantissa: torch.Tensor
    exponent: torch.Tensor
    peak: torch.Tensor

    @property
    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mantissa, and the logarithm of what it was divided by."""
        return self.mantissa, self.exponent * _LOG_2


def scaled(value: torch.Tensor, kept: int) -> Scaled:
    """Divide by the power of two that brings the largest entry into [1/2, 1).

    What has no such entry, because all are 0 or one is not finite, is left as it is.

    Arguments:
        value: any array.
        kept: number of leading dimensions that have a power each.
    """
    seen = value.detach()
    if seen.is_complex():
        seen = torch.view_as_real(seen.resolve_conj())
    if seen.dtype.itemsize < 4:
        seen = seen.float()  # a half has too few exponents for the power itself
    seen = seen.flatten(kept)
    peak = torch.linalg.vector_norm(seen, math.inf, dim=kept)
    # Powers whose reciprocal is a normal number too; sixteen times too large does no harm.
    most = _reach(seen.dtype) - 4
    usable = (peak > 0) & peak.isfinite()
    base = torch.where(usable, peak.clamp(2.0**-most, 2.0**most), 0.5)
    fraction, exponent = torch.frexp(base)
    factor = (fraction / base).reshape((*peak.shape, *[1] * (value.dim() - kept)))
    mantissa = value * factor
    if mantissa.dtype != value.dtype:
        mantissa = mantissa.to(value.dtype)
    shape = peak.shape if kept else (1,)
    return Scaled(mantissa, exponent.to(torch.float64).reshape(shape), peak.reshape(shape))


def add_scaled(terms: Sequence[Scaled]) -> Scaled:
    """The sum of results, at the scale of the largest that is not 0.

    Arguments:
        terms: each with rows as many as exponents; one row is added to all.
    """
    rows = [
        scaled(term.mantissa.reshape(*term.exponent.shape, term.mantissa.shape[-1]), kept=1)
        for term in terms
    ]
    exponents = [row.exponent + term.exponent for row, term in zip(rows, terms, strict=True)]
    present = [
        torch.where(row.peak == 0, -math.inf, exponent)
        for row, exponent in zip(rows, exponents, strict=True)
    ]
    top = torch.stack(torch.broadcast_tensors(*present)).amax(0)
    top = torch.where(top.isinf(), 0.0, top)
    total: torch.Tensor | None = None
    for row, exponent in zip(rows, exponents, strict=True):
        mantissa = row.mantissa
        factor = torch.exp2((exponent - top).clamp(max=0.0)).unsqueeze(-1)
        part = mantissa * factor.to(mantissa.dtype.to_real())
        total = part if total is None else total + part
    assert total is not None, "there is a term"
    found = scaled(total, kept=1)
    return Scaled(found.mantissa, found.exponent + top, found.peak)


def _reach(dtype: torch.dtype) -> int:
    """The exponent of two that no number of a dtype reaches."""
    return round(math.log2(torch.finfo(dtype).max))


class ScaledProgram(Program):
    """A compiled network that returns a mantissa and the log of a scale; made by
    ``tnlayer.compile(..., log_scale=True)``.

    y = mantissa * exp(log_scale). The scale is a power of two, one a sample, and counts as a
    constant where something is differentiated: log|mantissa| + log_scale has the gradient of
    log|y|. The largest entry of a sample's mantissa is in [1/2, 1), or all are 0.

    Arguments:
        graph, plan, tensor_names, limit, device, arch: as for every program.
        compiled: the backend of all spans; None: that of the regions that their steps lie in.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        tensor_names: Mapping[str, str],
        *,
        limit: int | None = None,
        device: str = "cpu",
        arch: str | None = None,
        compiled: str | None = None,
        lowered: Lowered | None = None,
    ) -> None:
        super().__init__(graph, plan, tensor_names, limit=limit, device=device, lowered=lowered)
        self.arch, self.compiled = arch, compiled
        self.backend = compiled or plan.backend
        # By how many powers of two values may grow or shrink before they are scaled again.
        self.bits = _reach(self.dtype.to_real()) // 3
        self.factors = degrees(plan)
        self.vectors = product_vectors(plan)
        self._programs: dict[tuple[Plan, str], Program] = {}
        self.spans = self._with_programs(spans(plan, self.bits), compiled)
        # Spans of one contraction each, as torch's calls; made before torch looks into a call.
        self.fine = self._with_programs(spans(plan, 0), TORCH)

    def _with_programs(
        self, parts: Sequence[Span], backend: str | None
    ) -> tuple[tuple[Span, Program], ...]:
        """A program for each span; equal ones have the same."""
        return tuple((span, self._program(span.plan, backend or span.backend)) for span in parts)

    def _program(self, plan: Plan, backend: str) -> Program:
        with self._lock:
            key = plan, backend
            program = self._programs.get(key)
            if program is None:
                own = {value.name: value.name for value in plan.parameters}
                build = Build(self.limit, self.device, self.arch)
                every = (True,) * len(plan.inputs)
                lowered = backend_of(backend).lower(plan, every, self.lowered.target)
                if lowered.why_not and self.compiled is None:
                    # A part of a plan may not have the form that the whole has.
                    backend = TORCH
                    lowered = backend_of(backend).lower(plan, every, self.lowered.target)
                program = backend_of(backend).program(self.graph, lowered, own, build)
                self._programs[key] = program
            return program

    # -- how it runs -----------------------------------------------------------------------

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *inputs: torch.Tensor, parameters: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Contract the network with the inputs, as every program does.

        Returns:
            the mantissa, of y's shape, and log_scale, float64: of shape (batch,), or () if no port
            is batched.
        """
        arrays = self.checked(inputs, parameters)
        mantissa, log_scale = self.scaled(*arrays).pair
        return mantissa, log_scale if self.plan.is_batched else log_scale.reshape(())

    def scaled(self, *arrays: torch.Tensor) -> Scaled:
        """y for ports, then parameters, in the program's order, all of its dtype."""
        kind = arrays[0].device.type if arrays else "cpu"
        off = torch.autocast(kind, enabled=False) if autocast_is_on(kind) else nullcontext()
        with off:
            if not self._can_look(arrays):
                return self._run(self.fine, arrays, _plainly)[0]
            y, peaks = self._run(self.spans, arrays, run)
            least = torch.cat(peaks)
            if least.numel() and bool(least.amin() < 2.0**-self.bits):
                return self._run(self.fine, arrays, run)[0]
            return y

    def _can_look(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether a call may go another way because of what values are."""
        hidden = is_traced() or _mode_count() or _jit_state() is not None
        return not hidden and not any(array.is_meta for array in arrays)

    def _run(
        self,
        parts: Sequence[tuple[Span, Program]],
        arrays: Sequence[torch.Tensor],
        call: Callable[[Program, tuple[torch.Tensor, ...]], torch.Tensor],
    ) -> tuple[Scaled, list[torch.Tensor]]:
        """y, and the largest entry of each span's result before it was scaled."""
        known, powers = self._started(arrays)
        peaks: list[torch.Tensor] = []
        y: Scaled | None = None
        for span, program in parts:
            value = call(program, tuple(known[source] for source in span.sources))
            batched = BATCH in program.plan.outputs[0].legs
            y = scaled(value, kept=int(batched))
            peaks.append(y.peak)
            known[span.result] = y.mantissa
            powers.add(y.exponent, self.factors[span.result], batched)
        assert y is not None, "the last span ends in y"
        return Scaled(y.mantissa, powers.total(), y.peak), peaks

    def _started(self, arrays: Sequence[torch.Tensor]) -> tuple[dict[str, torch.Tensor], _Powers]:
        """What spans start from by name, scaled, and the powers that it was divided by."""
        known: dict[str, torch.Tensor] = {}
        powers = _Powers()
        by_port: dict[str, list[str]] = {}
        for name, step in self.vectors.items():
            by_port.setdefault(step.operand.value.name, []).append(name)
        for value, array in zip(self.plan.inputs, arrays, strict=True):
            batched = int(BATCH in value.legs)
            names = by_port.get(value.name)
            if names is None:
                one = scaled(array, kept=batched)
                known[value.name] = one.mantissa
                powers.add(one.exponent, self.factors[value.name], batched)
                continue
            # A product port: each leg's vector by itself, sliced in one call.
            many = scaled(array, kept=batched + 1)
            vectors, exponents = many.mantissa.unbind(batched), many.exponent.unbind(batched)
            for name in names:
                ((_, place),) = self.vectors[name].pins
                known[name] = vectors[place]
                exponent = exponents[place] if batched else exponents[place].reshape(1)
                powers.add(exponent, self.factors[name], batched)
        return known, powers

    # -- what is built ---------------------------------------------------------------------

    def span_masks(self, mask: Mask) -> tuple[Mask, ...]:
        """Which gradients each span gives: that of a cut is wanted if one before it is."""
        pairs = zip(self.plan.inputs, mask, strict=True)
        wanted = {value.name for value, asked in pairs if asked}
        wanted |= {n for n, step in self.vectors.items() if step.operand.value.name in wanted}
        found: list[Mask] = []
        for span, _ in self.spans:
            found.append(tuple(source in wanted for source in span.sources))
            if any(found[-1]):
                wanted.add(span.result)
        return tuple(found)

    def _builds(self, mask: Mask | None = None) -> dict[tuple[Program, Mask], None]:
        """Each program that a training step runs, with its mask of wanted gradients, once."""
        masks = self.span_masks(self.training_mask() if mask is None else mask)
        return {(p, own): None for (_, p), own in zip(self.spans, masks, strict=True)}

    def prepare(self, mask: Mask | None = None) -> None:
        """Build what a training step needs now: forward and backward of each span."""
        for program, own in self._builds(mask):
            program.prepare(own)

    def source(self, mask: Mask | None = None) -> str:
        """The generated code of the spans; equal ones stand there once."""
        builds = list(self._builds(mask))
        head = (
            f"# {len(self.spans)} spans, {len(builds)} of them different; between two of them the "
            "value is divided by a power of two"
        )
        return "\n\n".join((head, *(program.source(own) for program, own in builds)))

    def sources(self, mask: Mask | None = None) -> Mapping[str, str]:
        """The same in parts, each span by span."""
        return joined([program.sources(own) for program, own in self._builds(mask)])

    @property
    def binary(self) -> Mapping[str, bytes]:
        """The cubins of a training step, with the numbers of their spans: "forward_1"; nothing
        where torch does all.

        Raises:
            BuildError: they cannot be built.
        """
        found: dict[str, bytes] = {}
        for number, units in enumerate(self._units(), 1):
            found |= {f"{name}_{number}": unit.built().cubin.binary for name, unit in units.items()}
        return MappingProxyType(found)

    @property
    def resources(self) -> tuple[Resources, ...]:
        """What each CUDA kernel of a training step takes, span by span.

        Raises:
            BuildError: they cannot be built.
        """
        built = [unit.built() for units in self._units() for unit in units.values()]
        return tuple(one for unit in built for one in unit.resources())

    def _units(self) -> list[Mapping[str, Any]]:
        """The CUDA units of the spans that have any."""
        return [units for p, own in self._builds() if (units := p.units(own))]

    def __getstate__(self) -> dict[str, Any]:
        """As for every program, with the backend and the architecture that were asked for."""
        return {**super().__getstate__(), "arch": self.arch, "compiled": self.compiled}


def _plainly(program: Program, arrays: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The result as calls that torch can look into."""
    return program.reference(*arrays)[0]


class _Powers:
    """Exponents of what a call was divided by, each with how often it enters y."""

    def __init__(self) -> None:
        self.found: dict[bool, list[tuple[torch.Tensor, int]]] = {False: [], True: []}

    def add(self, exponent: torch.Tensor, count: int, batched: int) -> None:
        """Note one exponent, or one a sample."""
        self.found[bool(batched)].append((exponent, count))

    def total(self) -> torch.Tensor:
        """Their sum: one a sample, if any is."""
        sums: list[torch.Tensor] = []
        for group in filter(None, self.found.values()):
            stacked = torch.stack([exponent for exponent, _ in group], -1)
            sums.append(stacked @ stacked.new_tensor([float(count) for _, count in group]))
        return sums[0] if len(sums) == 1 else sums[0] + sums[1]
