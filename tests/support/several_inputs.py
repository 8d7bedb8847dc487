"""A network with several inputs."""

from __future__ import annotations

import tnlayer as tn


def two_batched_and_one_whole() -> tn.Network:
    """Two inputs that have the batch, and one that has none."""
    net = tn.Network("several inputs")
    net.input("a", {"i": 4})
    net.input("b", {"j": 3})
    net.input("c", {"k": 2})
    net.port("c", batched=False)
    net.output(o=5)
    net.tensor("W", "i j k o")
    return net
