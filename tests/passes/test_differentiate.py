"""The backward of a plan: no more steps than it must have."""

from __future__ import annotations

import pytest

import tnlayer as tn
from tnlayer.ir.steps import Contract

# Every contraction of these sums a leg.
TOPOLOGIES = {
    "tensor_train": tn.topologies.tensor_train((2, 3, 4), (3, 2, 2), rank=3),
    "tensor_ring": tn.topologies.tensor_ring((2, 3, 2), (3, 2, 2), rank=2),
    "tree": tn.topologies.tree(6, 2, 3),
    "mera": tn.topologies.mera(8, 2, 3),
    "low_rank": tn.topologies.low_rank(8, 6, rank=2),
    "btt": tn.topologies.btt((4, 4), (4, 4), rank=2),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_backward_costs_twice_the_forward(name: str) -> None:
    """Where every contraction sums a leg and everything is trainable."""
    forward = tn.plan(TOPOLOGIES[name], batch=9)
    assert all(step.summed_legs for step in forward.steps if isinstance(step, Contract))
    backward = tn.backward_plan(forward).verify()
    assert backward.counts.flops.at(9) == 2 * forward.counts.flops.at(9)


def test_gradients_have_the_names_of_users() -> None:
    """In words, printed and in HTML; the steps themselves keep canonical names."""
    backward = tn.backward_plan(tn.plan(TOPOLOGIES["low_rank"], batch=9, minimize="flops"))
    words = backward.steps_in_words()
    assert {word.split("[")[0] for word in words} == {"d_t0", "d_U", "d_V", "d_x"}
    assert "d_x[b i] = d_t0 x V, sum r" in words
    assert {step.result.name for step in backward.steps} == {"d_t0", "d_n0", "d_n1", "d_x0"}
    for text in (str(backward), backward._repr_html_()):
        assert "d_U" in text and "d_x" in text and "d_n" not in text and "d_x0" not in text


def test_a_second_gradient_of_a_tensor_has_its_name_too() -> None:
    """A tensor that stands twice has a gradient in each place, and their sum."""
    net = tn.Network("twice")
    net.input(i=3)
    net.output(j=3)
    net.bond(k=3)
    net.tensor("W", "i k")
    net.tensor("again", "k j", share="W")
    words = tn.backward_plan(tn.plan(net, batch=2)).steps_in_words()
    assert "d_W_1[i k] = add d_W + d_again" in words


def test_names_of_gradients_take_none_of_a_tensor() -> None:
    """A tensor that is called as another's gradient would be keeps its name alone."""
    net = tn.Network("clash")
    net.input(i=3)
    net.output(j=4)
    net.bond(k=2)
    net.tensor("W", "i k")
    net.tensor("d_W", "k j")
    backward = tn.backward_plan(tn.plan(net, batch=2))
    named = [word.split("[")[0] for word in backward.steps_in_words()]
    assert len(set(named)) == len(named) and "d_W" not in named and "d_d_W" in named


def test_frozen_tensors_cost_nothing() -> None:
    """The gradient of one tensor alone needs one contraction, and saves only what it reads."""
    forward = tn.plan(TOPOLOGIES["low_rank"], batch=9, minimize="flops")
    last = forward.steps[-1].operands[1].value.name
    backward = tn.backward_plan(forward, [last])
    assert len(backward.steps) == 1
    assert [output.name for output in backward.outputs] == [f"d_{last}"]
    assert len(backward.saved) == 1
    assert tn.backward_plan(forward, []).steps == ()
