"""What users ask plans for: values that are no option are refused in one way, wherever they are
given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
