"""The torch printer: a Schedule becomes readable Python, one line a call.

It decides nothing: every view, copy and order is in the schedule. Arrays are called as in the plan;
``B`` is the batch size of the call. ``mm``, ``bmm``, ``mul`` and ``copy`` are torch's, or write into
memory that calls reuse (runtime/scratch.py); what leaves the function is always made by torch's own. Arrays are deleted after their last use, so that what the
schedule counts as its peak is what is allocated.
"""

from __future__ import annotations

from tnlayer.kernels.schedule import (
    AddUp,
    Call,
    Copy,
    Group,
    MatMul,
    Place,
    Product,
    PutDiagonal,
    Repeat,
    Result,
    Schedule,
    Slice,
    Sum,
    TakeDiagonal,
    View,
)
from tnlayer.plan.steps import BATCH, Value


def print_torch(schedule: Schedule, name: str) -> str:
    """Source of a Python function that runs the schedule.

    It takes the schedule's inputs in order and returns its results, then its saved arrays, as a
    tuple.
    """
    return _TorchPrinter(schedule).function(name)


class _TorchPrinter:
    """Prints one schedule; knows the shape in which each array stands."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.sizes = schedule.sizes
        axes_of = schedule.plan.axes_of
        # A saved array comes as the forward left it, with axes merged in its own way.
        plan = schedule.plan
        self.shapes: dict[str, tuple[Group, ...] | None] = {
            value.name: axes_of(value) for value in (*plan.ports, *plan.parameters)
        } | {value.name: None for value in plan.saved}

    def function(self, name: str) -> str:
        """The whole function."""
        schedule = self.schedule
        lines = [f"def {name}({', '.join(array.name for array in schedule.inputs)}):"]
        batched = next((p.name for p in schedule.plan.ports if BATCH in p.legs), None)
        if batched is not None:
            axis = next(a.legs for a in schedule.inputs if a.name == batched).index(BATCH)
            lines.append(f"    B = {batched}.shape[{axis}]")
        for index, call in enumerate(schedule.calls):
            lines.append(f"    {call.result.name} = {self.expression(call)}  # {_comment(call)}")
            dead = [array for array, last in schedule.last_use.items() if last == index]
            if dead:
                lines.append(f"    del {', '.join(dead)}")
        results = [self.result(result) for result in schedule.results]
        results += [array.name for array in schedule.saved]
        lines.append(f"    return ({', '.join(results)},)")
        return "\n".join(lines) + "\n"

    # -- pieces ----------------------------------------------------------------------------

    def size(self, legs: Group) -> str:
        """Size of an axis as an expression."""
        product = 1
        for leg in legs:
            if leg != BATCH:
                product *= self.sizes[leg]
        if BATCH not in legs:
            return str(product)
        return "B" if product == 1 else f"B * {product}"

    def shape(self, axes: tuple[Group, ...]) -> str:
        """A shape as the arguments of reshape or zeros; one axis of size 1 where there is none."""
        return ", ".join(self.size(axis) for axis in axes)

    def view(self, view: View) -> str:
        """A view as reshape, permute, expand and conj, each only where needed."""
        text = view.array.name
        if self.shapes[text] != view.groups:
            text = f"{text}.reshape({self.shape(view.groups) or '()'})"
        if view.order == (1, 0):
            text = f"{text}.t()"
        elif view.order != tuple(range(len(view.order))):
            text = f"{text}.permute({', '.join(map(str, view.order))})"
        if view.conj:
            text = f"{text}.conj()"
        if view.repeat:
            text = f"{text}.expand({self.shape(view.axes)})"
        return text

    def result(self, result: Result) -> str:
        """A result in its final shape; its array's own variable goes on living until then."""
        return self.view(result.view)

    def expression(self, call: Call) -> str:
        """The right-hand side of a call; records the result's shape."""
        match call:
            case Copy():
                return self._copy(call)
            case MatMul():
                return self._matmul(call)
            case Product():
                return self._product(call)
            case Sum():
                return self._sum(call)
            case Repeat():
                return self._repeat(call)
            case TakeDiagonal():
                return self._take_diagonal(call)
            case PutDiagonal():
                return self._put_diagonal(call)
            case AddUp():
                return self._add_up(call)
            case Slice():
                return self._slice(call)
            case Place():
                return self._place(call)

    def _stored(self, value: Value, axes: tuple[Group, ...]) -> None:
        self.shapes[value.name] = axes

    def _copy(self, call: Copy) -> str:
        axes = call.source.axes
        self._stored(call.result, axes)
        source = self.view(call.source)
        if call.source.conj:
            return f"{source}.resolve_conj().clone()"
        if call.result.name in self.schedule.leaving:
            return f"{source}.clone(memory_format=contiguous)"
        return f"copy({source})"

    def _matmul(self, call: MatMul) -> str:
        left, right = call.left.axes, call.right.axes
        self._stored(call.result, (*left[:-1], right[-1]))
        function = "mm" if len(left) == 2 else "bmm"
        owner = "torch." if call.result.name in self.schedule.leaving else ""
        return f"{owner}{function}({self.view(call.left)}, {self.view(call.right)})"

    def _product(self, call: Product) -> str:
        pairs = zip(call.left.axes, call.right.axes, strict=True)
        self._stored(call.result, tuple(a or b for a, b in pairs))
        factors = f"{self.view(call.left)}, {self.view(call.right)}"
        if call.result.name in self.schedule.leaving:
            return f"torch.mul({factors}).contiguous()"
        return f"mul({factors})"

    def _sum(self, call: Sum) -> str:
        axes = tuple(a for i, a in enumerate(call.source.axes) if i not in call.axes)
        self._stored(call.result, axes)
        return f"torch.sum({self.view(call.source)}, dim={call.axes!r})"

    def _repeat(self, call: Repeat) -> str:
        axes = tuple((leg,) for leg in call.result.legs)
        self._stored(call.result, axes)
        source = self.view(call.source)
        return f"{source}.expand({self.shape(axes)}).clone(memory_format=contiguous)"

    def _take_diagonal(self, call: TakeDiagonal) -> str:
        self._stored(call.result, tuple((leg,) for leg in call.result.legs))
        return f"{self.view(call.source)}{_diagonals(call.pairs)}.contiguous()"

    def _put_diagonal(self, call: PutDiagonal) -> str:
        axes = tuple((leg,) for leg in call.result.legs)
        self._stored(call.result, axes)
        source = self.view(call.source)
        return f"put_diagonal({source}, ({self.shape(axes)},), {call.pairs!r})"

    def _add_up(self, call: AddUp) -> str:
        self._stored(call.result, tuple((leg,) for leg in call.result.legs))
        return " + ".join(self.view(source) for source in call.sources)

    def _slice(self, call: Slice) -> str:
        self._stored(call.result, tuple((leg,) for leg in call.result.legs))
        text = self.view(call.source)
        for axis, index in sorted(call.pins, reverse=True):
            text += f".select({axis}, {index})"
        return f"{text}.contiguous()" if call.pins else text

    def _place(self, call: Place) -> str:
        axes = tuple((leg,) for leg in call.result.legs)
        self._stored(call.result, axes)
        parts = ", ".join(f"({self.view(view)}, {pins!r})" for view, pins in call.parts)
        return f"place(({parts},), ({self.shape(axes)},))"


def _diagonals(pairs: tuple[tuple[int, int], ...]) -> str:
    """Diagonals taken in turn."""
    return "".join(f".diagonal(0, {first}, {second})" for first, second in pairs)


def _comment(call: Call) -> str:
    """The result with its legs in storage order."""
    return f"{call.result.name}[{' '.join(call.result.legs)}]"
