"""Lowering: a Plan becomes a Schedule of torch calls.

Forms and storage orders are chosen for the whole plan first (storage_orders.py), then each step is
written as its calls. A copy is made where a step wants a value in an order in which there is none
yet, and kept for later steps. Of the backward of a tensor train of two cores::

    step                                     calls
    d_w[a b c d] = x[B a b] g[B c d]         mm                    stored as (a b c d)
    d_0[a c r] = d_w core1[r b d]            copy to (a c b d), mm
    d_1[r b d] = core0[a c r] d_w            mm                    reads the same copy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...hardware.profile.op_times import OpTimes
from ...ir.calls import (
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
    is_alias,
    sources_of,
)
from ...ir.plan import Plan
from ...ir.steps import (
    BATCH,
    Add,
    Contract,
    Diagonal,
    Embed,
    Expand,
    Operand,
    Reduce,
    Scatter,
    Select,
    Step,
    Value,
)
from ..loop_nest import runs
from .gemm_forms import Form, StorageOrder
from .loop_over import loop_over
from .storage_orders import choose_forms, diagonal_order, fixed_result


def lower(
    plan: Plan,
    times: OpTimes,
    *,
    layouts: Mapping[str, StorageOrder] | None = None,
    keep: tuple[str, ...] = (),
    adds: tuple[str, ...] = (),
) -> Schedule:
    """Choose storage orders and write the calls of a plan.

    Arguments:
        plan: a forward or a backward plan.
        times: operations of the device that the plan is for, which storage orders follow.
        layouts: storage orders of inputs that are not stored in their legs' order.
        keep: values to hand out beside the results, for a backward.
        adds: names of results that are added to arrays which are given.
    """
    orders = {value.name: value.legs for value in plan.inputs} | dict(layouts or {})
    parts = _looped_legs(plan)
    # A call in a loop has the sizes of one turn, so its form is chosen for those.
    forms = choose_forms(_in_one_turn(plan, parts), orders, times)
    lowering = _Lowering(plan, orders)
    for step, form in zip(plan.steps, forms, strict=True):
        lowering.lower_step(step, form)
    results = tuple(
        Result(output.name, lowering.result(output.operand, output.axes)) for output in plan.outputs
    )
    saved = tuple(lowering.newest(name) for name in keep)
    schedule = Schedule(
        plan,
        lowering.inputs,
        tuple(lowering.calls),
        results,
        saved,
        added=adds,
        wide=times.wide,
        copies_factors=times.copies_factors,
        packing_threads=times.profile.threads if times.copies_factors else 0,
    )
    return loop_over(schedule, parts) if parts else schedule


def _looped_legs(plan: Plan) -> dict[str, int]:
    """The legs that the plan's memory wants parted, with the size of a part."""
    parts = dict.fromkeys(plan.memory.slices, 1)
    if plan.memory.chunk is not None and plan.is_batched:
        parts[BATCH] = plan.memory.chunk
    return parts


def _in_one_turn(plan: Plan, parts: Mapping[str, int]) -> Plan:
    """The plan with the sizes that its legs have inside the loops."""
    sizes = tuple((leg, parts.get(leg, size)) for leg, size in plan.leg_sizes)
    return replace(plan, leg_sizes=sizes, batch=min(plan.batch, parts.get(BATCH, plan.batch)))


def view_as(array: Value, axes: tuple[Group, ...], *, conj: bool = False) -> View:
    """See an array with the given axes, each a run of its legs in storage order, () of size 1."""
    position = {leg: index for index, leg in enumerate(array.legs)}
    # An array is seen in storage order first and its axes are permuted then. Axes of size 1 can
    # stand anywhere: they come last.
    by_place = sorted(
        range(len(axes)), key=lambda axis: position[axes[axis][0]] if axes[axis] else len(position)
    )
    groups = tuple(axes[axis] for axis in by_place)
    assert tuple(leg for group in groups for leg in group) == array.legs, (array, axes)
    order = tuple(by_place.index(axis) for axis in range(len(axes)))
    return View(array, groups, order, conj)


def axis_by_axis(array: Value, *, conj: bool = False) -> View:
    """See an array with one axis a leg, in storage order; legs may stand twice."""
    groups = tuple((leg,) for leg in array.legs)
    return View(array, groups, tuple(range(len(groups))), conj)


