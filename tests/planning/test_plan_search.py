"""A plan is lowered once: what the search priced is what reports describe and programs are built
from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tnlayer.backends import lowered_for_cpu
from tnlayer.planning import batch_ranges
from tnlayer.planning.rank import _rank
from tnlayer.runtime import program as programs
from tnlayer.targets import lowered_calls

T = tn.topologies


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[Any]]:
    """How often torch's calls, lanes and loop programs were made of the same thing, the user's
    names apart."""
    found = Counter[Any]()

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            plan = getattr(first, "plan", first)
            key = replace(plan, names=()), getattr(first, "wanted", None), rest[:1], str(options)
            found[function.__name__, key] += 1
            return function(first, *rest, **options)

        return call

    pair = noted(lowered_calls.fastest_pair)
    monkeypatch.setattr(lowered_calls, "fastest_pair", pair)
    monkeypatch.setattr(programs, "fastest_pair", pair)
    for name in ("schedule_lanes", "finish"):
        monkeypatch.setattr(lowered_for_cpu, name, noted(getattr(lowered_for_cpu, name)))
    # What other tests planned in this process is forgotten.
    batch_ranges._memorised.cache_clear()
    _rank.cache_clear()
    lowered_for_cpu._kernel.cache_clear()
    yield found
    lowered_for_cpu._kernel.cache_clear()


def twice(seen: Counter[Any]) -> list[str]:
    """What was made more than once."""
    return [f"{name}: {count}" for (name, _), count in seen.items() if count > 1]


@pytest.mark.parametrize("backend", ["torch", "auto", "cpp"])
@pytest.mark.parametrize("limit", [None, 2**20])
def test_a_layer_lowers_each_plan_once(backend: str, limit: int | None, seen: Counter[Any]) -> None:
    """From the search to the backward, explain() included."""
    if backend != "torch" and not has_compiler():
        pytest.skip("no C++ compiler")
    layer = tn.Layer(T.mera(4, 2, 3), batch=32, backend=backend, memory_limit=limit)
    layer(torch.randn(32, 16, requires_grad=True)).sum().backward()
    str(layer.explain())
    assert any(name == "fastest_pair" for name, _ in seen) or backend == "cpp"
    assert not twice(seen)


def test_a_cost_lowers_each_plan_once(seen: Counter[Any]) -> None:
    """tn.cost, its text and its times."""
    cost = tn.cost(T.tensor_train((4, 4, 4), (4, 4, 4), rank=4), batch=64)
    cost.step_seconds()
    assert seen
    assert not twice(seen)
