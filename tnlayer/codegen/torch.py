"""The torch printer: a Schedule becomes readable Python, one line a call.

It decides nothing: every view, copy and order is in the schedule. Arrays are called as in the plan;
``B`` is the batch size of the call. ``mm``, ``bmm``, ``mul`` and ``copy`` are torch's, or write
into memory that calls reuse (runtime/scratch.py); what leaves the function, as ``new_mul`` gives
it, never lies there. ``wide_product`` is a product of 16 bits made in float32
(runtime/wide_products.py). Arrays are deleted after their last use, so that what the schedule
counts as its peak is what is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..ir.calls import (
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
    sources_of,
)
from ..ir.steps import BATCH, Value


def print_torch(schedule: Schedule, name: str) -> str:
    """Source of a Python function that runs the schedule.

    It takes the schedule's inputs in order, then an array for each result that is added to what is
    there, and returns the other results, then its saved arrays, as a tuple.
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
        # Inside a loop: the loop, and the variables that stand for a part of an array.
        self.turn: Loop | None = None
        self.parts: dict[str, str] = {}

    def function(self, name: str) -> str:
        """The whole function."""
        schedule = self.schedule
        arguments = [array.name for array in schedule.inputs] + [*map(_target, schedule.added)]
        lines = [f"def {name}({', '.join(arguments)}):"]
        batched = next((p.name for p in schedule.plan.ports if BATCH in p.legs), None)
        if batched is not None:
            axis = next(a.legs for a in schedule.inputs if a.name == batched).index(BATCH)
            lines.append(f"    B = {batched}.shape[{axis}]")
        dying: dict[int, list[str]] = {}
        for array, last in schedule.last_use.items():
            dying.setdefault(last, []).append(array)
        index = 0
        while index < len(schedule.calls):
            loop = schedule.loop_at(index)
            found = self.call(index, dying) if loop is None else self.loop(loop, dying)
            lines += ("    " + line for line in found)
            index = index + 1 if loop is None else loop.stop
        passed = {r.name for loop in schedule.loops for r in schedule.passing(loop).values()}
        lines += [
            f"    {_target(result.name)} += {self.result(result)}"
            for result in schedule.results
            if result.name in schedule.added and result.name not in passed
        ]
        results = [self.result(r) for r in schedule.results if r.name not in schedule.added]
        results += [array.name for array in schedule.saved]
        lines.append(f"    return ({''.join(f'{result}, ' for result in results).rstrip()})")
        return "\n".join(lines) + "\n"

    def call(self, index: int, dying: Mapping[int, list[str]]) -> list[str]:
        """The lines of one call, and the deletion of arrays that no later call reads."""
        call = self.schedule.calls[index]
        name, loop = call.result.name, self.turn
        if loop is not None and call.result in loop.leaving and name in self.parts:
            lines = self.write(call, loop) if loop.is_chunked else self.write_later(call, loop)
        elif loop is not None and call.result in loop.summed:
            lines = [f"{self.add(call)}  # {_comment(call)}"]
        else:
            lines = [f"{name} = {self.expression(call)}  # {_comment(call)}"]
        if dying.get(index):
            lines.append(f"del {', '.join(dying[index])}")
        return lines

    # -- loops -----------------------------------------------------------------------------

    def loop(self, loop: Loop, dying: Mapping[int, list[str]]) -> list[str]:
        """The arrays that a loop fills, then the loop itself."""
        base, copied = loop.entering[0].name, [a for a in loop.entering if loop.is_copied(a)]
        outside = {array.name: self.shapes[array.name] for array in loop.entering}
        body = [self.enter(array, loop) for array in loop.entering]
        if loop.is_chunked:
            body.append(f"C = {self.parts[base]}.shape[0]")
        passing = self.schedule.passing(loop)
        leaving = [array for array in loop.leaving if array.name not in passing]
        self.parts |= {array.name: f"{array.name}_part" for array in leaving}
        # What was made before the loop dies after it, not in its first turn.
        calls = self.schedule.calls[loop.start : loop.stop]
        made = {call.result for call in calls}
        read = {view.array for call in calls for view in sources_of(call)}
        assert loop.is_chunked or read.isdisjoint(loop.leaving)
        inside = {array.name for array in made - {*leaving, *loop.summed}}
        own = {i: [a for a in arrays if a in inside] for i, arrays in dying.items()}
        last = own.pop(loop.stop - 1, [])
        self.turn = loop
        for index in range(loop.start, loop.stop):
            body += self.call(index, own)
        for array in loop.leaving:
            if array.name in passing:
                target = _target(passing[array.name].name)
                part = self.result(passing[array.name])
                body.append(f"{target}[{_turn(array, loop)}] += {part}")
        if last:
            body.append(f"del {', '.join(last)}")
        self.turn, self.parts = None, {}
        self.shapes |= outside
        if copied:
            body.append(f"del {', '.join(f'{array.name}_part' for array in copied)}")
        lines: list[str] = []
        for array in leaving:
            axes = self.shapes[array.name] = around(array, loop.leg)
            lines.append(f"{array.name} = {base}.new_empty({self.shape(axes)})")
        for array in loop.summed:
            shape = self.shape(self.shapes[array.name] or ())
            lines.append(f"{array.name} = {base}.new_zeros({shape or '()'})")
        step = f", {loop.step}" if loop.step > 1 else ""
        end = "B" if loop.is_chunked else str(self.sizes[loop.leg])
        lines.append(f"for start in range(0, {end}{step}):")
        lines += ("    " + line for line in body)
        after = [array for array in dying.get(loop.stop - 1, ()) if array not in inside]
        return [*lines, f"del {', '.join(after)}"] if after else lines

    def enter(self, array: Value, loop: Loop) -> str:
        """The part of an input that belongs to a turn; a copy unless it is one run of memory."""
        part = self.parts[array.name] = f"{array.name}_part"
        whole, axes = array.name, around(array, loop.leg)
        if loop.is_chunked:
            return f"{part} = {whole}[{_turn(array, loop)}]"
        if self.shapes[whole] != axes:
            whole = f"{whole}.reshape({self.shape(axes)})"
        self.shapes[array.name] = axes
        copy = ".contiguous()" if loop.is_copied(array) else ""
        return f"{part} = {whole}[{_turn(array, loop)}]{copy}"

    def write_later(self, call: Call, loop: Loop) -> list[str]:
        """A call whose result is a part of an array, but no run of its memory."""
        name, part = call.result.name, self.parts[call.result.name]
        text = self.expression(call)
        view = f"{part}.reshape({self.shape(around(call.result, loop.leg))})"
        return [
            f"{part} = {text}  # {_comment(call)}",
            f"{name}[{_turn(call.result, loop)}] = {view}",
            f"del {part}",
        ]

    def write(self, call: Call, loop: Loop) -> list[str]:
        """A call whose result is a run of memory of an array that exists."""
        name, part = call.result.name, self.parts[call.result.name]
        match call:
            case MatMul():
                function = "torch.mm" if len(call.left.axes) == 2 else "torch.bmm"
                function = "wide_product" if self.schedule.wide else function
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
        view = f"{name}[{_turn(call.result, loop)}].view({self.shape(axes)})"
        return [f"{part} = {view}", f"{text}  # {_comment(call)}"]

    def add(self, call: Call) -> str:
        """A call whose result is added to an array that exists."""
        name = call.result.name
        self.shapes[name] = self.result_axes(call)
        if isinstance(call, MatMul):
            function = "torch.addmm" if len(call.left.axes) == 2 else "torch.baddbmm"
            operands = f"{self.view(call.left)}, {self.view(call.right)}"
            if self.schedule.wide:
                return f"add_wide_product({name}, {operands})"
            return f"{function}({name}, {operands}, out={name})"
        assert isinstance(call, Sum), call
        return f"{name} += torch.sum({self.view(call.source)}, dim={call.axes!r})"

    # -- pieces ----------------------------------------------------------------------------

    def size(self, legs: Group) -> str:
        """Size of an axis as an expression."""
        loop = self.turn
        product = 1
        for leg in legs:
            if leg != BATCH:
                product *= self.sizes[leg] if loop is None or leg != loop.leg else loop.step
        if BATCH not in legs:
            return str(product)
        batch = "B" if loop is None or not loop.is_chunked else "C"
        return batch if product == 1 else f"{batch} * {product}"

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
        leaves = call.result.name in self.schedule.leaving
        match call:
            case MatMul():
                function = "mm" if len(call.left.axes) == 2 else "bmm"
                owner = "torch." if leaves else ""
                if self.schedule.wide:
                    function, owner = "wide_product", ""
                return f"{owner}{function}({self.view(call.left)}, {self.view(call.right)})"
            case Product():
                factors = f"{self.view(call.left)}, {self.view(call.right)}"
                return f"new_mul({factors})" if leaves else f"mul({factors})"
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
                text = self.uncopied(call)
                return f"{text}.clone(memory_format=contiguous)" if leaves else f"copy({text})"

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


def around(array: Value, leg: str) -> tuple[Group, ...]:
    """Axes of an array that is parted along a leg: what stands before it, the leg, the rest."""
    place = array.legs.index(leg)
    before = (array.legs[:place],) if place else ()
    return (*before, (leg,), array.legs[place + 1 :])


def _target(result: str) -> str:
    """The variable of the array to which a result is added."""
    return f"to_{result}"


def _turn(array: Value, loop: Loop) -> str:
    """The index of a turn's part in an array with the axes of :func:`around`."""
    run = f"start : start + {loop.step}"
    return f":, {run}" if loop.is_copied(array) else run


def _comment(call: Call) -> str:
    """The result with its legs in storage order."""
    return f"{call.result.name}[{' '.join(call.result.legs)}]"
