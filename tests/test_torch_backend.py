"""The schedule and the generated torch source: golden text, and what must never be in it."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Golden
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tnlayer as tn
from tnlayer.kernels.schedule import Copy, MatMul

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


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that calls under this mode made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {
            t.untyped_storage().data_ptr()
            for t in tree_leaves((args, kwargs))
            if isinstance(t, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage.data_ptr()
                if key not in known and key not in self.live:
                    self.live[key] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, key, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return out


MEASURED = {
    "tensor_train": lambda: tn.topologies.tensor_train((8, 8, 8), (8, 8, 8), rank=4),
    "mera": lambda: tn.topologies.mera(8, 2, 3),
    "tree": lambda: tn.topologies.tree(8, 2, 2),
    "tucker": lambda: tn.topologies.tucker((8, 8), (8, 8), rank=4),
    "cp": lambda: tn.topologies.cp((8, 8), (8, 8), rank=4),
    "butterfly": lambda: tn.topologies.butterfly(64),
    "tensor_ring": lambda: tn.topologies.tensor_ring((4, 4, 4), (4, 4, 4), rank=3),
    "block_term": lambda: tn.topologies.block_term((8, 8), (8, 8), 2, 3),
    "peps": lambda: tn.topologies.peps(2, 3, 2, 2),
}


@pytest.mark.parametrize("name", MEASURED)
def test_predicted_peak_is_what_is_allocated(name: str) -> None:
    """Forward without grad and training step: counted peak within 10% of the measured one."""
    net = MEASURED[name]()
    batch = 64
    program = tn.compile(net, batch=batch)
    inference = program.schedules((False,) * len(program.plan.inputs))
    training = program.schedules()
    arrays = {p.name: torch.randn(p.shape, requires_grad=True) for p in net.freeze().parameters}
    x = torch.randn(batch, net.in_features, requires_grad=True)
    program.source()
    gc.collect()
    with torch.no_grad(), LiveBytes() as mode:
        program(x, parameters=arrays)
    assert mode.peak == pytest.approx(inference.peak_bytes(batch), rel=0.1)
    gradient = torch.randn(batch, net.out_features)
    with LiveBytes() as mode:
        y = program(x, parameters=arrays)
        torch.autograd.grad(y, [x, *arrays.values()], gradient)
    assert mode.peak == pytest.approx(training.peak_bytes(batch), rel=0.1)


def test_copies_are_counted_calls() -> None:
    """What a schedule lists is what runs: its number of copies is that of the printed source."""
    program = tn.compile(NETWORKS["mera"](), batch=32)
    pair = program.schedules()
    assert pair.backward is not None
    calls = (*pair.forward.calls, *pair.backward.calls)
    copies = program.source().count(".clone(") + program.source().count(" copy(")
    assert copies == sum(isinstance(call, Copy) for call in calls)


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
