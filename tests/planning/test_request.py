"""What users ask plans for: values that are no option are refused in one way, wherever they are
given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn

ASKED: dict[str, Callable[..., Any]] = {
    "plan": tn.plan,
    "cost": tn.cost,
    "compile": tn.compile,
    "fit_budget": lambda _, **options: tn.fit_budget(
        tn.topologies.tensor_train, 16, 16, params=64, **options
    ),
    "compare": lambda net, **options: tn.compare([net], **options),
}


def net() -> tn.Network:
    """A small one."""
    return tn.topologies.low_rank(6, 4, rank=2)


@pytest.mark.parametrize("function", ASKED)
@pytest.mark.parametrize("device", ["", 3, None, "cuda:", "cuda:x", "CPU!", "a/b", "../x", b"cpu"])
def test_what_is_no_device(function: str, device: object) -> None:
    """A SpecError that names it."""
    with pytest.raises(tn.SpecError, match="type of device"):
        ASKED[function](net(), device=device)


@pytest.mark.parametrize("function", ASKED)
@pytest.mark.parametrize("device", ["cpu:0", torch.device("cpu")])
def test_plans_are_for_a_type_of_device(function: str, device: object) -> None:
    """The number of a device has no say in its plans."""
    ASKED[function](net(), device=device, batch=8)


def test_a_numbered_gpu_is_a_gpu() -> None:
    """Counted as any other of its type."""
    one, other = (tn.cost(net(), batch=8, device=device) for device in ("cuda", "cuda:3"))
    assert str(one) == str(other)


@pytest.mark.parametrize("function", ASKED)
@pytest.mark.parametrize("dtype", ["", "int64", 3, b"float32"])
def test_what_is_no_dtype(function: str, dtype: object) -> None:
    """A SpecError that lists those there are."""
    with pytest.raises(tn.SpecError, match="expected one of float16"):
        ASKED[function](net(), dtype=dtype)


def net_of_two() -> tn.Network:
    """A real network with two features on both sides."""
    return tn.topologies.low_rank(2, 2, rank=1)


def complex_net() -> tn.Network:
    """A matrix of complex entries."""
    made = tn.Network("turn")
    made.input(i=2)
    made.output(j=2)
    made.tensor("U", "i j", value=np.eye(2) * 1j, trainable=False)
    return made


TAKES_COMPLEX: dict[str, Callable[..., Any]] = {
    **{name: ASKED[name] for name in ("plan", "cost", "compile", "compare")},
    "Layer": tn.Layer,
    "plan of a sum": lambda net, **options: tn.plan(net_of_two() + net, **options),
    "cost of a sum": lambda net, **options: tn.cost(net_of_two() + net, **options),
    "compare of a sum": lambda net, **options: tn.compare(net_of_two() + net, **options),
}


@pytest.mark.parametrize("function", TAKES_COMPLEX)
@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        ("float16", "complex64"),
        ("bfloat16", "complex64"),
        ("float32", "complex64"),
        ("float64", "complex128"),
        (torch.float64, "complex128"),
    ],
)
def test_complex_networks_take_no_real_dtype(function: str, dtype: object, wide: str) -> None:
    """A SpecError that says what is complex, and the dtype whose parts are those asked for."""
    text = rf"is real, but tensor 'U' of network 'turn' has complex values; use dtype='{wide}'"
    with pytest.raises(tn.SpecError, match=text):
        TAKES_COMPLEX[function](complex_net(), dtype=dtype)


def test_complex_ports_take_no_real_dtype() -> None:
    """As complex values."""
    made = net()
    made.port("x", dtype="complex64")
    text = "dtype=float32 is real, but input 'x' of network 'low rank' is of complex64"
    with pytest.raises(tn.SpecError, match=text):
        tn.cost(made, dtype="float32")


def test_a_sum_has_one_dtype() -> None:
    """Complex for all its networks where one is complex, as in a layer."""
    both = net_of_two() + complex_net()
    assert [one.dtype for one in tn.plan(both)] == ["complex64"] * 2
    assert [one.plan.dtype for one in tn.cost(both)] == ["complex64"] * 2


@pytest.mark.parametrize("function", ["plan", "cost", "compile", "compare"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch": 0}, "batch=0"),
        ({"batch": True}, "batch=True"),
        ({"batch": 10**5000}, "batch=about 2"),
        ({"memory_limit": -1}, "memory_limit=-1"),
        ({"memory_limit": 1.5}, "memory_limit=1.5"),
        ({"memory_limit": False}, "memory_limit=False"),
        ({"objective": "fast"}, "objective"),
        ({"effort": 3}, "effort"),
        ({"minimize": 3}, "minimize=3"),
        ({"minimize": "nothing"}, "minimize"),
    ],
)
def test_what_is_no_option(function: str, options: dict[str, Any], text: str) -> None:
    """A SpecError that names it."""
    with pytest.raises(tn.SpecError, match=text):
        ASKED[function](net(), **options)
