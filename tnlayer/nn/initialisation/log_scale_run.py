"""A plan run in float64 with the logarithm of each value's scale apart: no range is left.

Products of hundreds of tensors pass far beyond 1e308 on the way to a result of ordinary size, or
fall below 1e-308. Here a value is ``mantissa * exp(log)`` with entries of the mantissa near 1, so
that only entries that are small beside others of the same array are lost. Slow and plain: it is
for initialisation, not for calls.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...errors import PlanError
from ...ir.plan import Plan
from ...ir.steps import BATCH, Contract, Diagonal, Operand, Reduce, Select, Step

# A mantissa is scaled anew when its largest entry is beyond this, or below its inverse.
_FAR = 2.0**32
_SINGLE = {torch.float32, torch.complex64}


@dataclass(frozen=True, slots=True)
class Size:
    """How large the entries of a value are, in logarithms.

    Arguments:
        mean_square: of the mean of |entry|^2.
        peak: of the largest |entry|.

    Both are -inf where all entries are 0, and nan where one is not finite.
    """

    mean_square: float
    peak: float

    def times(self, log: float) -> Size:
        """The size of the entries times ``exp(log)``."""
        return Size(self.mean_square + 2 * log, self.peak + log)


@dataclass(frozen=True, slots=True)
class LogScaled:
    """An array as mantissa and scale; made by :func:`log_scaled`.

    Arguments:
        mantissa: its largest entry is near 1, unless all are 0. A stored array keeps its own dtype,
            so that no second copy of it lies there; what a plan makes is float64 or complex128.
        log: the array is ``mantissa * exp(log)``.
        size: of the array's entries.
    """

    mantissa: torch.Tensor
    log: float
    size: Size

    def times(self, log: float) -> LogScaled:
        """The array times ``exp(log)``."""
        return LogScaled(self.mantissa, self.log + log, self.size.times(log))

    def seen_as(self, mantissa: torch.Tensor) -> LogScaled:
        """The array with a view of the mantissa."""
        return LogScaled(mantissa, self.log, self.size)


def wide_dtype(array: torch.Tensor) -> torch.dtype:
    """float64 or complex128."""
    return torch.complex128 if array.is_complex() else torch.float64


def wide(array: torch.Tensor) -> torch.Tensor:
    """An array in float64 or complex128."""
    return array.to(wide_dtype(array))


def log_scaled(array: torch.Tensor, log: float = 0.0, *, has_mean: bool = True) -> LogScaled:
    """An array times ``exp(log)`` as mantissa and scale; on a CPU or a CUDA device.

    Arguments:
        array: its entries.
        log: of a factor.
        has_mean: whether the mean square is asked for; else it is nan.
    """
    if not (array.is_cpu or array.is_cuda):
        array = array.cpu()  # other devices have no float64
    array = array.detach()
    peak = _peak(array)
    if not math.isfinite(peak):
        return LogScaled(array, log, Size(math.nan, math.nan))
    if peak == 0:
        return LogScaled(array, log, Size(-math.inf, -math.inf))
    if not 1 / _FAR < peak < _FAR:
        # Twice: the inverse of a peak below 1e-308 is no float.
        half = 2.0 ** (math.frexp(peak)[1] // 2)
        rest = peak / half
        array = wide(array) / half / rest
        log, peak = log + math.log(half) + math.log(rest), 1.0
    mean_square = math.nan
    if has_mean:
        norm = float(torch.linalg.vector_norm(array, 2, dtype=wide_dtype(array)))
        mean_square = 2 * math.log(norm / math.sqrt(array.numel())) + 2 * log
    return LogScaled(array, log, Size(mean_square, math.log(peak) + log))


def _peak(array: torch.Tensor) -> float:
    """The largest |entry|."""
    if not array.numel():
        return 0.0
    if array.is_complex():
        return float(torch.linalg.vector_norm(array, math.inf, dtype=torch.complex128))
    # As vector_norm has it, in a twentieth of its time.
    low, high = torch.aminmax(array)
    return max(-float(low), float(high))


def total(terms: Sequence[LogScaled]) -> LogScaled:
    """The sum of arrays of one shape."""
    if len(terms) == 1:
        return terms[0]
    there = [term for term in terms if term.size.peak != -math.inf]
    top = max((term.log for term in there), default=0.0)
    parts = [term.mantissa * math.exp(term.log - top) for term in there]
    return log_scaled(torch.stack(parts).sum(0), top) if parts else terms[0]


@dataclass(frozen=True, slots=True)
class Run:
    """What a plan gave.

    Arguments:
        y: its result.
        sizes: how large each value is, by name, ports and parameters too.
    """

    y: LogScaled
    sizes: Mapping[str, Size]


def run_scaled(
    plan: Plan,
    inputs: Sequence[LogScaled],
    stored: Mapping[str, LogScaled],
    grid: torch.dtype | None = None,
    *,
    has_means: bool = True,
) -> Run:
    """Run a forward plan.

    Arguments:
        plan: a forward plan.
        inputs: one a port, as a program takes them, with one batch axis.
        stored: the arrays of the parameters by the plan's (canonical) names.
        grid: a dtype to which the result of each step is rounded; None: float64 as it is.
        has_means: whether the mean squares of what is computed are asked for; else they are nan.

    Values have one axis for each leg of more than one index: a tensor has 64 at most.
    """
    runner = _Runner(plan, _batch_of(plan, inputs), has_means)
    for port, x in zip(plan.ports, inputs, strict=True):
        runner.enter(port.name, port.legs, x)
    for value in plan.parameters:
        runner.enter(value.name, value.legs, stored[value.name])
    output = plan.outputs[0]
    uses = Counter(operand.value.name for step in plan.steps for operand in step.operands)
    uses[output.operand.value.name] += 1
    for step in plan.steps:
        result = runner.run(step)
        if grid is not None:
            result = result.seen_as(result.mantissa.to(grid))
        runner.put(step.result.name, result)
        for operand in step.operands:
            uses[operand.value.name] -= 1
            if not uses[operand.value.name]:
                del runner.values[operand.value.name]
    y = runner.use(output.operand)
    order = _order(runner.long(output.operand.legs), runner.long(output.legs))
    shape = [math.prod(map(runner.size, axis)) for axis in output.axes]
    # What was rounded is measured anew.
    y = y if grid is None else log_scaled(y.mantissa, y.log)
    return Run(y.seen_as(y.mantissa.permute(order).reshape(shape)), runner.sizes_of)


def _batch_of(plan: Plan, inputs: Sequence[LogScaled]) -> int:
    batched = (len(x.mantissa) for p, x in zip(plan.ports, inputs, strict=True) if BATCH in p.legs)
    return next(batched, 1)


def _order(legs: Sequence[str], wanted: Sequence[str]) -> list[int]:
    return [legs.index(leg) for leg in wanted]


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two arrays are the same memory, but for a conjugate: a tensor beside its own."""
    if not one.numel() or one.data_ptr() != other.data_ptr() or one.dtype != other.dtype:
        return False
    return one.shape == other.shape and one.stride() == other.stride()


