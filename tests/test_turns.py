"""Steps that turn lanes, and groups of steps: both give the numbers of the float64 oracle."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import tnlayer as tn
from tnlayer import topologies
from tnlayer.kernels import groups
from tnlayer.kernels.cpu import Cpu, backward_program, forward_program, schedule_lanes
from tnlayer.kernels.interpret import interpret
from tnlayer.kernels.loops import For, Program, Step, Tile, statements

CPU = Cpu(vector_bytes=64, registers=32, written_out=200)
BITS = (2,) * 8


def tiles(program: Program) -> list[Tile]:
    """All tiles of the part that runs for each sample."""
    return [s for s in statements(program.samples) if isinstance(s, Tile)]


def check(net: tn.Network) -> tuple[Program, Program]:
    """Forward and backward of a network, after the interpreter has run both against the oracle."""
    graph, batch = net.freeze(), 5
    plan = tn.plan(net, batch=64, minimize="combo-4")
    random = np.random.default_rng(3)
    names = dict(plan.names)
    arrays = {
        value.name: random.standard_normal(
            [batch if (n := plan.axis_size(axis)) is None else n for axis in plan.axes_of(value)]
        )
        for value in plan.inputs
    }
    arrays["g"] = random.standard_normal((batch, graph.out_features))
    stored = {names[v.name]: arrays[v.name] for v in plan.parameters}
    x = arrays[plan.ports[0].name]
    exact = {"out_y": oracle.evaluate(graph, [x], stored)}
    of_inputs, of_stored = oracle.gradients(graph, [x], stored, arrays["g"])
    exact[f"out_d_{plan.ports[0].name}"] = of_inputs[0]
    exact |= {f"out_d_{v.name}": of_stored[names[v.name]] for v in plan.parameters}
    wanted = [value.name for value in plan.inputs]
    programs = forward_program(plan, CPU), backward_program(plan, wanted, CPU)
    for program in programs:
        given = {b.name: arrays[b.name] for b in program.of("input")}
        found = interpret(program, given, batch)
        for buffer in program.of("output"):
            expected = np.real(exact[buffer.name]).reshape(-1)
            np.testing.assert_allclose(found[buffer.name], expected, 1e-9, 1e-9)
    return programs


@pytest.mark.parametrize("rank", [2, 3])
def test_turned_lanes_give_the_oracles_numbers(rank: int) -> None:
    """A train turns its lanes: parts of vectors are repeated, lanes stored in another order, and no
    state is moved in the forward."""
    net = topologies.tensor_train(BITS, BITS, rank)
    assert schedule_lanes(tn.plan(net, batch=64, minimize="combo-4"), CPU).stored
    forward, _ = check(net)
    assert any(t.left.form in ("repeat", "splat") for t in tiles(forward))
    assert len(tiles(forward)) == len([s for s in statements(forward.samples)
                                       if not isinstance(s, Step | For)])  # fmt: skip


def test_turns_store_lanes_in_another_order() -> None:
    """Some network of the tests above needs the order of lanes that a store may change."""
    programs = [check(topologies.tensor_train(BITS, BITS, rank)) for rank in (2, 3)]
    assert any(t.order for pair in programs for program in pair for t in tiles(program))


def test_groups_give_the_oracles_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an L1 cache of a few vectors steps run in groups, and results are the same."""
    monkeypatch.setattr(groups, "MOST_UNGROUPED", 8)
    monkeypatch.setattr(groups, "MOST_GROUPED", 128)
    forward, _ = check(topologies.butterfly(1024))
    assert any(";" in step.comment for step in forward.samples if isinstance(step, Step))
