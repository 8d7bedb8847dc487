"""What the kernels of a streamed product do, counted, and the seconds that follow."""

from __future__ import annotations

import pytest

import tnlayer as tn
from tests.support.profiles import fixed_profile
from tnlayer.hardware.cpu import Cpu
from tnlayer.lowering.streamed.product_form import ProductForm, product_form
from tnlayer.time_models.streamed_kernels import forward_work, gradient_work, streamed_seconds

SIZES = (6, 4, 5, 8, 3)


def test_a_forward_counts_samples_and_the_making_of_tiles() -> None:
    """24 entries of x meet 5 vectors of y a sample; W's 6 x 5 x 4 vectors are sums over 3."""
    work = forward_work(SIZES, rows=10, width=8)
    assert (work.samples, work.factors, work.moved) == (10 * 24 * 5, 120 * 3, 10 * (24 + 40))


@pytest.mark.parametrize(("left", "right"), [(True, True), (True, False), (False, True)])
def test_gradients_count_what_is_wanted(left: bool, right: bool) -> None:
    """Tiles are made of samples once; each factor that is wanted takes them further."""
    work = gradient_work(SIZES, rows=10, width=8, left=left, right=right)
    assert work.samples == 10 * 120
    assert work.factors == 120 * (8 * left + 3 * right)


def test_nothing_wanted_is_nothing_done() -> None:
    """Frozen tensors take no time."""
    work = gradient_work(SIZES, rows=10, width=8, left=False, right=False)
    assert work.samples == work.factors == work.moved == 0


def test_seconds_grow_with_samples_and_gradients() -> None:
    """A larger batch, and each wanted gradient, takes longer."""
    plan = tn.plan(tn.topologies.tensor_train((16, 16), (16, 16), rank=8), minimize="rebuild")
    form = product_form(plan, 16)
    assert isinstance(form, ProductForm)
    profile, cpu = fixed_profile(), Cpu()

    def seconds(batch: int, *wanted: bool) -> float:
        flags = (wanted[0], wanted[1], wanted[2])
        return streamed_seconds(plan, form, flags, batch, profile, cpu).total

    none = (False, False, False)
    assert seconds(64, *none) < seconds(1024, *none) < seconds(1024, True, False, False)
    assert seconds(64, True, True, False) < seconds(64, True, True, True)
