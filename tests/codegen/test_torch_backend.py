"""The schedule and the generated torch source: golden text, and what must never be in it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

import tnlayer as tn
from tests.support.golden import Golden
from tnlayer.ir.calls import Copy, MatMul

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: tn.topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=2),
    "mera": lambda: tn.topologies.mera(4, 2, 2),
    "cp": lambda: tn.topologies.cp((4, 4), (4, 4), rank=3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_plan(name: str, golden: Golden) -> None:
    """The printed plan, forward and backward, is the text in the golden file."""
    plan = tn.plan(NETWORKS[name](), batch=32)
    golden.check(f"{plan}\n\n{tn.backward_plan(plan)}\n")


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_source(name: str, golden: Golden) -> None:
    """The generated source is the text in the golden file (numbers are checked elsewhere)."""
    golden.check(tn.compile(NETWORKS[name](), batch=32).source())


@pytest.mark.parametrize("name", NETWORKS)
def test_only_pairwise_calls(name: str) -> None:
    """No einsum, no tensordot, no letters: mm, bmm and elementwise on views."""
    source = tn.compile(NETWORKS[name](), batch=32).source()
    assert "einsum" not in source
    assert "tensordot" not in source
    calls = set(re.findall(r"torch\.(\w+)\(", source))
    assert calls <= {"mm", "bmm", "mul", "sum"}


def test_a_gate_in_the_middle_needs_no_copy() -> None:
    """A gate on neighbouring legs inside a large state is one bmm on views."""
    net = tn.Network()
    net.input(a=64, i=4, c=64)
    net.output(a=64, j=4, c=64)
    net.tensor("gate", "i j")
    forward = tn.compile(net, batch=64).schedules((False, False)).forward
    assert [type(call) for call in forward.calls] == [MatMul]


def test_user_names_stay_out_of_the_source() -> None:
    """Generated text has canonical names only."""
    net = tn.Network("secret_label")
    net.input(secret_leg=4)
    net.output(other_secret=3)
    net.tensor("secret_tensor", "secret_leg other_secret")
    assert "secret" not in tn.compile(net).source()


@pytest.mark.usefixtures("backend")
def test_sixty_legs() -> None:
    """A state of few entries in a network of 60 legs of size 2 runs; letters would run out."""
    net = tn.Network("chain")
    legs = net.input("x", [2] * 60)
    net.port("x", product=True)
    wires: tuple[str, ...] = ()
    for k, leg in enumerate(legs):
        wires = net.tensor(f"A{k}", (*wires, leg), out=(2,), init=0.7)
    net.output(wires)
    layer = tn.Layer(net, dtype=torch.float64)
    x = torch.rand(3, 60, 2, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    state = torch.ones(3, 1, dtype=torch.float64)
    for k in range(60):
        core = layer.state_dict()[f"A{k}"].reshape(-1, 2, 2)
        state = torch.einsum("ba,bi,aio->bo", state, x[:, k], core)
    assert torch.allclose(y, state, rtol=1e-9)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(state.sum(), x)
    assert torch.allclose(gradient, expected, rtol=1e-9)


def test_copies_are_counted_calls() -> None:
    """What a schedule lists is what runs: its number of copies is that of the printed source."""
    program = tn.compile(NETWORKS["mera"](), batch=32)
    pair = program.schedules()
    assert pair.backward is not None
    calls = (*pair.forward.calls, *pair.backward.calls)
    copies = program.source().count(".clone(") + program.source().count(" copy(")
    assert copies == sum(isinstance(call, Copy) for call in calls)


@pytest.mark.usefixtures("backend")
def test_a_real_program_refuses_complex_arrays() -> None:
    """An imaginary part is never dropped in silence: neither of x nor of a parameter."""
    net = tn.topologies.low_rank(6, 4, rank=2)
    program = tn.compile(net)
    arrays = {p.name: torch.ones(p.shape) for p in net.freeze().parameters}
    with pytest.raises(tn.SpecError, match="x: expected a real array"):
        program(1j * torch.ones(2, 6), parameters=arrays)
    arrays["U"] = arrays["U"] * 1j
    with pytest.raises(tn.SpecError, match="U: expected a real array"):
        program(torch.ones(2, 6), parameters=arrays)
