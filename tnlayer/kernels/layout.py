"""Choice of storage orders: a beam search over the forms of all contractions of a plan.

The order in which a value is stored decides whether the contractions that use it need a copy, so
forms are not chosen one by one. The search walks the steps once, keeps the few cheapest partial
schedules, and is deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tnlayer.device.load import op_times
from tnlayer.kernels.forms import Form, FormFinder, Layout
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH, Contract, Diagonal, Reduce, Step

_BEAM = 12
_LARGE_PLAN, _NARROW_BEAM = 100, 4


@dataclass(frozen=True, slots=True)
class _State:
    """A partial schedule: its cost, the storage orders that exist, the forms chosen so far."""

    seconds: float
    layouts: Mapping[str, tuple[Layout, ...]]
    trail: tuple[_State, Form | None] | None

    def forms(self) -> tuple[Form | None, ...]:
        """The chosen forms, first step first."""
        forms: list[Form | None] = []
        state = self
        while state.trail is not None:
            state, form = state.trail
            forms.append(form)
        return tuple(reversed(forms))


def choose_forms(plan: Plan, inputs: Mapping[str, Layout]) -> tuple[Form | None, ...]:
    """One form for each step of the plan, None for steps that are no matrix product.

    Arguments:
        plan: the plan, whose ``batch`` is the batch size that is optimised for.
        inputs: storage order of each input.
    """
    finder = FormFinder({**plan.sizes, BATCH: plan.batch}, op_times(plan.dtype))
    last_use = _last_uses(plan)
    wanted = _wanted(plan)
    beam = [_State(0.0, {name: (layout,) for name, layout in inputs.items()}, None)]
    width = _BEAM if len(plan.steps) <= _LARGE_PLAN else _NARROW_BEAM
    for index, step in enumerate(plan.steps):
        choices = [
            (state.seconds + (form.seconds if form else 0.0), state, form)
            for state in beam
            for form in _forms(state, step, finder, wanted)
        ]
        # Cheapest first, so that of equal states the first one met is the one to keep.
        choices.sort(key=lambda choice: choice[0])
        successors: dict[frozenset[tuple[str, tuple[Layout, ...]]], _State] = {}
        for seconds, state, form in choices:
            layouts = _layouts_after(state, step, form)
            live = {n: o for n, o in layouts.items() if last_use.get(n, index) > index}
            key = frozenset(live.items())
            if key not in successors:
                successors[key] = _State(seconds, live, (state, form))
                if len(successors) == width:
                    break
        beam = list(successors.values())
    return min(beam, key=lambda state: state.seconds + _closing(state, plan, finder)).forms()


def fixed_result(step: Step, layouts: Mapping[str, tuple[Layout, ...]]) -> Layout:
    """Storage order of the result of a step that is no matrix product."""
    match step:
        case Contract():
            big, small = step.left, step.right
            if len(small.legs) > len(big.legs):
                big, small = small, big
            order = layouts[big.value.name][-1]
            return (*order, *(x for x in layouts[small.value.name][-1] if x not in order))
        case Reduce():
            return tuple(x for x in layouts[step.operand.value.name][-1] if x in step.result.legs)
        case Diagonal():
            return diagonal_order(step.operand.legs)[1]
        case _:
            return step.result.legs


def diagonal_order(legs: Layout) -> tuple[tuple[tuple[int, int], ...], Layout]:
    """Pairs of axes to take the diagonal of, in turn, and the legs' order after the last one."""
    left, pairs = list(legs), []
    while len(set(left)) < len(left):
        leg = next(leg for leg in left if left.count(leg) > 1)
        first = left.index(leg)
        second = left.index(leg, first + 1)
        pairs.append((first, second))
        left = [x for axis, x in enumerate(left) if axis not in (first, second)] + [leg]
    return tuple(pairs), tuple(left)


def _forms(
    state: _State, step: Step, finder: FormFinder, wanted: Mapping[str, frozenset[str]]
) -> tuple[Form | None, ...]:
    """The forms that a step can take in a state; None alone if it is no matrix product."""
    if not (isinstance(step, Contract) and step.summed_legs):
        return (None,)
    left, right = state.layouts[step.left.value.name], state.layouts[step.right.value.name]
    return finder.forms(step, left, right, wanted.get(step.result.name, frozenset()))


def _layouts_after(
    state: _State, step: Step, form: Form | None
) -> Mapping[str, tuple[Layout, ...]]:
    """The storage orders that exist after a step."""
    if form is None or not isinstance(step, Contract):
        return {**state.layouts, step.result.name: (fixed_result(step, state.layouts),)}
    left, right = step.left.value.name, step.right.value.name
    big, small = (right, left) if form.swapped else (left, right)
    layouts = dict(state.layouts)
    for name, used in ((big, form.big), (small, form.small)):
        if used not in layouts[name]:
            layouts[name] = (*layouts[name], used)
    layouts[step.result.name] = (form.result,)
    return layouts


def _closing(state: _State, plan: Plan, finder: FormFinder) -> float:
    """Cost of bringing the outputs into the order in which they leave."""
    return sum(
        min(finder.copy_seconds(order, output.legs) for order in orders)
        for output in plan.outputs
        if (orders := state.layouts.get(output.operand.value.name)) is not None
    )


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
