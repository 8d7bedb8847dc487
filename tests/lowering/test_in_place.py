"""Steps in place: a gradient that nothing else reads makes room for the next one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.loop_programs import CPU, checked_by_interpreter, run_compiled, tiles
from tnlayer import topologies
from tnlayer.ir.loops import At, Buffer, LoopProgram, LoopRegion, Tile
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.array_layout import Array, replaced
from tnlayer.lowering.cpu.pipeline import backward_program

NETWORKS = {
    "mera": lambda: topologies.mera(10, 2, 2),
    "tree": lambda: topologies.tree(8, 2, 2),
    "brickwall": lambda: topologies.brickwall(8, 2, 3),
}


def in_place(program: LoopProgram) -> list[Tile]:
    """The tiles that write where they read."""
    return [tile for tile in tiles(program) if tile.left.buffer == tile.target.buffer]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_in_place_are_the_oracles(name: str) -> None:
    """The backward writes gradients over gradients; the forward, whose states are read once, none;
    the interpreter gives the oracle's numbers for both."""
    forward, backward = checked_by_interpreter(NETWORKS[name]())
    assert in_place(backward)
    assert not in_place(forward)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_code_in_place_equals_the_interpreter(name: str) -> None:
    """What the compiler makes of a tile in place reads before it writes."""
    net = NETWORKS[name]()
    _, backward = checked_by_interpreter(net)
    random = np.random.default_rng(1)
    given = {
        buffer.name: random.standard_normal(buffer.size * (3 if buffer.batched else 1)) / 2
        for buffer in backward.of("input")
    }
    expected = interpret(backward, given, 3)
    found = run_compiled(backward, {n: a.astype(np.float32) for n, a in given.items()}, 3)
    for name_of, values in expected.items():
        np.testing.assert_allclose(found[name_of], values, 2e-4, 2e-4 * abs(values).max())


def test_what_is_read_again_is_kept() -> None:
    """Without gradients of the weights a gradient has one reader: nothing is gained in place."""
    net = NETWORKS["mera"]()
    plan = tn.plan(net, batch=64, minimize="combo-4")
    assert not in_place(backward_program(plan, [plan.ports[0].name], CPU))


def test_a_tile_in_place_must_write_what_it_reads() -> None:
    """A tile that would overwrite what the next one reads is refused."""
    tile = Tile(At("x"), At("x"), At("w", form="splat"), sums=((0, 0), (4, 1)),
                columns=((0, 0), (2, 4)))  # fmt: skip
    buffers = (Buffer("x", 12, "thread"), Buffer("w", 4, "input"))

    def program(changed: Tile) -> LoopProgram:
        return LoopProgram(
            "p", "float32", 4, 1, buffers, (), (LoopRegion("t0", "", (changed,)),), ()
        )

    assert verified(program(tile))
    for wrong in (
        replace(tile, columns=((0, 0), (2, 8))),
        replace(tile, target=At("x", 4)),
        replace(tile, columns=((0, 0),)),
    ):
        with pytest.raises(tn.BuildError, match="step t0: a Tile in place of x"):
            verified(program(wrong))


def test_new_legs_take_the_strides_of_legs_of_their_size() -> None:
    """The rest stays; None if a leg has no place, if room is left, or if lanes go."""
    sizes = {"a": 2, "b": 3, "c": 2, "d": 3, "one": 1, "l": 4}
    array = Array("t", (("a", 12), ("b", 4), ("l", 1)), lanes=("l",))
    found = replaced(array, ("d", "one", "a", "l"), sizes)
    assert found is not None
    assert dict(found.strides) == {"d": 4, "one": 0, "a": 12, "l": 1}
    assert replaced(array, ("c", "a", "l"), sizes) is None
    assert replaced(array, ("a", "l"), sizes) is None
    assert replaced(array, ("a", "b", "c"), sizes) is None
