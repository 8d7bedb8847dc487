"""Networks by which the time model of compiled kernels is fitted and judged."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import tnlayer as tn

T = tn.topologies
_BITS = (2,) * 12

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "mera-2": lambda: T.mera(12, 2, 2),
    "mera-3": lambda: T.mera(12, 2, 3),
    "tree-2": lambda: T.tree(12, 2, 2),
    "tree-3": lambda: T.tree(8, 2, 3),
    "butterfly": lambda: T.butterfly(4096),
    "tt-3": lambda: T.tensor_train(_BITS, _BITS, rank=3),
    "tt-7": lambda: T.tensor_train(_BITS, _BITS, rank=7),
    "tt8-4": lambda: T.tensor_train((8,) * 4, (8,) * 4, rank=4),
    "tt16-8": lambda: T.tensor_train((16,) * 3, (16,) * 3, rank=8),
    "tt16-32": lambda: T.tensor_train((16,) * 3, (16,) * 3, rank=32),
    "odd": lambda: T.tensor_train((3, 5, 7, 3), (3, 5, 7, 3), rank=3),
    "btt": lambda: T.btt((64, 64), (64, 64), 2),
    "low_rank": lambda: T.low_rank(512, 512, rank=8),
    "low_rank64": lambda: T.low_rank(1024, 1024, rank=64),
    "monarch": lambda: T.monarch((32, 32), (32, 32)),
    "tucker": lambda: T.tucker((16,) * 3, (16,) * 3, rank=8),
    "cp": lambda: T.cp((16,) * 3, (16,) * 3, rank=32),
    "ring": lambda: T.tensor_ring((4,) * 5, (4,) * 5, rank=3),
    "brickwall": lambda: T.brickwall(10, dim=2, depth=4),
    **{f"chain{seed}": (lambda seed=seed: random_chain(seed)) for seed in range(8)},
}


def random_chain(seed: int) -> tn.Network:
    """Tensors one after another on neighbouring legs of a state of at most 2^14 entries."""
    source = random.Random(seed)
    net = tn.Network(f"chain{seed}")
    dims = [source.choice((2, 2, 3, 4, 8, 16)) for _ in range(source.randint(2, 6))]
    while math.prod(dims) > 4096:
        dims.pop()
    legs = list(net.input(dims))
    sizes = dict(zip(legs, dims, strict=True))
    for number in range(source.randint(3, 9)):
        count = source.randint(1, min(3, len(legs)))
        first = source.randint(0, len(legs) - count)
        group = legs[first : first + count]
        if math.prod(sizes[leg] for leg in group) > 128:
            group = group[:1]
        rest = math.prod(sizes[leg] for leg in legs if leg not in group)
        out = [source.choice((2, 3, 4, 8)) for _ in range(source.randint(1, 2))]
        if rest * math.prod(out) > 2**14:
            out = [2]
        made = net.tensor(f"t{number}", group, out=tuple(out))
        sizes |= dict(zip(made, out, strict=True))
        legs[first : first + len(group)] = made
    net.output(tuple(legs))
    return net