class _Lowering:
    """The arrays that exist so far, by value and storage order, and the calls that made them."""

    def __init__(self, plan: Plan, orders: Mapping[str, StorageOrder]) -> None:
        self.plan = plan
        self.inputs = tuple(Value(value.name, orders[value.name]) for value in plan.inputs)
        self.arrays = {array.name: {array.legs: array} for array in self.inputs}
        self.calls: list[Call] = []
        # Names of arrays that are inputs, or other names for one, among the calls looked at so far.
        self.input_memory = {value.name for value in self.inputs}
        self.looked_at = 0

    # -- arrays ----------------------------------------------------------------------------

    def newest(self, name: str) -> Value:
        """The array of a value that was made last."""
        return next(reversed(self.arrays[name].values()))

    def array(self, name: str, layout: StorageOrder) -> Value:
        """The array of a value in this order, copied if there is none yet."""
        arrays = self.arrays[name]
        if layout not in arrays:
            copy = Value(f"{name}_p{len(arrays)}", layout)
            source = next(iter(arrays.values()))
            self.calls.append(Copy(copy, _permuted(source, layout)))
            arrays[layout] = copy
        return arrays[layout]

    def positional(self, operand: Operand) -> View:
        """An operand with its axes as its value has them, one axis a leg."""
        array = self.array(operand.value.name, operand.legs)
        return axis_by_axis(array, conj=operand.conj)

    def make(self, name: str, layout: StorageOrder) -> Value:
        """Register the array of a new value."""
        array = Value(name, layout)
        self.arrays[name] = {layout: array}
        return array

    def result(self, operand: Operand, axes: tuple[Group, ...]) -> View:
        """A result with the axes with which it leaves; never the memory of an input."""
        name = operand.value.name
        legs = tuple(leg for axis in axes for leg in axis)
        array = self.array(name, legs)
        if operand.conj or self._is_input_memory(array):
            copy = Value(f"{array.name}_c", legs)
            self.calls.append(Copy(copy, axis_by_axis(array, conj=operand.conj)))
            array = copy
        return View(array, axes, tuple(range(len(axes))))

    def _is_input_memory(self, array: Value) -> bool:
        """Whether an array is an input, or another name for one."""
        for call in self.calls[self.looked_at :]:
            if is_alias(call) and sources_of(call)[0].array.name in self.input_memory:
                self.input_memory.add(call.result.name)
        self.looked_at = len(self.calls)
        return array.name in self.input_memory

    # -- steps -----------------------------------------------------------------------------

    def lower_step(self, step: Step, form: Form | None) -> None:
        """Append the calls of one step."""
        if isinstance(step, Contract) and form is not None:
            self._matmul(step, form)
            return
        layout = fixed_result(step, lambda name: self.newest(name).legs)
        match step:
            case Contract():
                call = self._product(step, layout)
            case Reduce():
                source = self.newest(step.operand.value.name)
                axes = tuple(i for i, leg in enumerate(source.legs) if leg not in layout)
                view = axis_by_axis(source, conj=step.operand.conj)
                call = Sum(Value(step.result.name, layout), view, axes)
            case Expand():
                source = self.newest(step.operand.value.name)
                kept = tuple(leg for leg in layout if leg in source.legs)
                source = self.array(step.operand.value.name, kept)
                axes = tuple((leg,) if leg in kept else () for leg in layout)
                view = view_as(source, axes, conj=step.operand.conj)
                call = Repeat(Value(step.result.name, layout), view)
            case Diagonal():
                pairs, _ = diagonal_order(step.operand.legs)
                view = self.positional(step.operand)
                call = TakeDiagonal(Value(step.result.name, layout), view, pairs)
            case Embed():
                pairs, order = diagonal_order(step.result.legs)
                view = axis_by_axis(
                    self.array(step.operand.value.name, order), conj=step.operand.conj
                )
                call = PutDiagonal(Value(step.result.name, layout), view, pairs)
            case Add():
                call = self._add_up(step, layout)
            case Select() if step.renames:
                view = axis_by_axis(self.newest(step.operand.value.name), conj=step.operand.conj)
                call = Slice(Value(step.result.name, layout), view, ())
            case Select():
                view = self.positional(step.operand)
                call = Slice(Value(step.result.name, layout), view, step.pins)
            case Scatter():
                parts = tuple((self.positional(part.operand), part.pins) for part in step.parts)
                call = Place(Value(step.result.name, layout), parts)
        self.calls.append(call)
        self.make(step.result.name, layout)

    def _add_up(self, step: Add, layout: StorageOrder) -> AddUp | Slice:
        """A sum, two terms at a time: no partial sum is alive that the list does not show.

        A sum of one is the gradient of a shared tensor of which a plan has one use: other legs.
        """
        *others, last = step.operands
        if not others:
            return Slice(Value(step.result.name, layout), self.positional(last), ())
        total = self.positional(others[0])
        for number, operand in enumerate(others[1:]):
            partial = Value(f"{step.result.name}_s{number}", layout)
            self.calls.append(AddUp(partial, total, self.positional(operand)))
            total = axis_by_axis(partial)
        return AddUp(Value(step.result.name, layout), total, self.positional(last))

    def _product(self, step: Contract, layout: StorageOrder) -> Product:
        """Elementwise: neighbours that travel together in both operands are one axis.

        The operand whose order the result takes stands left: torch lays out the product as the
        first operand is, so that it needs no copy.
        """
        first, second = step.left, step.right
        if self.newest(first.value.name).legs != layout[: len(first.legs)]:
            first, second = second, first
        left, right = self.newest(first.value.name), self.newest(second.value.name)
        groups = _runs(layout, (left, right))
        views = (
            view_as(
                array,
                tuple(tuple(g) if g[0] in array.legs else () for g in groups),
                conj=operand.conj,
            )
            for array, operand in ((left, first), (right, second))
        )
        return Product(Value(step.result.name, layout), *views)

    def _matmul(self, step: Contract, form: Form) -> None:
        """The mm or bmm that a form stands for."""
        big_operand, small_operand = (
            (step.right, step.left) if form.swapped else (step.left, step.right)
        )
        big = self.array(big_operand.value.name, form.big)
        small = self.array(small_operand.value.name, form.small)
        shared = set(step.left.legs) & set(step.right.legs)
        outer = form.outer
        # In a product of form split the outer legs go on to a sum behind it.
        not_summed = {*step.result.legs, *outer}
        summed = tuple(x for x in big.legs if x in shared and x not in not_summed)
        outside = shared | set(outer)
        free = tuple(x for x in big.legs if x not in outside)
        other = tuple(x for x in small.legs if x not in shared)
        lead = (outer,) if outer else ()
        repeat = outer if form.kind == "inplace" else ()
        small_lead = () if repeat else lead
        conj, small_conj = big_operand.conj, small_operand.conj
        if form.transposed:
            left = view_as(small, (*small_lead, other, summed), conj=small_conj)
            right = view_as(big, (*lead, summed, free), conj=conj)
            left, rows, columns = _repeated(left, repeat), other, free
        else:
            left = view_as(big, (*lead, free, summed), conj=conj)
            right = view_as(small, (*small_lead, summed, other), conj=small_conj)
            right, rows, columns = _repeated(right, repeat), free, other
        name = step.result.name
        if form.kind != "split":
            self.calls.append(MatMul(self.make(name, form.result), left, right))
            return
        # Split: one product for each index of outer, then their sum.
        partial = Value(f"{name}_k", (*outer, *rows, *columns))
        self.calls.append(MatMul(partial, left, right))
        view = view_as(partial, (outer, (*rows, *columns)))
        self.calls.append(Sum(self.make(name, form.result), view, (0,)))


