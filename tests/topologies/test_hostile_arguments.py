"""Sizes that no network can have: a SpecError that is short, at once, before anything is made."""

from __future__ import annotations

import inspect
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tnlayer as tn
from tnlayer import topologies as T

FITTING: dict[str, dict[str, Any]] = {
    "augmented_tree": {"legs": 4, "dim": 2, "bond": 2},
    "blast": {"in_features": 4, "out_features": 6, "blocks": 2, "rank": 2},
    "mera_2d": {"rows": 2, "columns": 4, "dim": 2, "bond": 2},
    "mps": {"sites": 3, "dim": 2, "bond": 2},
    "mps_classifier": {"sites": 3, "dim": 2, "bond": 2, "classes": 3},
    "peps_classifier": {"rows": 2, "columns": 2, "dim": 2, "bond": 2, "classes": 3},
    "peps_state": {"rows": 2, "columns": 2, "dim": 2, "bond": 2},
    "periodic_mera": {"legs": 4, "dim": 2, "bond": 2},
    "quanta": {"shape": (2, 2, 2), "layers": 1},
    "random_circuit": {"legs": 4, "dim": 2, "depth": 2},
    "ternary_mera": {"legs": 6, "dim": 2, "bond": 2},
    "block_term": {"in_shape": (2, 2), "out_shape": (2, 2), "terms": 2, "rank": 2},
    "brickwall": {"legs": 4, "dim": 2, "depth": 2},
    "btt": {"in_shape": (2, 2), "out_shape": (2, 2), "rank": 2},
    "butterfly": {"features": 8},
    "cp": {"in_shape": (2, 2), "out_shape": (2, 2), "rank": 2},
    "kronecker": {"in_shape": (2, 2), "out_shape": (2, 2)},
    "low_rank": {"in_features": 4, "out_features": 4, "rank": 2},
    "mera": {"legs": 4, "dim": 2, "bond": 2},
    "monarch": {"in_shape": (2, 2), "out_shape": (2, 2)},
    "peps": {"rows": 2, "columns": 2, "dim": 2, "bond": 2},
    "tensor_ring": {"in_shape": (2, 2), "out_shape": (2, 2), "rank": 2},
    "tensor_train": {"in_shape": (2, 2), "out_shape": (2, 2), "rank": 2},
    "tree": {"legs": 4, "dim": 2, "bond": 2},
    "tucker": {"in_shape": (2, 2), "out_shape": (2, 2), "rank": 2},
}
WRONG: dict[str, Any] = {
    "endless": 10**12,
    "longer than can be written": 10**5000,
    "negative": -(10**5000),
    "no number": "many",
    "nothing": None,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "endless sizes": (10**5000, 2),
    "a list of lists": [[2], [2]],
    "numbers as words": ("2", "2"),
}
CASES = [(name, argument) for name, given in FITTING.items() for argument in given]


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """What would fill the memory ends here instead."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_every_topology_is_tried() -> None:
    """Each public one has a line in FITTING, with arguments that fit."""
    found = {n for n in dir(T) if inspect.isfunction(getattr(T, n)) and not n.startswith("_")}
    assert found == set(FITTING)
    for name, given in FITTING.items():
        getattr(T, name)(**given).freeze()


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_size_that_cannot_be(name: str, argument: str, wrong: str) -> None:
    """Typed and short, with little memory; what is only large is refused when it is frozen."""
    make: Callable[..., tn.Network] = getattr(T, name)
    try:
        make(**{**FITTING[name], argument: WRONG[wrong]}).freeze()
    except tn.SpecError as error:
        assert len(str(error)) < 1000
        assert not isinstance(error.__cause__, MemoryError)
    else:
        assert wrong == "endless", f"{argument}={wrong} was taken"
