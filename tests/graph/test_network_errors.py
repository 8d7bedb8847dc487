"""Each refusal of the builder: the class, the names, what was expected and what was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.work import work_of

Change = Callable[[tn.Network], object]


def matrix() -> tn.Network:
    """A network of one matrix A from i=2 to j=3, by name."""
    net = tn.Network("matrix")
    net.input(i=2)
    net.output(j=3)
    net.tensor("A", "i j")
    return net


def with_second(legs: str = "i j", **options: Any) -> Change:
    """Add a tensor B to the matrix."""
    return lambda net: net.tensor("B", legs, **options)


def together(*changes: Change) -> Change:
    """Several changes, one after the other."""
    return lambda net: [change(net) for change in changes]


BFLOAT = torch.ones(2, 3, dtype=torch.bfloat16)
META = torch.ones(2, 3, device="meta")
TRACE = together(lambda n: n.bond(t=2), with_second("t t i", isometry="t"))
CIRCLE = together(with_second(share="C"), lambda n: n.tensor("C", "i j", share="B"))
SHARER_OPTIONS: list[dict[str, Any]] = [
    {"value": np.ones((2, 3))},
    {"init": 0.1},
    {"isometry": "i"},
    {"trainable": False},
]

REFUSED: dict[str, tuple[Change, str]] = {
    "port twice": (lambda n: n.input(k=2), r"input 'x' is declared already, with legs \('i',\)"),
    "dims and legs": (lambda n: n.input("z", [2], k=3), r"input 'z': .* not both"),
    "dims twice": (lambda n: n.input([2], [3]), r"expected a port name .* got \[2\]"),
    "dims no list": (lambda n: n.input("z", 3), r"input 'z': expected a sequence .* got 3"),  # type: ignore[arg-type]
    "options twice": (
        together(lambda n: n.port("x"), lambda n: n.port("x")), r"options of input 'x' are set",
    ),
    "unknown port": (lambda n: n.port("w"), r"port\('w'\): there is no input 'w'.*'x'"),
    "port dtype": (lambda n: n.port("x", dtype="int5"), r"'x': dtype .* float32.* got 'int5'"),
    "port flag": (lambda n: n.port("x", product=1), r"'x': product must be True or False"),  # type: ignore[arg-type]
    "bond of a port leg": (lambda n: n.bond(i=2), r"'i' is declared twice: input 'x' .* and bond"),
    "clash of ports": (lambda n: n.input("z", j=4), r"clash on leg 'j': output \(j=3\).*\(j=4\)"),
    "repeated output leg": (
        lambda n: tn.Network().output("a a"), r"leg 'a' stands 2 times in the output",
    ),
    "output leg with one end": (
        lambda n: together(lambda m: m.output(l=2), lambda m: m.freeze())(tn.Network()),
        r"leg 'l' has one end, on the output",
    ),
    "wire in one call": (
        together(lambda n: n.input("z", [2]), with_second("z.0 z.0")),
        r"wire 'z\.0' is consumed twice: by tensor 'B' and by tensor 'B'.*net\.copy_leg\('z\.0'\)",
    ),
    "wire and output": (
        lambda n: together(lambda m: m.input([2]), lambda m: m.tensor("A", "x.0"),
                           lambda m: m.output("x.0"))(tn.Network()),
        r"'x\.0' is consumed twice: by tensor 'A' and by the output",
    ),
    "unknown copy": (lambda n: n.copy_leg("ij"), r"no leg 'ij'"),
    "unknown sum": (lambda n: n.sum("k"), r"sum of the leg 'k', which is not declared"),
    "unknown fix": (lambda n: n.fix(k=0), r"fix of the leg 'k', which is not declared"),
    "fix twice": (lambda n: (n.fix(i=0), n.fix(i=1)), r"leg 'i' is fixed already, at index 0"),
    "fix below zero": (lambda n: n.fix(i=-1), r"leg 'i' is fixed at index -1, expected 0 to 1"),
    "fix by float": (lambda n: n.fix(i=0.0), r"leg 'i' must be a whole number, got 0\.0"),  # type: ignore[arg-type]
    "reorder unknown": (lambda n: n.reorder(input={"w": "i"}), r"no input 'w'.*'x'"),
    "reorder legs": (lambda n: n.reorder(output="i"), r"output has .*\('j',\).*got \('i',\)"),
    "reorder two": (
        together(lambda n: n.input("z", k=2), lambda n: n.reorder(input="i")),
        r"the network has 2 inputs \(x, z\); pass a mapping",
    ),
    "out no list": (with_second(out=3), r"tensor 'B': expected a sequence of sizes .* got 3"),
    "legs no names": (with_second(legs=3), r"tensor 'B': legs must be a string .* got 3"),  # type: ignore[arg-type]
    "legs an array without axes": (
        with_second(legs=np.array("a")),  # type: ignore[arg-type]
        r"tensor 'B': expected a sequence, got",
    ),
    "flag": (with_second(conj="yes"), r"tensor 'B': conj must be True or False, got 'yes'"),
    "init": (with_second(init=-1), r"tensor 'B': init .* 0 or more, .* or a callable, got -1"),
    "init nan": (with_second(init=float("nan")), r"tensor 'B': init .* finite .* got nan"),
    "init and value": (
        with_second(init=1.0, value=np.ones((2, 3))), r"tensor 'B' has both init and value",
    ),
    "init and isometry": (
        with_second(init=1.0, isometry="i"), r"'B' has isometry=, with which init may be",
    ),
    "isometry unknown": (with_second(isometry="k"), r"'B': isometry leg 'k' stands not among"),
    "isometry empty": (with_second(isometry=""), r"'B': isometry names no leg; .* of i j"),
    "isometry of a trace": (TRACE, r"'B': isometry leg 't' stands more than once among its legs"),
    "share unknown": (with_second(share="AA"), r"'B' shares 'AA'.*did you mean 'A'"),
    "share itself": (with_second(share="B"), r"share in a circle: 'B' -> 'B'"),
    "share circle": (CIRCLE, r"share in a circle: 'B' -> 'C' -> 'B'"),
    "value bfloat16": (with_second(value=BFLOAT), r"'B': numpy has no bfloat16; .*\.float\(\)"),
    "value meta": (with_second(value=META), r"'B': the value is on the meta device"),
    "value text": (with_second(value=["a"]), r"'B': value has dtype <U1, expected real, complex"),
    "value ragged": (with_second(value=[[1], [1, 2]]), r"'B': value is not an array"),
    "value longdouble": (
        with_second(value=np.ones((2, 3), dtype=np.longdouble)), r"'B': value .*at most 64 bits",
    ),
    "set_values unknown": (lambda n: n.set_values({"B": 1}), r"no tensor 'B' \(known: 'A'\)"),
    "set_values sharer": (
        together(with_second(share="A"), lambda n: n.set_values({"B": np.ones((2, 3))})),
        r"tensor 'B' shares 'A'; give the value to 'A'",
    ),
    "label": (lambda n: tn.Network(3), r"label .* must be a string, got 3"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_name_the_place(change: Change, said: str) -> None:
    """A SpecError says which node and leg, what was expected and what was found."""
    net = matrix()
    with pytest.raises(tn.SpecError, match=said):
        change(net)
        net.freeze()


@pytest.mark.parametrize("option", SHARER_OPTIONS, ids=lambda option: next(iter(option)))
def test_sharers_take_no_options_of_their_own(option: dict[str, Any]) -> None:
    """value, init, isometry and trainable belong to the owner of the parameter."""
    net = matrix()
    net.tensor("B", "i j", share="A", **option)
    with pytest.raises(tn.SpecError, match=rf"'B' shares 'A', so it takes no {next(iter(option))}"):
        net.freeze()


def many_nodes() -> None:
    net = tn.Network()
    for number in range(100_000):
        net.tensor(f"T{number}", "")


def many_legs_one_by_one() -> None:
    net = tn.Network()
    for number in range(100_000):
        net.bond(**{f"b{number}": 2})


def freeze_matrix(rows: int, columns: int) -> None:
    net = tn.Network()
    net.input(i=rows)
    net.output(j=columns)
    net.tensor("A", "i j")
    net.freeze()


def wide_port() -> None:
    net = tn.Network()
    legs = net.input([2] * 60)
    for number, leg in enumerate(legs):
        net.tensor(f"T{number}", [leg])
    net.output()
    net.freeze()


BOMBS: dict[str, tuple[Callable[[], object], str]] = {
    "legs": (lambda: tn.Network().input([2] * 10**7), r"'x' has 10000000 legs, at most 16384"),
    "endless": (lambda: tn.Network().input(iter(int, 1)), r"more than 16384 legs"),  # type: ignore[arg-type]
    "size": (lambda: tn.Network().bond(a=10**30), r"bond, leg 'a': .* got 10{30}"),
    "digits": (lambda: tn.Network().bond(a=10**9999), r"bond, leg 'a': .* got about 2\*\*33215"),
    "entries": (lambda: freeze_matrix(10**6, 10**6), r"'A'.* 10{12} entries, at most 8589934592"),
    "nodes": (many_nodes, r"4096 nodes already"),
    "many bonds": (many_legs_one_by_one, r"at most 16384"),
    "features": (wide_port, r"input 'x' has 1152921504606846976 features.*product=True"),
    "text": (lambda: tn.Network().tensor("A", "a " * 10**7), r"tensor 'A': the text of legs"),
}  # fmt: skip


@pytest.mark.parametrize(("bomb", "said"), BOMBS.values(), ids=BOMBS.keys())
def test_bounds_hold_early(bomb: Callable[[], object], said: str) -> None:
    """More than the documented bounds is refused before the work for it, naming the bound."""

    def refused() -> None:
        with pytest.raises(tn.SpecError, match=said):
            bomb()

    work = work_of(refused)
    assert work.calls < 10**6
    assert work.peak < 10**8


def test_sixty_legs_pass_as_a_product_port() -> None:
    """Sixty legs of size 2 are 120 features where x is a product state."""
    net = tn.Network()
    legs = net.input([2] * 60)
    net.port("x", product=True)
    for number, leg in enumerate(legs):
        net.tensor(f"T{number}", [leg])
    net.output()
    assert net.in_features == 120
