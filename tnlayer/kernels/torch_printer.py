"""The torch printer: a Schedule becomes readable Python, one line a call.

It decides nothing: every view, copy and order is in the schedule. Arrays are called as in the plan;
``B`` is the batch size of the call. Arrays are deleted after their last use, so that what the
schedule counts as its peak is what is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping

from tnlayer.kernels.schedule import (
    AddUp,
    Call,
    Copy,
    Group,
    Loop,
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
        # Inside a loop: the size of the batch leg, and the variables that stand for a part.
        self.batch = "B"
        self.parts: dict[str, str] = {}
        # Arrays that exist before the call that makes them: parts of results, and sums.
        self.leaving: frozenset[str] = frozenset()
        self.summed: frozenset[str] = frozenset()

    def function(self, name: str) -> str:
        """The whole function."""
        schedule, loop = self.schedule, self.schedule.loop
        lines = [f"def {name}({', '.join(array.name for array in schedule.inputs)}):"]
        batched = next((p.name for p in schedule.plan.ports if BATCH in p.legs), None)
        if batched is not None:
            axis = next(a.legs for a in schedule.inputs if a.name == batched).index(BATCH)
            lines.append(f"    B = {batched}.shape[{axis}]")
        dying: dict[int, list[str]] = {}
        for array, last in schedule.last_use.items():
            dying.setdefault(last, []).append(array)
        for index in range(len(schedule.calls) if loop is None else loop.start):
            lines += self.call(index, dying, "    ")
        if loop is not None:
            lines += self.loop(loop, dying)
            for index in range(loop.stop, len(schedule.calls)):
                lines += self.call(index, dying, "    ")
        results = [self.result(result) for result in schedule.results]
        results += [array.name for array in schedule.saved]
        lines.append(f"    return ({', '.join(results)},)")
        return "\n".join(lines) + "\n"

    def call(self, index: int, dying: Mapping[int, list[str]], indent: str) -> list[str]:
        """The lines of one call, and the deletion of arrays that no later call reads."""
        call = self.schedule.calls[index]
        name = call.result.name
        if name in self.leaving:
            lines = self.write(call)
        elif name in self.summed:
            lines = [self.add(call)]
        else:
            lines = [f"{name} = {self.expression(call)}"]
        lines[-1] += f"  # {_comment(call)}"
        if index in dying:
            lines.append(f"del {', '.join(dying[index])}")
        return [indent + line for line in lines]

    def loop(self, loop: Loop, dying: Mapping[int, list[str]]) -> list[str]:
        """The arrays that a loop fills, then the loop itself."""
        base = loop.entering[0].name
        inner: list[str] = []
        for array in loop.entering:
            part = self.parts[array.name] = f"{array.name}_part"
            inner.append(f"{part} = {array.name}[start : start + {loop.chunk}]")
        inner.append(f"C = {self.parts[base]}.shape[0]")
        self.parts |= {array.name: f"{array.name}_part" for array in loop.leaving}
        self.leaving = frozenset(array.name for array in loop.leaving)
        self.summed = frozenset(array.name for array in loop.summed)
        body = [" " * 8 + line for line in inner]
        after: list[str] = []
        self.batch = "C"
        # What was made before the loop dies after it, not in its first turn.
        made = {call.result.name for call in self.schedule.calls[loop.start : loop.stop]}
        made -= self.leaving | self.summed
        own = {i: [a for a in arrays if a in made] for i, arrays in dying.items()}
        own = {index: arrays for index, arrays in own.items() if arrays}
        for index in range(loop.start, loop.stop):
            body += self.call(index, own, " " * 8)
        after = [array for array in dying.get(loop.stop - 1, ()) if array not in made]
        self.batch = "B"
        self.parts = {}
        self.leaving = self.summed = frozenset()
        lines: list[str] = []
        for array in loop.leaving:
            axes = self.shapes[array.name] = self.flat_batch(array)
            lines.append(f"{array.name} = {base}.new_empty({self.shape(axes)})")
        for array in loop.summed:
            shape = self.shape(self.shapes[array.name] or ())
            lines.append(f"{array.name} = {base}.new_zeros({shape or '()'})")
        lines.append(f"for start in range(0, B, {loop.chunk}):")
        end = [f"    del {', '.join(after)}"] if after else []
        return [*("    " + line for line in lines), *body, *end]

    def flat_batch(self, array: Value) -> tuple[Group, ...]:
        """Axes in which a result of a loop is allocated: the batch, and all other legs as one."""
        assert array.legs[0] == BATCH, array
        return ((BATCH,), array.legs[1:])

    def write(self, call: Call) -> list[str]:
        """A call whose result is a part of an array that exists."""
        loop = self.schedule.loop
        assert loop is not None
        name, part = call.result.name, self.parts[call.result.name]
        match call:
            case MatMul():
                function = "torch.mm" if len(call.left.axes) == 2 else "torch.bmm"
                text = f"{function}({self.view(call.left)}, {self.view(call.right)}, out={part})"
            case Product():
                text = f"torch.mul({self.view(call.left)}, {self.view(call.right)}, out={part})"
            case AddUp():
                text = f"torch.add({self.view(call.left)}, {self.view(call.right)}, out={part})"
            case Sum():
                text = f"torch.sum({self.view(call.source)}, dim={call.axes!r}, out={part})"
            case PutDiagonal():
                text = f"put_diagonal({self.view(call.source)}, {part}, {call.pairs!r})"
            case Place():
                text = f"place({self.placed(call)}, {part})"
            case Copy() | Repeat() | TakeDiagonal() | Slice():
                text = f"{part}.copy_({self.uncopied(call)})"
        axes = self.result_axes(call)
        self.shapes[name] = axes
        view = f"{name}[start : start + {loop.chunk}].view({self.shape(axes)})"
        return [f"{part} = {view}", text]

    def add(self, call: Call) -> str:
        """A call whose result is added to an array that exists."""
        name = call.result.name
        self.shapes[name] = self.result_axes(call)
        if isinstance(call, MatMul):
            function = "torch.addmm" if len(call.left.axes) == 2 else "torch.baddbmm"
            operands = f"{self.view(call.left)}, {self.view(call.right)}"
            return f"{function}({name}, {operands}, out={name})"
        assert isinstance(call, Sum), call
        return f"{name} += torch.sum({self.view(call.source)}, dim={call.axes!r})"

    # -- pieces ----------------------------------------------------------------------------

    def size(self, legs: Group) -> str:
        """Size of an axis as an expression."""
        product = 1
        for leg in legs:
            if leg != BATCH:
                product *= self.sizes[leg]
        if BATCH not in legs:
            return str(product)
        return self.batch if product == 1 else f"{self.batch} * {product}"

    def name(self, view: View) -> str:
        """The variable that a view reads."""
        return self.parts.get(view.array.name, view.array.name)

    def shape(self, axes: tuple[Group, ...]) -> str:
        """A shape as the arguments of reshape; an axis without legs has size 1."""
        return ", ".join(self.size(axis) for axis in axes)

    def view(self, view: View) -> str:
        """A view as reshape, permute, expand and conj, each only where needed."""
        text = self.name(view)
        if self.shapes[view.array.name] != view.groups:
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

    def result_axes(self, call: Call) -> tuple[Group, ...]:
        """The axes with which the result of a call stands."""
        match call:
            case Copy():
                return call.source.axes
            case MatMul():
                left, right = call.left.axes, call.right.axes
                return (*left[:-1], right[-1])
            case Product():
                pairs = zip(call.left.axes, call.right.axes, strict=True)
                return tuple(a or b for a, b in pairs)
            case Sum():
                axes = call.source.axes
                return tuple(axis for i, axis in enumerate(axes) if i not in call.axes)
            case _:
                return tuple((leg,) for leg in call.result.legs)

    def expression(self, call: Call) -> str:
        """The right-hand side of a call that makes a new array; records the result's shape."""
        text = self._expression(call)
        self.shapes[call.result.name] = self.result_axes(call)
        return text

    def _expression(self, call: Call) -> str:
        match call:
            case MatMul():
                function = "torch.mm" if len(call.left.axes) == 2 else "torch.bmm"
                return f"{function}({self.view(call.left)}, {self.view(call.right)})"
            case Product():
                return f"torch.mul({self.view(call.left)}, {self.view(call.right)}).contiguous()"
            case AddUp():
                return f"{self.view(call.left)} + {self.view(call.right)}"
            case Sum():
                return f"torch.sum({self.view(call.source)}, dim={call.axes!r})"
            case PutDiagonal():
                new = self.new_array(call, call.source)
                return f"put_diagonal({self.view(call.source)}, {new}, {call.pairs!r})"
            case Place():
                return f"place({self.placed(call)}, {self.new_array(call, call.parts[0][0])})"
            case TakeDiagonal():
                return f"{self.uncopied(call)}.contiguous()"
            case Slice():
                text = self.uncopied(call)
                return f"{text}.contiguous()" if call.pins else text
            case Copy() | Repeat():
                return f"{self.uncopied(call)}.clone(memory_format=contiguous)"

    def uncopied(self, call: Copy | Repeat | TakeDiagonal | Slice) -> str:
        """The source of a copying call as a view."""
        text = self.view(call.source)
        match call:
            case Copy():
                return text
            case Repeat():
                return f"{text}.expand({self.shape(self.result_axes(call))})"
            case TakeDiagonal():
                return text + "".join(f".diagonal(0, {a}, {b})" for a, b in call.pairs)
            case Slice():
                pins = sorted(call.pins, reverse=True)
                return text + "".join(f".select({axis}, {index})" for axis, index in pins)

    def new_array(self, call: PutDiagonal | Place, like: View) -> str:
        """A new array for a result, of the dtype and device of another."""
        return f"{self.name(like)}.new_empty({self.shape(self.result_axes(call)) or '()'})"

    def placed(self, call: Place) -> str:
        """The parts of a Place with their pins."""
        return f"({', '.join(f'({self.view(view)}, {pins!r})' for view, pins in call.parts)},)"


def _comment(call: Call) -> str:
    """The result with its legs in storage order."""
    return f"{call.result.name}[{' '.join(call.result.legs)}]"
