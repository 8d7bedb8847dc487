"""Closed forms: factors are split off the dense tensor one by one, each by singular values.

A factor v can be split off if all its bonds lead to one other factor u, and u has all open legs
that v shares with any other (*blocks*): then the dense tensor is, for each index of the blocks, a
matrix from v's own open legs to all others, of the rank of the bonds; v takes its left singular
vectors, and u what is left. This one rule gives

- the SVD for two factors, also across blocks: low rank, Kronecker, Monarch, BTT;
- TT-SVD and the hierarchical SVD for trees (Oseledets 2011; Grasedyck 2010), with an error of at
  most sqrt(d - 1) times the least for d factors; HOSVD with successive truncation for Tucker
  (Vannieuwenhoven, Vandebril and Meerbergen 2012);
- the peeling of butterflies, and of longer Monarch and BTT chains (Zheng, Riccietti and Gribonval,
  Efficient identification of butterfly sparse matrix factorizations, 2023).

Only what factors are joined by what is looked at, never a name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from .labelled import Labelled, Labels
from .truncated_svd import left_vectors


@dataclass(frozen=True, slots=True)
class Split:
    """One factor that is split off.

    Arguments:
        factor: its number.
        neighbour: the factor that has its bonds and blocks.
        blocks: open labels that others have, too.
        own: open labels that only it has.
        bonds: labels that join it to the neighbour.
    """

    factor: int
    neighbour: int
    blocks: Labels
    own: Labels
    bonds: Labels


@dataclass(frozen=True, slots=True)
class Peeling:
    """The order in which a network comes apart.

    Arguments:
        splits: one a factor but the last.
        last: the factor that is left.
    """

    splits: tuple[Split, ...]
    last: int

    @property
    def name(self) -> str:
        """What the literature calls it."""
        count = len(self.splits) + 1
        if count == 1:
            return "as it is"
        if any(split.blocks for split in self.splits):
            return "block SVD" if count == 2 else "block SVDs, peeled"
        if count == 2:
            return "SVD"
        joined = Counter(end for s in self.splits for end in (s.factor, s.neighbour) if s.bonds)
        if any(not split.bonds for split in self.splits):
            return "rearranged SVDs"
        if max(joined.values()) <= 2:
            return "TT-SVD"
        return "HOSVD" if max(joined.values()) == count - 1 else "hierarchical SVD"

    @property
    def is_optimal(self) -> bool:
        """Whether it is the best approximation, not only near it."""
        return len(self.splits) <= 1


def find_peeling(
    factors: Sequence[Labels], open_labels: Labels, sizes: Mapping[str, int]
) -> Peeling | None:
    """How factors can be split off until one is left; None where some are joined otherwise.

    Arguments:
        factors: labels of each factor.
        open_labels: labels of the dense tensor; each is on a factor.
        sizes: of the labels.
    """
    left = dict(enumerate(map(frozenset, factors)))
    is_open = set(open_labels)
    splits: list[Split] = []
    while len(left) > 1:
        found = [s for v in left if (s := _split(v, left, factors, is_open)) is not None]
        if not found:
            return None
        # What shrinks the rest most comes first.
        best = max(found, key=lambda s: (_size(s.own, sizes) / _size(s.bonds, sizes), -s.factor))
        splits.append(best)
        del left[best.factor]
        is_open -= set(best.own)
        is_open |= set(best.bonds)
    return Peeling(tuple(splits), next(iter(left))) if left else None


def _split(
    v: int, left: Mapping[int, frozenset[str]], factors: Sequence[Labels], is_open: set[str]
) -> Split | None:
    ends = {label: [u for u in left if u != v and label in left[u]] for label in factors[v]}
    bonds = tuple(label for label in factors[v] if label not in is_open)
    if any(len(ends[label]) != 1 for label in bonds):
        return None
    blocks = tuple(label for label in factors[v] if label in is_open and ends[label])
    needed = frozenset((*bonds, *blocks))
    neighbours = [u for u in left if u != v and needed <= left[u]]
    if not neighbours:
        return None
    own = tuple(label for label in factors[v] if label in is_open and not ends[label])
    return Split(v, neighbours[0], blocks, own, bonds)


def _size(labels: Labels, sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[label] for label in labels)


def peel(
    peeling: Peeling,
    factors: Sequence[Labels],
    dense: Labelled,
    sizes: Mapping[str, int],
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[Labelled], list[float]]:
    """The factors of a dense tensor, and for each the weight (squared norm) that its split cut.

    Arguments:
        peeling: from :func:`find_peeling`.
        factors: labels of each factor, in whose order the arrays are given.
        dense: over the open labels.
        sizes: of the labels.
        advance: is called after each split.
    """
    made: list[Labelled | None] = [None] * len(factors)
    cut = [0.0] * len(factors)
    rest = dense
    for split in peeling.splits:
        mine = (*split.blocks, *split.own)
        others = tuple(label for label in rest.labels if label not in mine)
        rows, columns = _size(split.own, sizes), _size(others, sizes)
        lead = [sizes[label] for label in split.blocks]
        matrix = rest.ordered((*split.blocks, *split.own, *others)).reshape(*lead, rows, columns)
        rank = _size(split.bonds, sizes)
        vectors = left_vectors(matrix, rank)
        kept = vectors.mH @ matrix
        cut[split.factor] = max(0.0, _weight(matrix) - _weight(kept))
        # A bond that is larger than the rank has zeros, and directions that training can use.
        vectors, kept = _widened(vectors, kept, rank)
        bond = [sizes[label] for label in split.bonds]
        shape = [*lead, *(sizes[label] for label in split.own), *bond]
        made[split.factor] = Labelled(vectors.reshape(shape), (*mine, *split.bonds))
        shape = [*lead, *bond, *(sizes[label] for label in others)]
        rest = Labelled(kept.reshape(shape), (*split.blocks, *split.bonds, *others))
        advance()
    made[peeling.last] = rest
    found = [one for one in made if one is not None]
    return [
        Labelled(one.ordered(labels), labels) for one, labels in zip(found, factors, strict=True)
    ], cut


def _weight(array: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(array)) ** 2


def _widened(
    vectors: torch.Tensor, kept: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with ``rank`` bond indices: orthonormal vectors as far as there are, then zeros; what
    they multiply is zero."""
    rows, have = vectors.shape[-2:]
    if have == rank:
        return vectors, kept
    more = min(rank, rows) - have
    if more:
        random = torch.Generator().manual_seed(have)
        shape = (*vectors.shape[:-1], more)
        drawn = torch.randn(shape, dtype=vectors.dtype, generator=random)
        drawn = drawn - vectors @ (vectors.mH @ drawn)
        vectors = torch.cat((vectors, torch.linalg.qr(drawn).Q), -1)
    pad = torch.nn.functional.pad
    vectors = pad(vectors, (0, rank - vectors.shape[-1]))
    return vectors, pad(kept, (0, 0, 0, rank - have))
