"""Choice of storage orders: a beam search over the forms of all contractions of a plan.

The order in which a value is stored decides whether the contractions that use it need a copy, so
forms are not chosen one by one. The search walks the steps once, keeps the few cheapest partial
schedules, and is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...hardware.profile.op_times import OpTimes
from ...ir.plan import Plan
from ...ir.steps import BATCH, Contract, Diagonal, Reduce, Select, Step
from .gemm_forms import Form, Forms, StorageOrder, copy_seconds, find_forms

# Storage orders in which one value exists.
Orders = tuple[StorageOrder, ...]

# States that are followed; in plans with many steps fewer, for time grows with both.
_BEAM = 12
_LARGE_PLAN, _NARROW_BEAM = 100, 4


@dataclass(frozen=True, slots=True)
class _State:
    """A partial schedule: its cost, storage orders that exist, the forms chosen so far.

    ``own`` has the orders of the values about which the states of the beam differ, all else is
    common to them: so a state stays small, however many values wait for their use.
    """

    seconds: float
    own: Mapping[str, Orders]
    trail: tuple[_State, Form | None] | None

    def forms(self) -> tuple[Form | None, ...]:
        """The chosen forms, first step first."""
        forms: list[Form | None] = []
        state = self
        while state.trail is not None:
            state, form = state.trail
            forms.append(form)
        return tuple(reversed(forms))


def choose_forms(
    plan: Plan, inputs: Mapping[str, StorageOrder], times: OpTimes
) -> tuple[Form | None, ...]:
    """One form for each step of the plan, None for steps that are no matrix product.

    Arguments:
        plan: the plan, whose ``batch`` is the batch size that is optimised for.
        inputs: storage order of each input.
        times: operations of the device that the plan is for.
    """
    return _Search(plan, inputs, times).best().forms()


class _Search:
    """The beam, and what all its states have in common."""

    def __init__(self, plan: Plan, inputs: Mapping[str, StorageOrder], times: OpTimes) -> None:
        self.plan = plan
        self.sizes = {**plan.sizes, BATCH: plan.batch}
        self.times = times
        self.last_use = _last_uses(plan)
        self.wanted = _wanted(plan)
        self.width = _BEAM if len(plan.steps) <= _LARGE_PLAN else _NARROW_BEAM
        self.common: dict[str, Orders] = {name: (layout,) for name, layout in inputs.items()}
        self.beam = [_State(0.0, {}, None)]

    def best(self) -> _State:
        """The cheapest schedule that the beam comes upon, its results brought into their order."""
        for index, step in enumerate(self.plan.steps):
            self._take(index, step)
        return min(self.beam, key=lambda state: state.seconds + self._closing(state))

    def _orders(self, state: _State, name: str) -> Orders:
        """The storage orders in which a value exists in a state."""
        return state.own.get(name) or self.common[name]

    def _take(self, index: int, step: Step) -> None:
        """Let the beam take one step."""
        choices: list[tuple[float, _State, Form | None, Forms | None]] = []
        # What is no matrix product has one way to run.
        if not (isinstance(step, Contract) and step.summed_legs):
            choices = [(state.seconds, state, None, None) for state in self.beam]
        else:
            found: dict[tuple[Orders, Orders], Forms] = {}
            for state in self.beam:
                orders = (
                    self._orders(state, step.left.value.name),
                    self._orders(state, step.right.value.name),
                )
                if orders not in found:
                    found[orders] = self._forms(step, *orders)
                forms = found[orders]
                choices += [
                    (state.seconds + form.seconds, state, form, forms) for form in forms.listed
                ]
        # Cheapest first, so that of equal states the first one met is the one to keep.
        choices.sort(key=lambda choice: choice[0])
        touched = {step.result.name, *(operand.value.name for operand in step.operands)}
        live = [name for name in touched if self.last_use.get(name, index) > index]
        successors: dict[frozenset[tuple[str, Orders]], _State] = {}
        for seconds, state, pattern, forms in choices:
            form = None if pattern is None or forms is None else forms.named(pattern)
            changed = self._changed(state, step, form)
            own = {name: orders for name, orders in state.own.items() if name not in touched}
            own |= {name: changed.get(name) or self._orders(state, name) for name in live}
            # States that agree about the values still to be read have the same future: the first,
            # which is the cheapest, stands for all.
            key = frozenset(own.items())
            if key not in successors:
                successors[key] = _State(seconds, own, (state, form))
                if len(successors) == self.width:
                    break
        self.beam = self._parted(list(successors.values()))

    def _parted(self, beam: list[_State]) -> list[_State]:
        """The states with what all of them agree about taken out."""
        first, *others = beam
        agreed = {
            name: orders
            for name, orders in first.own.items()
            if all(state.own[name] == orders for state in others)
        }
        self.common |= agreed
        return [
            _State(
                state.seconds,
                {name: orders for name, orders in state.own.items() if name not in agreed},
                state.trail,
            )
            for state in beam
        ]

    def _forms(self, step: Contract, left: Orders, right: Orders) -> Forms:
        """The forms that a matrix product can take with its operands in these orders."""
        wanted = self.wanted.get(step.result.name, frozenset())
        return find_forms(step, left, right, wanted, self.sizes, self.times)

    def _changed(self, state: _State, step: Step, form: Form | None) -> dict[str, Orders]:
        """The storage orders that a step adds: of its result, and of operands that it copies."""
        if form is None or not isinstance(step, Contract):
            layout = fixed_result(step, lambda name: self._orders(state, name)[-1])
            return {step.result.name: (layout,)}
        left, right = step.left.value.name, step.right.value.name
        big, small = (right, left) if form.swapped else (left, right)
        changed: dict[str, Orders] = {}
        for name, used in ((big, form.big), (small, form.small)):
            orders = changed.get(name) or self._orders(state, name)
            if used not in orders:
                changed[name] = (*orders, used)
        changed[step.result.name] = (form.result,)
        return changed

    def _closing(self, state: _State) -> float:
        """Cost of bringing the outputs into the order in which they leave."""
        return sum(
            min(
                copy_seconds(order, output.legs, self.sizes, self.times)
                for order in self._orders(state, output.operand.value.name)
            )
            for output in self.plan.outputs
        )


def fixed_result(step: Step, newest: Callable[[str], StorageOrder]) -> StorageOrder:
    """Storage order of the result of a step that is no matrix product.

    Arguments:
        step: the step.
        newest: the storage order in which a value was made last.
    """
    match step:
        case Contract():
            big, small = step.left, step.right
            if len(small.legs) > len(big.legs):
                big, small = small, big
            order = newest(big.value.name)
            return (*order, *(x for x in newest(small.value.name) if x not in order))
        case Reduce():
            return tuple(x for x in newest(step.operand.value.name) if x in step.result.legs)
        case Diagonal():
            return diagonal_order(step.operand.legs)[1]
        case Select() if step.renames:
            # The memory of its operand under other names, whatever its order.
            order = newest(step.operand.value.name)
            if order == step.operand.legs:
                return step.result.legs  # a leg may stand twice
            names = dict(zip(step.operand.legs, step.result.legs, strict=True))
            return tuple(names[leg] for leg in order)
        case _:
            return step.result.legs


def diagonal_order(legs: StorageOrder) -> tuple[tuple[tuple[int, int], ...], StorageOrder]:
    """Pairs of axes to take the diagonal of, in turn, and the legs' order after the last one."""
    left, pairs = list(legs), []
    while len(set(left)) < len(left):
        leg = next(leg for leg in left if left.count(leg) > 1)
        first = left.index(leg)
        second = left.index(leg, first + 1)
        pairs.append((first, second))
        left = [x for axis, x in enumerate(left) if axis not in (first, second)] + [leg]
    return tuple(pairs), tuple(left)


def _last_uses(plan: Plan) -> dict[str, int]:
    """For each value the last step that reads it; outputs live on."""
    last = {o.value.name: index for index, step in enumerate(plan.steps) for o in step.operands}
    for output in plan.outputs:
        last[output.operand.value.name] = len(plan.steps)
    return last


def _wanted(plan: Plan) -> dict[str, frozenset[str]]:
    """For each value the legs that its first use as an operand sums."""
    wanted: dict[str, frozenset[str]] = {}
    for step in plan.steps:
        if isinstance(step, Contract):
            for operand in step.operands:
                wanted.setdefault(operand.value.name, frozenset(step.summed_legs))
    return wanted
