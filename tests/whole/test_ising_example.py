"""examples/ising.py: a MERA with kept isometries finds the ground state of an Ising ring."""

from __future__ import annotations

import pytest

from examples import ising


def relative_error(spins: int, steps: int, seed: int) -> float:
    """How far the energy that was found lies above the exact one; it never lies below."""
    exact = ising.exact_energy(spins)
    found = ising.train(spins, bond_dimension=4, steps=steps, seed=seed)[-1]
    assert found > exact * (1 + 1e-9), "below the ground state: the energy is wrong"
    return (found - exact) / abs(exact)


def test_eight_spins() -> None:
    """To 2e-3 in few steps."""
    assert relative_error(8, steps=100, seed=1) < 2e-3


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 1])
def test_sixteen_spins(seed: int) -> None:
    """To 1e-3, as the example says of itself."""
    assert relative_error(16, steps=500, seed=seed) < 1e-3
