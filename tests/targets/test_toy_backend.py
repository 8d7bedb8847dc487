"""A backend that a user registers: layers, programs, costs and explanations take it by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tnlayer as tn
from tests.support.against_oracle import check_case
from tests.support.strategies import run_examples
from tests.support.toy_backend import ToyBackend
from tnlayer.ir.cuts import batched_steps
from tnlayer.ir.plan_document import PlanDocumentError, document_from_plan, plan_from_document
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.targets.backend import register, unregister

T = tn.topologies


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    """The backend is known inside a test only."""
    register(ToyBackend())
    yield
    unregister("toy")


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_random_networks_equal_the_oracle(dtype: torch.dtype) -> None:
    """Value and all gradients of a layer, and of random networks of all kinds, are the oracle's."""
    run_examples(lambda case: check_case(case, dtype, "toy"), dtype.is_complex, 7000, 60)


def test_programs_take_it() -> None:
    """tn.compile builds it, and its gradients are torch's."""
    net = T.tensor_train((3, 2), (2, 4), rank=2)
    toy, reference = (tn.compile(net, backend=name, dtype="float64") for name in ("toy", "torch"))
    assert toy.backend == "toy" and toy.source().startswith("numpy.einsum")
    shapes = {p.name: p.shape for p in net.freeze().parameters}
    torch.manual_seed(1)
    arrays = {n: torch.randn(s, dtype=torch.float64, requires_grad=True) for n, s in shapes.items()}
    x = torch.randn(5, 6, dtype=torch.float64)
    ours, theirs = (program(x, parameters=arrays) for program in (toy, reference))
    torch.testing.assert_close(ours, theirs)
    pairs = [torch.autograd.grad(y.square().sum(), [*arrays.values()]) for y in (ours, theirs)]
    torch.testing.assert_close(*pairs)


def test_costs_and_explanations_tell_of_it() -> None:
    """Its time, its text and its name."""
    net = T.mera(4, 2, 2)
    cost = tn.cost(net, batch=16, backend="toy")
    assert cost.backend == "toy" and cost.plan.regions[0].backend == "toy"
    assert cost.fastest.backend == "toy" and cost.fastest.forward > 16e-6
    assert sum(cost.step_seconds().values()) == pytest.approx(cost.fastest.training)
    layer = tn.Layer(net, backend="toy")
    layer(torch.zeros(3, 16))
    text = str(layer.explain(16))
    assert "backend: toy, as asked for; a toy: do not trust its times" in text
    assert "region 1, toy: " in text and "numpy does each step" in text
    assert "predicted ms forward, toy" in text


def test_plans_with_it_are_stored_and_read() -> None:
    """A document names it; where it is not registered, that is an error."""
    plan = tn.cost(T.mera(4, 2, 2), batch=16, backend="toy").plan
    assert plan.regions == (BackendSpan("toy", len(batched_steps(plan))),)
    document = document_from_plan(plan)
    assert plan_from_document(document) == plan
    unregister("toy")
    with pytest.raises(
        PlanDocumentError, match="one of torch, cpp, cuda, streamed, and a number of steps"
    ):
        plan_from_document(document)


def test_what_is_not_registered_is_refused() -> None:
    """The message lists what there is, the new backend too; names are words, each taken once."""
    with pytest.raises(tn.SpecError, match="expected one of auto, torch, cpp, cuda, toy"):
        tn.Layer(T.mera(4, 2, 2), backend="tpu")

    class Other(ToyBackend):
        name = "torch"

    with pytest.raises(tn.SpecError, match="that no other backend has"):
        register(Other())
    Other.name = "Not a name"
    with pytest.raises(tn.SpecError, match="expected a lowercase word"):
        register(Other())
