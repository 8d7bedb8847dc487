"""Seconds from a network of hundreds of tensors to its plan, its layer and the first call.

    python -m benchmarks.planner.chains

Matrix product states over so many sites with local features, and random networks of 500 tensors
with loops. Plans are made anew each time: the store of plans is switched off.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

import tnlayer as tn
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json

SITES = (100, 200, 400, 784, 1600)
TENSORS, SEEDS = 500, (0, 1, 2)
REPEATS, BATCH = 3, 64


def matrix_product_state(sites: int) -> tn.Network:
    """One site of two features each, bonds of 8, ten results at the end."""
    net = tn.Network(f"{sites} sites")
    legs = net.input("x", [2] * sites)
    net.port("x", product=True)
    net.output(c=10)
    net.bond(**{f"b{k}": 8 for k in range(sites - 1)})
    for k in range(sites):
        left = [f"b{k - 1}"] if k else []
        right = [f"b{k}"] if k < sites - 1 else ["c"]
        net.tensor(f"A{k}", [*left, legs[k], *right])
    return net


def random_network(tensors: int, seed: int) -> tn.Network:
    """A tree that grows at its newest ends, with a bond more for every tenth tensor."""
    choose = random.Random(seed)
    bonds = [(choose.randrange(max(0, k - 3), k), k) for k in range(1, tensors)]
    for _ in range(tensors // 10):
        k = choose.randrange(tensors - 3)
        bonds.append((k, k + choose.randrange(1, 3)))
    ends: list[list[str]] = [[] for _ in range(tensors)]
    for number, pair in enumerate(bonds):
        for end in pair:
            ends[end].append(f"b{number}")
    net = tn.Network(f"random, seed {seed}")
    legs = net.input("x", [2] * 8)
    for number, leg in enumerate(legs):
        ends[number * (tensors // 8)].append(leg)
    net.output(y=4)
    ends[-1].append("y")
    net.bond(**{f"b{number}": 2 for number in range(len(bonds))})
    for number, own in enumerate(ends):
        net.tensor(f"T{number}", own)
    return net


def seconds(call: Callable[[], object]) -> float:
    """The median of some calls, each of which does all anew."""
    found: list[float] = []
    for _ in range(REPEATS):
        forget()
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return median(found)


def forget() -> None:
    """What this process remembers of plans."""
    from tnlayer.planning import batch_ranges, candidates, plan_of_order, rank

    batch_ranges._memorised.cache_clear()
    for remembered in (candidates.candidates, plan_of_order.make_plan, rank._rank):
        remembered.cache_clear()


def main() -> None:
    """Measure, print, and write ``results/chains.json``."""
    os.environ["TNLAYER_CACHE"] = "0"
    record = provenance(sys.argv[1:])
    rows: list[dict[str, float | str]] = []
    for sites in SITES:
        net = matrix_product_state(sites)
        x = torch.rand(BATCH, sites, 2)
        plan = seconds(lambda net=net: tn.plan(net, batch=BATCH))
        # From a network to y: plan, start, code and call.
        whole = seconds(lambda net=net, x=x: tn.Layer(net, backend="torch")(x))
        rows.append({"network": net.freeze().label, "plan": plan, "first y": whole})
    for seed in SEEDS:
        net = random_network(TENSORS, seed)
        plan = seconds(lambda net=net: tn.plan(net, batch=BATCH))
        whole = seconds(lambda net=net: tn.Layer(net, backend="torch")(torch.rand(BATCH, 256)))
        rows.append({"network": net.freeze().label, "plan": plan, "first y": whole})
    print(headline(record))
    cells = [[str(r["network"]), f"{r['plan']:.2f}", f"{r['first y']:.2f}"] for r in rows]
    print(format_table(["network", "plan, s", "first y, s"], cells))
    write_json(RESULTS / "chains.json", {**record, "rows": rows})


if __name__ == "__main__":
    main()