def _repeated(view: View, legs: Group) -> View:
    """The view with a leading axis of stride 0."""
    return View(view.array, view.groups, view.order, view.conj, legs)


def _runs(layout: StorageOrder, arrays: Sequence[Value]) -> list[list[str]]:
    """The legs of a layout, those merged that stay neighbours in each array that has them."""
    places = [{leg: place for place, leg in enumerate(array.legs)} for array in arrays]

    def adjacent(first: str, second: str) -> bool:
        """Whether two legs are neighbours in all arrays, or both absent."""
        return all(
            place.get(second) == (place[first] + 1 if first in place else None) for place in places
        )

    return runs(layout, adjacent)


def _permuted(source: Value, layout: StorageOrder) -> View:
    """See an array in another order, legs that stay neighbours merged.

    Of a leg that stands twice the first axis stays the first one: only the diagonal of such an
    array is read, which is the same whichever of the two is which.
    """
    if len(set(layout)) < len(layout):
        left = list(enumerate(source.legs))
        order: list[int] = []
        for leg in layout:
            place = next(entry for entry in left if entry[1] == leg)
            left.remove(place)
            order.append(place[0])
        return View(source, tuple((leg,) for leg in source.legs), tuple(order))
    return view_as(source, tuple(map(tuple, _runs(layout, (source,)))))
