"""layer.source(): all code, with a summary before what is compiled, or one part of it."""

from __future__ import annotations

from typing import Any

import pytest

import tnlayer as tn

NET = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)


def made(backend: str) -> tn.Layer:
    """A small layer whose tensors have names."""
    return tn.Layer(NET, backend=backend, effort="fast")


@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_parts_are_those_of_the_whole(backend: str) -> None:
    """Forward and backward, one below the other, are the source."""
    layer = made(backend)
    whole, forward, backward = layer.source(), layer.source("forward"), layer.source("backward")
    assert whole.endswith(backward) and forward in whole
    define = {"torch": "def ", "cpp": "int "}[backend]
    assert f"{define}forward(" in forward and f"{define}backward(" not in forward
    assert f"{define}backward(" in backward and f"{define}forward(" not in backward


def test_kernels_open_with_what_runs() -> None:
    """Comments tell features, the lines of each part and each step, with the names of the code; the
    summary alone has the user's."""
    layer = made("cpp")
    head, code = layer.source().split("\n\n", 1)
    lines = head.splitlines()
    assert all(line.startswith("//") for line in lines)
    assert "16 -> 16, 2 tensors, 64 parameters" in lines[0]
    forward, backward = (len(layer.source(part).splitlines()) for part in ("forward", "backward"))
    assert f"forward {forward:,} lines, backward {backward:,} lines" in lines[1]
    steps = layer.explain().costs[0].plan.steps
    assert sum("once a call" in line or "each sample" in line for line in lines) == len(steps)
    assert not code.startswith("//") and "core_0" not in head
    told = layer.source("summary")
    assert "'tensor train': 16 -> 16" in told and "core_0" in told and "#include" not in told


def test_torch_has_a_summary_too() -> None:
    """Asked for by name; the source itself is short and opens with its code."""
    layer = made("torch")
    assert "runs as torch; source: forward" in layer.source("summary")
    assert layer.source().startswith("def forward")


def test_an_unknown_part() -> None:
    """Is refused, with those there are."""
    wrong: Any = "forwards"
    with pytest.raises(tn.SpecError, match=r"did you mean 'forward'.*summary, forward, backward"):
        made("torch").source(wrong)
