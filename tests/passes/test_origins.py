"""What a step of a backward says it comes from."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

import tnlayer as tn
from tests.support.strategies import SMALL_BOUNDS, fixed_series, networks
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import Operand, Step, Value, owner_of, with_operands
from tnlayer.lowering.cpu.pipeline import backward_program
from tnlayer.passes.differentiate import adjoint
from tnlayer.passes.rematerialise import backward_without_saved


def backwards(forward: Plan) -> list[Plan]:
    """The gradients of everything: from saved values, from some made again, from none saved."""
    wanted = [value.name for value in forward.inputs]
    everything = [step.result.name for step in forward.steps]
    return [
        adjoint(forward, wanted, ()),
        adjoint(forward, wanted, everything),
        backward_without_saved(forward, wanted),
    ]


def check(step: Step, forward: Plan) -> None:
    """The origin of a step is what the step does."""
    makers = {made.result.name: made for made in forward.steps}
    values = {v.name: v for v in forward.inputs} | {s.result.name: s.result for s in forward.steps}
    origin = step.origin
    assert origin is not None
    assert step.result.legs == values[origin.value].legs
    match origin.role:
        case "repeat":
            assert type(step) is type(makers[origin.step])
            assert origin.step == origin.value
        case "gradient":
            operands = makers[origin.step].operands
            assert origin.value in [operand.value.name for operand in operands]
        case "sum" if origin.step:
            operands = makers[origin.step].operands
            assert origin.value in [origin.step, *(operand.value.name for operand in operands)]
        case "sum":
            assert origin.value not in makers


@fixed_series(7, 60)
@given(networks(is_complex=False, bounds=SMALL_BOUNDS))
def test_each_step_of_a_backward_says_where_it_comes_from(net: tn.Network) -> None:
    """Of every forward step, shared tensors, slices, traces and summed legs among them."""
    forward = tn.plan(net)
    assert all(step.origin is None and owner_of(step) == step.result.name for step in forward.steps)
    for backward in backwards(forward):
        for step in backward.steps:
            check(step, forward)


def renamed(plan: Plan, names: dict[str, str]) -> Plan:
    """The plan with other names of the steps' results."""

    def of(value: Value) -> Value:
        return Value(names.get(value.name, value.name), value.legs)

    steps = (replace(with_operands(step, of), result=of(step.result)) for step in plan.steps)
    outputs = (
        replace(o, operand=Operand(of(o.operand.value), o.operand.conj)) for o in plan.outputs
    )
    return replace(plan, steps=tuple(steps), outputs=tuple(outputs)).verify()


def test_names_mean_nothing() -> None:
    """Steps whose names look like those of gradients, or of what is made again, are steps."""
    forward = tn.plan(tn.topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=4))
    other = renamed(forward, {s.result.name: f"d_r_{k}_1" for k, s in enumerate(forward.steps)})
    wanted = [value.name for value in forward.inputs]
    owners = [
        [owner_of(step) for step in backward_without_saved(plan, wanted).steps]
        for plan in (forward, other)
    ]
    order = {s.result.name: f"d_r_{k}_1" for k, s in enumerate(forward.steps)}
    assert [order[name] for name in owners[0]] == owners[1]
    cpu = Cpu()
    lanes = [backward_program(plan, wanted, cpu).samples for plan in (forward, other)]
    assert len(lanes[0]) == len(lanes[1])


def test_a_sum_of_gradients_of_an_input_belongs_to_no_step() -> None:
    """Of a tensor that stands three times."""
    net = tn.Network("A A A")
    net.input(i=3)
    net.output(j=3)
    net.bond(k=3, l=3)
    net.tensor("A", "i k")
    net.tensor("B", "k l", share="A")
    net.tensor("C", "l j", share="A")
    forward = tn.plan(net, batch=64)
    (parameter,) = forward.parameters
    last = adjoint(forward, [parameter.name]).steps[-1]
    assert last.origin is not None
    assert (last.origin.role, last.origin.value) == ("sum", parameter.name)