class _Runner:
    """Values by name while a plan runs."""

    def __init__(self, plan: Plan, batch: int, has_means: bool) -> None:
        self.has_means = has_means
        self.sizes = {**plan.sizes, BATCH: batch}
        self.values: dict[str, LogScaled] = {}
        self.sizes_of: dict[str, Size] = {}

    def size(self, leg: str) -> int:
        return self.sizes[leg]

    def long(self, legs: Sequence[str]) -> list[str]:
        """Legs that have an axis: those of more than one index."""
        return [leg for leg in legs if self.sizes[leg] != 1]

    def enter(self, name: str, legs: Sequence[str], array: LogScaled) -> None:
        shape = [self.sizes[leg] for leg in self.long(legs)]
        self.put(name, array.seen_as(array.mantissa.reshape(shape)))

    def put(self, name: str, value: LogScaled) -> None:
        self.values[name] = value
        self.sizes_of[name] = value.size

    def use(self, operand: Operand, *, as_stored: bool = False) -> LogScaled:
        value = self.values[operand.value.name]
        array = value.mantissa if as_stored else wide(value.mantissa)
        return value.seen_as(array.conj() if operand.conj else array)

    def run(self, step: Step) -> LogScaled:
        """The result of one step."""
        as_stored = not self.has_means and self.is_product_of_stored(step)
        operands = [self.use(operand, as_stored=as_stored) for operand in step.operands]
        log = sum(operand.log for operand in operands)
        result = self.long(step.result.legs)
        match step:
            case Contract():
                left, right = (operand.mantissa for operand in operands)
                legs = self.long(step.left.legs), self.long(step.right.legs)
                return self.scaled(self.contract(left, right, *legs, result), log)
            case Reduce():
                legs = self.long(step.operand.legs)
                gone = [axis for axis, leg in enumerate(legs) if leg not in result]
                kept = [leg for leg in legs if leg in result]
                array = operands[0].mantissa
                array = array.sum(gone) if gone else array
                return self.scaled(array.permute(_order(kept, result)), log)
            case Diagonal():
                array, legs = operands[0].mantissa, self.long(step.operand.legs)
                for leg in result:
                    while legs.count(leg) > 1:
                        first = legs.index(leg)
                        second = legs.index(leg, first + 1)
                        array = array.diagonal(dim1=first, dim2=second)
                        legs = [*legs[:first], *legs[first + 1 : second], *legs[second + 1 :], leg]
                return self.scaled(array.permute(_order(legs, result)), log)
            case Select():
                return self.scaled(self.select(operands[0].mantissa, step), log)
            case _:
                msg = f"a forward plan has no {type(step).__name__}"
                raise PlanError(msg)

    def is_product_of_stored(self, step: Step) -> bool:
        """Whether a step multiplies two arrays of single precision, as they are stored: it is as
        exact as these are in their own dtype, in less than half the time. No product is beyond its
        range, for mantissas are near 1."""
        dtypes = {self.values[operand.value.name].mantissa.dtype for operand in step.operands}
        return (
            isinstance(step, Contract)
            and len(dtypes) == 1
            and dtypes <= _SINGLE
            and torch.get_float32_matmul_precision() == "highest"
        )

    def scaled(self, array: torch.Tensor, log: float) -> LogScaled:
        """A result."""
        return log_scaled(wide(array), log, has_mean=self.has_means)

    def contract(
        self,
        left: torch.Tensor,
        right: torch.Tensor,
        left_legs: list[str],
        right_legs: list[str],
        result: list[str],
    ) -> torch.Tensor:
        """Product of two arrays as one batch of matrix products."""
        both = [leg for leg in left_legs if leg in right_legs]
        kept = [leg for leg in both if leg in result]
        summed = [leg for leg in both if leg not in result]
        rows = [leg for leg in left_legs if leg not in both]
        columns = [leg for leg in right_legs if leg not in both]

        # One matrix product alone takes a fifth of the time of a batch of one.
        batch = [kept] if kept else []

        def matrices(array: torch.Tensor, legs: list[str], *groups: list[str]) -> torch.Tensor:
            order = _order(legs, [leg for group in groups for leg in group])
            return array.permute(order).reshape([math.prod(map(self.size, g)) for g in groups])

        first = matrices(left, left_legs, *batch, rows, summed)
        own, other = (_order(legs, [*kept, *summed]) for legs in (left_legs, right_legs))
        if own == other and _is_same(left, right) and len(rows) == len(columns):
            second = first.mH if left.is_conj() != right.is_conj() else first.mT
        else:
            second = matrices(right, right_legs, *batch, summed, columns)
        product = torch.matmul(first, second)
        legs = [*kept, *rows, *columns]
        return product.reshape([self.sizes[leg] for leg in legs]).permute(_order(legs, result))

    def select(self, array: torch.Tensor, step: Select) -> torch.Tensor:
        """The slices that a Select takes; an axis of one index is there in its legs only."""
        pins = dict(step.pins)
        axes = [axis for axis, leg in enumerate(step.operand.legs) if self.sizes[leg] != 1]
        for place, axis in reversed(list(enumerate(axes))):
            if axis in pins:
                array = array.select(place, pins[axis])
        return array
