"""layer.source(): all code, with a summary before what is compiled, or one part of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
    code = {"torch": "def ", "cpp": ""}[backend]
    assert whole.endswith(backward[backward.index(code) :])
    assert forward[forward.index(code) :] in whole
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
    """Asked for by name; the source itself is short and opens with what its names stand for."""
    layer = made("torch")
    assert "runs as torch; source: forward" in layer.source("summary")
    for part in (None, "forward", "backward"):
        legend, code = layer.source(part).split("def ", 1)
        assert all(line.startswith("# ") for line in legend.splitlines())
        assert "core_0" in legend and "core_1" in legend and "core" not in code


def test_what_runs_has_no_legend() -> None:
    """Equal networks of other names run the same source."""
    (ranged,) = made("torch")._programs_for(torch.float32)
    assert ranged.main.source().startswith("def forward")


@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_a_part_is_no_mask(backend: str) -> None:
    """A program's source is asked for by wanted gradients; who names a part is told of sources."""
    program = tn.compile(NET, backend=backend)
    wrong: Any
    for wrong in ("forward", (True,), 3, (1, 1, 1)):
        for show in (program.source, program.sources):
            with pytest.raises(tn.SpecError, match="expected a mask of 3 flags"):
                show(wrong)
    with pytest.raises(tn.SpecError, match="sources"):
        program.source("forward")  # type: ignore[arg-type]
    assert program.source((False, True, True))


def test_an_unknown_part() -> None:
    """Is refused, with those there are."""
    wrong: Any = "forwards"
    with pytest.raises(tn.SpecError, match=r"did you mean 'forward'.*summary, forward, backward"):
        made("torch").source(wrong)
