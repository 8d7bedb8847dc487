"""Block tensor train: a tensor train whose cores differ from block to block."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def btt(in_shape: Sequence[int], out_shape: Sequence[int], rank: int | Sequence[int]) -> Network:
    """Chain of cores, each with a matrix of its own for each index of the legs it passes by.

    ::

        core_k: turns leg i[k] into j[k], for each index of i[0..k-1] and j[k+1..]

        x: i0 i1 i2 --core_2--> i0 i1 j2 --core_1--> i0 j1 j2 --core_0--> j0 j1 j2 :y
                          +------b1------+     +------b0-----+

    The last leg's core acts on x first, so that it is block diagonal on consecutive features.
    Legs that a core passes by are hyperedges.

    Parameters: the sum over cores k of r[k-1] r[k] in[0] ... in[k] out[k] ... out[-1], with
    r = 1 at both ends.

    Source: Qiu et al., Compute better spent: replacing dense layers with structured matrices,
    arXiv:2406.06248 (up to the numbering of the legs). At rank 1 it is a Monarch matrix.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg, as many as input legs.
        rank: size of every bond, or one size a bond: one fewer than cores.

    Raises:
        SpecError: the shapes differ in length or are empty, or rank has the wrong length.

    >>> btt((8, 8), (8, 8), rank=2).parameter_count
    2048
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or len(in_shape) != len(out_shape):
        msg = (
            f"btt: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected two "
            "sequences of leg sizes, equally long and not empty: each core takes one leg of "
            "each. Factorize the features, or pad the shorter shape with 1s"
        )
        raise SpecError(msg)
    cores = len(in_shape)
    ranks = list(rank) if isinstance(rank, Sequence) else [rank] * (cores - 1)
    if len(ranks) != cores - 1:
        msg = (
            f"btt: rank has {len(ranks)} entries, expected {cores - 1}, "
            f"one for each bond between {cores} cores. Give that many, or one int for all"
        )
        raise SpecError(msg)
    net = Network("block tensor train")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    net.bond(**{f"b{k}": size for k, size in enumerate(ranks)})
    for k in reversed(range(cores)):
        blocks = [f"i{m}" for m in range(k)] + [f"j{m}" for m in range(k + 1, cores)]
        left = [f"b{k - 1}"] if k > 0 else []
        right = [f"b{k}"] if k < cores - 1 else []
        net.tensor(f"core_{k}", [*blocks, *left, f"j{k}", f"i{k}", *right])
    return net
