"""The ground state of a transverse-field Ising ring by MERA: python -m examples.ising

H = -sum Z_k Z_{k+1} - sum X_k on 16 spins, at its critical point. The state is a binary MERA with
periodic boundary and bond dimension 4, whose tensors are kept isometric: each is the Q
of a QR decomposition. So tensors outside the causal cone of a term cancel, and
``tn.energy(..., isometric=True)`` leaves them out.

The exact energy is that of free fermions, E = -2 / sin(pi / (2 n)) for n spins on a ring
(P. Pfeuty, The one-dimensional Ising model with a transverse field, 1970).
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch

import tnlayer as tn

X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])


def exact_energy(spins: int) -> float:
    """The lowest energy of the critical ring.

    >>> ring = sum(bond(k, 4) for k in range(4))
    >>> bool(abs(np.linalg.eigvalsh(ring)[0] - exact_energy(4)) < 1e-12)
    True
    """
    return -2.0 / math.sin(math.pi / (2 * spins))


def bond(k: int, spins: int) -> np.ndarray:
    """The term of spins k and k + 1 as a matrix on all: for the check of the formula."""
    total = np.zeros((2**spins, 2**spins))
    for pair in ({k: Z, (k + 1) % spins: Z}, {k: X}):
        factor = np.eye(1)
        for site in range(spins):
            factor = np.kron(factor, pair.get(site, np.eye(2)))
        total -= factor
    return total


def state(spins: int, bond_dimension: int) -> tn.Network:
    """A MERA over its input legs: all legs that leave it are fixed."""
    net = tn.topologies.periodic_mera(spins, 2, bond_dimension, share=True)
    net.fix(dict.fromkeys(net.freeze().output, 0))
    return net


def terms(spins: int) -> dict[tuple[int, int], np.ndarray]:
    """One term a pair of neighbours, half of each field."""
    fields = np.kron(X, np.eye(2)) + np.kron(np.eye(2), X)
    return {(k, (k + 1) % spins): np.kron(-Z, Z) - fields / 2 for k in range(spins)}


def isometry(array: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """The isometry between some axes of an array and the others that its QR decomposition gives.

    Arguments:
        array: any shape.
        rows: the axes of one side.
    """
    columns = [axis for axis in range(array.dim()) if axis not in rows]
    order = [*rows, *columns]
    moved = array.permute(*order)
    matrix = moved.reshape(math.prod(moved.shape[: len(rows)]), -1)
    wide = matrix.shape[0] < matrix.shape[1]
    q, _ = torch.linalg.qr(matrix.mT if wide else matrix)
    made = (q.mT if wide else q).reshape(moved.shape)
    return made.permute(*(order.index(k) for k in range(array.dim())))


def near_identity(array: torch.Tensor, rows: list[int], noise: float = 0.05) -> torch.Tensor:
    """The identity between the first axes and the others, with some noise.

    Arguments:
        array: of which shape, dtype and device are taken.
        rows: the axes of one side, which are the first ones.
        noise: deviation of what is added.
    """
    size = math.prod(array.shape[axis] for axis in rows)
    start = torch.eye(size, array.numel() // size, dtype=array.dtype).reshape(array.shape)
    return (start + noise * torch.randn_like(array)).detach().requires_grad_()


def isometries(layer: tn.Layer) -> dict[str, list[int]]:
    """The axes of one side of each stored tensor that shall be an isometry, by name."""
    found: dict[str, list[int]] = {}
    for graph in layer.graphs:
        for parameter in graph.parameters:
            if parameter.node.isometry:
                kept = [axis for axis, pin in enumerate(parameter.pins) if pin is None]
                sides = [k for k, axis in enumerate(kept) if axis in parameter.node.isometry]
                found[parameter.name] = sides
    return found


def train(spins: int, bond_dimension: int, steps: int, seed: int = 0) -> list[float]:
    """The energy at each step, the last one of the state that was found.

    Each tensor is made as an isometry from a free array, so that it is one at every step and
    L-BFGS moves without constraints.

    Arguments:
        spins: a power of two.
        bond_dimension: of the legs that go up.
        steps: of L-BFGS, at most.
        seed: of the first tensors.
    """
    torch.manual_seed(seed)
    networks = tn.energy(state(spins, bond_dimension), terms(spins), isometric=True)
    layer = tn.Layer(networks, shared=True, backend="torch", effort="fast", dtype="float64")
    sides = isometries(layer)
    # Near the identity the state is near a product; from random tensors no method finds the way.
    free = {name: near_identity(layer.get_parameter(name), sides[name]) for name in sides}
    optimizer = torch.optim.LBFGS(
        free.values(), max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )
    energies: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        kept = {name: isometry(array, sides[name]) for name, array in free.items()}
        value = torch.func.functional_call(layer, kept, ()).squeeze()
        value.backward()
        energies.append(value.item())
        return value

    optimizer.step(closure)
    return [*energies, min(energies)]


def main() -> None:
    """Train, and print how far from the exact energy it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spins", type=int, default=16, help="a power of two")
    parser.add_argument("--bond", type=int, default=4, help="bond dimension")
    parser.add_argument("--steps", type=int, default=500, help="of L-BFGS")
    options = parser.parse_args()
    exact = exact_energy(options.spins)
    energies = train(options.spins, options.bond, options.steps)
    for step in range(0, len(energies), max(1, len(energies) // 10)):
        print(f"call {step:5}  energy {energies[step]:.6f}")
    error = (energies[-1] - exact) / abs(exact)
    print(f"energy {energies[-1]:.6f}, exact {exact:.6f}, relative error {error:.1e}")


if __name__ == "__main__":
    main()
