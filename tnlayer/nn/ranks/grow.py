"""Larger bonds, with the same outputs: at one end of a bond the new indices are zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...errors import SpecError
from ...fitting.bonds import Bond, bonds_of, with_sizes
from ...graph.argument_checks import check_whole, shown, suggest
from ...graph.graph import Graph


@dataclass(frozen=True, slots=True)
class Grown:
    """Networks with larger bonds.

    Arguments:
        graphs: the networks.
        zeros: axes of stored arrays whose new indices are zero, as (tensor, axis).
    """

    graphs: tuple[Graph, ...]
    zeros: frozenset[tuple[str, int]]


def grown(graphs: Sequence[Graph], bond: int | Mapping[str, int]) -> Grown:
    """The networks with larger bonds, and which end of each is zero.

    Arguments:
        graphs: networks of one layer.
        bond: the size that each inner leg has at least, or sizes by leg.

    Raises:
        SpecError: a leg is unknown, or cannot grow, or would shrink.
    """
    known = [bonds_of(graph) for graph in graphs]
    wanted = _wanted(graphs, known, bond)
    made: list[Graph] = []
    zeros: set[tuple[str, int]] = set()
    for graph, bonds in zip(graphs, known, strict=True):
        sizes: dict[str, int] = {}
        for one in dict.fromkeys(bonds.values()):
            size = max(wanted.get(leg, 0) for leg in one.legs)
            if size > one.size:
                sizes |= dict.fromkeys(one.legs, size)
        made.append(with_sizes(graph, sizes))
        for leg in sizes:
            zeros |= _zero_end(graph, leg, zeros)
    for graph, bonds in zip(graphs, known, strict=True):
        _check_trainable(graph, bonds, wanted, zeros)
    return Grown(tuple(made), frozenset(zeros))


def _wanted(
    graphs: Sequence[Graph], known: Sequence[Mapping[str, Bond]], bond: object
) -> dict[str, int]:
    free = {leg: one.size for bonds in known for leg, one in bonds.items()}
    if not isinstance(bond, Mapping):
        size = check_whole(bond, "grow: bond")
        if size < 1:
            msg = f"grow: bond={shown(size)}, expected at least 1"
            raise SpecError(msg)
        least = min(free.values(), default=size)
        if least > size:
            most = max(free.values())
            sizes = f"size {least}" if least == most else f"sizes from {least} to {most}"
            msg = (
                f"grow: bond={size}, and all bonds have {sizes} already; ask for more, or "
                "layer.truncate makes bonds smaller"
            )
            raise SpecError(msg)
        return {leg: max(size, old) for leg, old in free.items()}
    wanted: dict[str, int] = {}
    for leg, size in bond.items():
        if leg not in free:
            there = any(leg in graph.sizes for graph in graphs)
            why = "it is a leg of a port, or of a tensor that is frozen" if there else "unknown"
            hint = suggest(leg, free) if isinstance(leg, str) else ""
            msg = f"grow: leg {shown(leg)} cannot grow: {why}{hint}"
            raise SpecError(msg)
        wanted[leg] = check_whole(size, f"grow: the size of leg {leg!r}")
        if wanted[leg] < free[leg]:
            msg = (
                f"grow: leg {leg!r} has size {free[leg]}, which is more than {wanted[leg]}; "
                "layer.truncate makes bonds smaller"
            )
            raise SpecError(msg)
    return wanted


def _ends(graph: Graph, leg: str) -> list[tuple[str, int]]:
    return [
        (tensor.share or tensor.name, axis)
        for tensor in graph.tensors
        for axis, own in enumerate(tensor.legs)
        if own == leg
    ]


def _zero_end(graph: Graph, leg: str, zeros: set[tuple[str, int]]) -> set[tuple[str, int]]:
    ends = _ends(graph, leg)
    if not ends or zeros & set(ends):
        return set()
    # The last end: shared tensors in a row then have it at the same axis each.
    return {ends[-1]}


def _check_trainable(
    graph: Graph,
    bonds: Mapping[str, Bond],
    wanted: Mapping[str, int],
    zeros: set[tuple[str, int]],
) -> None:
    """Refuse a bond that would be zero at all its ends: no gradient would ever reach it."""
    for leg, one in bonds.items():
        ends = _ends(graph, leg)
        grows = max(wanted.get(name, 0) for name in one.legs) > one.size
        if grows and len(ends) > 1 and all(end in zeros for end in ends):
            msg = (
                f"grow: leg {leg!r} joins {', '.join(name for name, _ in ends)}, which share their "
                "entries so that new ones would be zero at both ends and never train; grow another "
                "bond, or describe the network without that sharing"
            )
            raise SpecError(msg)


def widened(
    array: torch.Tensor,
    shape: Sequence[int],
    zero_axes: Sequence[int],
    random: torch.Generator | None,
) -> torch.Tensor:
    """An array with new entries behind the old ones.

    Arguments:
        array: the old entries.
        shape: of the new array.
        zero_axes: axes whose new indices are zero.
        random: draws the other entries, with the old ones' root mean square; None: zeros.
    """
    new = array.new_zeros(tuple(shape))
    if random is not None:
        work = torch.complex128 if array.is_complex() else torch.float64
        drawn = torch.randn(tuple(shape), dtype=work, generator=random)
        size = float(array.abs().to(torch.float64).square().mean().sqrt()) if array.numel() else 0.0
        new.copy_(drawn * (size or 1.0))
        for axis in zero_axes:
            new.narrow(axis, array.shape[axis], shape[axis] - array.shape[axis]).zero_()
    new[tuple(slice(0, size) for size in array.shape)] = array
    return new
