"""Smaller bonds of a tree: singular values across each bond, all else orthonormal.

With the network orthonormal towards a bond (its canonical form), what is left out there is exactly
the error; several bonds add their squares. Source: Oseledets, Tensor-train decomposition, SIAM J.
Sci. Comput. 33 (2011), algorithm 2; for trees Grasedyck, Hierarchical singular value decomposition
of tensors (2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .closed_network import ClosedNetwork
from .labelled import Labelled, product


@dataclass(frozen=True, slots=True)
class TreeBond:
    """A bond of a tree, seen from its root.

    Arguments:
        label: the leg.
        above, below: numbers of the factors that it joins.
    """

    label: str
    above: int
    below: int


def tree_bonds(net: ClosedNetwork, free: frozenset[str]) -> tuple[TreeBond, ...] | None:
    """The bonds of a network that is a tree, from the root down; None where it is none.

    Each inner leg joins two tensors, each open leg is on one, no two tensors have two legs in
    common, and each tensor is free and stands once.

    Arguments:
        net: the network.
        free: names of the arrays that may change.
    """
    names = [use.name for use in net.uses]
    if not names or len(set(names)) != len(names) or set(names) - free or net.ones:
        return None
    holders: dict[str, list[int]] = {}
    for number, use in enumerate(net.uses):
        for label in use.labels:
            holders.setdefault(label, []).append(number)
    opened = set(net.open)
    if any(len(held) != (1 if label in opened else 2) for label, held in holders.items()):
        return None
    bonds: list[TreeBond] = []
    seen = {0}
    waiting = [0]
    while waiting:
        above = waiting.pop()
        for label in net.uses[above].labels:
            if label in opened or any(bond.label == label for bond in bonds):
                continue
            below = next(k for k in holders[label] if k != above)
            if below in seen:
                return None
            seen.add(below)
            bonds.append(TreeBond(label, above, below))
            waiting.append(below)
    return tuple(bonds) if len(seen) == len(names) else None


class CanonicalTree:
    """The factors of a tree, orthonormal towards its root.

    Arguments:
        net: the network.
        bonds: from :func:`tree_bonds`.
        stored: its arrays, in double precision.
    """

    def __init__(
        self,
        net: ClosedNetwork,
        bonds: tuple[TreeBond, ...],
        stored: Mapping[str, torch.Tensor],
    ) -> None:
        self.net, self.bonds, self.stored = net, bonds, stored
        self.factors = [use.factor(stored[use.name]) for use in net.uses]
        for bond in reversed(bonds):
            self._push(bond, bond.below, bond.above)

    @property
    def norm(self) -> float:
        """Of the whole network."""
        return float(torch.linalg.vector_norm(self.factors[0].array))

    def _push(self, bond: TreeBond, source: int, target: int) -> None:
        """Make one end orthonormal, and give the rest of it to the other end."""
        one = self.factors[source]
        rest = tuple(label for label in one.labels if label != bond.label)
        array = one.ordered((*rest, bond.label))
        q, r = torch.linalg.qr(array.reshape(-1, array.shape[-1]))
        self.factors[source] = Labelled(q.reshape(*array.shape[:-1], -1), (*rest, bond.label))
        self._absorb(target, bond.label, r)

    def _absorb(self, number: int, label: str, matrix: torch.Tensor) -> None:
        """Multiply a factor with a matrix (new, old) at one label."""
        one = self.factors[number]
        kept = [f"{label}'" if k == label else k for k in one.labels]
        made = product(Labelled(matrix, (f"{label}'", label)), one, kept)
        self.factors[number] = Labelled(made.array, one.labels)

    def spectra(self) -> dict[str, torch.Tensor]:
        """The singular values across each bond, descending."""
        found: dict[str, torch.Tensor] = {}
        self._visit(lambda bond, values: found.setdefault(bond.label, values).numel())
        return found

    def truncate(self, kept: Mapping[str, int]) -> float:
        """Cut each bond to so many singular values; the norm of what was left out.

        Arguments:
            kept: by bond; at least 1.
        """
        lost = 0.0

        def choose(bond: TreeBond, values: torch.Tensor) -> int:
            nonlocal lost
            count = min(kept[bond.label], values.numel())
            lost += float(values[count:].square().sum())
            return count

        self._visit(choose)
        return math.sqrt(lost)

    def truncate_to(self, error: float) -> float:
        """Cut all bonds, so that the norm of what is left out is at most ``error``."""
        left = error**2
        waiting = len(self.bonds)

        def choose(bond: TreeBond, values: torch.Tensor) -> int:
            nonlocal left, waiting
            # What earlier bonds did not need is there for later ones.
            room = left / max(1, waiting)
            tails = values.square().flip(0).cumsum(0)
            cut = int((tails <= room).sum())
            count = max(1, values.numel() - cut)
            left -= float(values[count:].square().sum())
            waiting -= 1
            return count

        self._visit(choose)
        return math.sqrt(max(0.0, error**2 - left))

    def _visit(self, choose: Callable[[TreeBond, torch.Tensor], int]) -> None:
        """Go through all bonds with the centre at each, and keep so many values as are chosen."""
        below: dict[int, list[TreeBond]] = {}
        for bond in self.bonds:
            below.setdefault(bond.above, []).append(bond)
        # Down to a bond and back up, without recursion: trees may be chains of hundreds.
        todo: list[tuple[TreeBond, bool]] = [(b, False) for b in reversed(below.get(0, []))]
        while todo:
            bond, comes_back = todo.pop()
            if comes_back:
                self._push(bond, bond.below, bond.above)
                continue
            one = self.factors[bond.above]
            rest = tuple(label for label in one.labels if label != bond.label)
            array = one.ordered((*rest, bond.label))
            u, values, v = torch.linalg.svd(array.reshape(-1, array.shape[-1]), full_matrices=False)
            count = max(1, min(choose(bond, values), values.numel()))
            left = u[:, :count].reshape(*array.shape[:-1], count)
            self.factors[bond.above] = Labelled(left, (*rest, bond.label))
            self._absorb(bond.below, bond.label, values[:count, None] * v[:count])
            todo.append((bond, True))
            todo += [(b, False) for b in reversed(below.get(bond.below, []))]

    def sizes(self) -> dict[str, int]:
        """Size of each bond now."""
        return {
            bond.label: self.factors[bond.above].array.shape[
                self.factors[bond.above].labels.index(bond.label)
            ]
            for bond in self.bonds
        }

    def arrays(self, net: ClosedNetwork) -> dict[str, torch.Tensor]:
        """The stored arrays for the same network with the bonds' sizes.

        Arguments:
            net: closed anew; bonds of size 1 have no label in it.
        """
        found: dict[str, torch.Tensor] = {}
        for use, factor in zip(net.uses, self.factors, strict=True):
            ones = [label for label in factor.labels if label not in use.labels]
            array = factor.ordered((*use.labels, *ones))
            for _ in ones:
                array = array.squeeze(-1)
            found[use.name] = use.lifted(Labelled(array, use.labels))
        return found
