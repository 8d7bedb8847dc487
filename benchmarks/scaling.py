"""The paper's scaling claims against counted multiplications and measured time.

    python -m benchmarks.scaling [--quick]

Hallam et al. write that applying a layer takes a number of multiplications that scales, with the
input size N and the bond D, as N^(log2 D) for MERA, N D^2 for a tensor train and N^2 for a dense
layer. N is the number of input features here, 2^n for n legs of size 2: only then is the dense
claim N^2 true. Exponents are slopes of straight lines through log-log points; a claim is called
held if the slope is within 0.1 of it.

Two orders of contraction are counted. "layer order" applies the tensors in the order in which the
network lists them: level by level for MERA, core by core for a tensor train. "planned" is the order
with the fewest multiplications that tnlayer's planner finds (proven up to 12 tensors).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tnlayer as tn
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.timing import time_alternating
from benchmarks.common.workloads import draw_inputs
from tnlayer import topologies
from tnlayer.graph.graph import Graph
from tnlayer.planning.plan_of_order import make_plan

LEGS = tuple(range(6, 17))
TIMED_LEGS = tuple(range(6, 15))
# nn.Linear at 2^14 features would take 1 GiB.
MAX_DENSE_LEGS = 13
FIXED_LEGS = 12
TIMED_BATCH = 64
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Fit:
    """A straight line through log-log points.

    Arguments:
        quantity: what grows, and in which family at which fixed size.
        variable: in what it grows: "N" or "D".
        claim: the exponent that the paper gives.
        exponent: the slope over all points.
        standard_error: of the slope; 0 for points on a line.
        last_exponent: the slope over the larger half of the points.
        points: number of points.
    """

    quantity: str
    variable: str
    claim: float
    exponent: float
    standard_error: float
    last_exponent: float
    points: int

    @property
    def verdict(self) -> str:
        """Whether the slope agrees with the claim."""
        if abs(self.exponent - self.claim) <= TOLERANCE:
            return "holds"
        return "grows faster" if self.exponent > self.claim else "grows slower"


def fit(quantity: str, variable: str, claim: float, points: Sequence[tuple[float, float]]) -> Fit:
    """Fit an exponent to (variable, value) points.

    >>> fit("area", "side", 2.0, [(1, 3), (2, 12), (4, 48)]).verdict
    'holds'
    """
    logs = np.log2(np.array(sorted(points), dtype=np.float64))
    last = logs[len(logs) // 2 :] if len(logs) >= 4 else logs
    slope, error = _slope(logs)
    return Fit(quantity, variable, claim, slope, error, _slope(last)[0], len(logs))


def _slope(logs: np.ndarray) -> tuple[float, float]:
    """Least-squares slope and its standard error."""
    x, y = logs[:, 0] - logs[:, 0].mean(), logs[:, 1] - logs[:, 1].mean()
    slope = float(x @ y / (x @ x))
    freedom = max(1, len(logs) - 2)
    variance = float(((y - slope * x) ** 2).sum()) / freedom / float(x @ x)
    return slope, math.sqrt(variance)


# -- counting ------------------------------------------------------------------------------


def planned_multiplications(graph: Graph) -> tuple[int, bool]:
    """Multiplications of one sample in the best order found, and whether it is proven best."""
    plan = make_plan(graph, batch=1, minimize="flops")
    counts = plan.counts
    # A multiply and an add are 2 FLOPs; a product without a sum is 1 elementwise operation.
    return counts.flops.at(1) // 2 + counts.elementwise.at(1), plan.proven_optimal


def layer_order_multiplications(graph: Graph) -> int:
    """Multiplications of one sample if the tensors act on x one by one, in the listed order.

    Arguments:
        graph: a network with one input and no fixed leg.
    """
    state = set(graph.inputs[0].legs)
    waiting = [set(tensor.legs) for tensor in graph.tensors]
    total = 0
    while waiting:
        legs = waiting.pop(0)
        loop = state | legs
        total += math.prod(graph.sizes[leg] for leg in loop)
        needed = set(graph.output).union(*waiting)
        state = loop & needed
    return total


def mera(legs: int, bond: int) -> Graph:
    """MERA over legs of size 2."""
    return topologies.mera(legs, 2, bond).freeze()


def tensor_train(legs: int, bond: int) -> Graph:
    """Tensor train over legs of size 2, both ways."""
    return topologies.tensor_train((2,) * legs, (2,) * legs, bond).freeze()


def count(family: str, legs: int, bond: int, build: Callable[[int, int], Graph]) -> dict[str, Any]:
    """Both counts of one network, per sample."""
    graph = build(legs, bond)
    planned, proven = planned_multiplications(graph)
    return {
        "family": family,
        "legs": legs,
        "features": graph.in_features,
        "bond": bond,
        "planned": planned,
        "proven_optimal": proven,
        "layer_order": layer_order_multiplications(graph),
    }


def count_all(legs: Sequence[int], quick: bool) -> tuple[list[dict[str, Any]], list[Fit]]:
    """Counts over N at fixed D and over D at fixed N, and the exponents that they give."""
    bonds_in_n = {"MERA": (2, 3, 4), "TT": (2, 4) if quick else (2, 4, 8, 16)}
    bonds_in_d = (2, 3, 4, 6) if quick else (2, 3, 4, 6, 8, 12, 16)
    fixed = 8 if quick else FIXED_LEGS
    builders = {"MERA": mera, "TT": tensor_train}
    points: list[dict[str, Any]] = []
    fits: list[Fit] = []
    for family, build in builders.items():
        for bond in bonds_in_n[family]:
            found = [count(family, n, bond, build) for n in legs]
            points += found
            claim = math.log2(bond) if family == "MERA" else 1.0
            fits += _fits(f"{family}-{bond}", "N", claim, found, "features")
        found = [count(family, fixed, bond, build) for bond in bonds_in_d]
        points += found
        claim = float(fixed) if family == "MERA" else 2.0
        fits += _fits(f"{family}, N={2**fixed}", "D", claim, found, "bond")
    dense = [(float(2**n), float(4**n)) for n in legs]
    fits.append(fit("dense", "N", 2.0, dense))
    return points, fits


def _fits(
    title: str, variable: str, claim: float, points: Sequence[dict[str, Any]], key: str
) -> list[Fit]:
    return [
        fit(f"{title}, {words}", variable, claim, [(point[key], point[order]) for point in points])
        for order, words in (("planned", "planned"), ("layer_order", "layer order"))
    ]


# -- timing --------------------------------------------------------------------------------


def time_layers(legs: Sequence[int], budget: float) -> tuple[list[dict[str, Any]], list[Fit]]:
    """Forward time per sample over N, dense and networks side by side at each N."""
    cases: dict[str, tuple[float, Callable[[int], Graph]]] = {
        "MERA-2": (1.0, lambda n: mera(n, 2)),
        "MERA-3": (math.log2(3), lambda n: mera(n, 3)),
        "TT-4": (1.0, lambda n: tensor_train(n, 4)),
    }
    points: list[dict[str, Any]] = []
    for n in legs:
        layers: dict[str, torch.nn.Module] = {
            name: tn.Layer(build(n), backend="torch", batch=TIMED_BATCH, objective="infer")
            for name, (_, build) in cases.items()
        }
        if n <= MAX_DENSE_LEGS:
            layers["dense"] = torch.nn.Linear(2**n, 2**n, bias=False)
        x, _ = draw_inputs(mera(n, 2), TIMED_BATCH, seed=0)
        with torch.no_grad():
            calls = {name: partial(layer, x) for name, layer in layers.items()}
            timings = time_alternating(calls, budget=budget)
        for name, timing in timings.items():
            points.append({"layer": name, "legs": n, "features": 2**n, **asdict(timing)})
    claims = {**{name: claim for name, (claim, _) in cases.items()}, "dense": 2.0}
    fits = []
    for name, claim in claims.items():
        found = [(p["features"], p["median"]) for p in points if p["layer"] == name]
        if len(found) >= 2:
            fits.append(fit(f"{name}, seconds at batch {TIMED_BATCH}", "N", claim, found))
    return points, fits


# -- tables --------------------------------------------------------------------------------

NOTES = """\
N = number of input features (2 to the power of legs), D = bond; per sample, forward only.
MERA: in layer order the disentanglers raise all legs but the two at the ends, so the state grows to
about D^legs = N^(log2 D) entries: this is the paper's exponent in N (in D: legs - 2). It is not
what the layer has to cost: a planned order finishes one branch of the tree after the other, so that
only few legs are ever raised at once.
MERA and TT also apply about one tensor a leg, a factor log2 N that no power law has; it adds 0.1
to 0.2 to each exponent in this range. In D a small D is dominated by the terms below the leading
power. Time: small layers are bound by the overhead of calls, so their exponents come out low and
"holds" proves little; "larger half" is closer to the claim's meaning."""


def fits_table(fits: Sequence[Fit]) -> str:
    """Claimed against fitted exponents."""
    rows = [
        [
            item.quantity,
            f"{item.variable}^{item.claim:.2f}",
            f"{item.variable}^{item.exponent:.2f} +- {item.standard_error:.2f}",
            f"{item.variable}^{item.last_exponent:.2f}",
            item.verdict,
        ]
        for item in fits
    ]
    return format_table(["what", "claim", "fit", "larger half", "the claim"], rows)


def counts_table(points: Sequence[dict[str, Any]]) -> str:
    """Counted multiplications per sample, one row a network."""
    rows = [
        [
            f"{point['family']}-{point['bond']}",
            str(point["features"]),
            f"{point['planned']:,}" + ("" if point["proven_optimal"] else " *"),
            f"{point['layer_order']:,}",
            f"{point['features'] ** 2:,}",
        ]
        for point in points
    ]
    header = ["network", "N", "planned", "layer order", "dense"]
    return format_table(header, rows) + "\n* best found, not proven"


def times_table(points: Sequence[dict[str, Any]]) -> str:
    """Median microseconds per sample, one row a size."""
    names = list(dict.fromkeys(point["layer"] for point in points))
    found = {(p["features"], p["layer"]): f"{p['median'] / TIMED_BATCH * 1e6:.3g}" for p in points}
    sizes = sorted({point["features"] for point in points})
    rows = [[str(size), *(found.get((size, name), "-") for name in names)] for size in sizes]
    return format_table(["N", *names], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, time, fit, print and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="smaller networks, fewer samples")
    parser.add_argument("--output", type=Path, help="the JSON file")
    options = parser.parse_args(arguments)
    given = list(sys.argv[1:] if arguments is None else arguments)
    legs, timed_legs = (LEGS[:5], TIMED_LEGS[:5]) if options.quick else (LEGS, TIMED_LEGS)
    counts, count_fits = count_all(legs, options.quick)
    times, time_fits = time_layers(timed_legs, 0.05 if options.quick else 0.5)
    record = {
        "schema": 1,
        **provenance(given),
        "counts": counts,
        "times": times,
        "fits": [{**asdict(item), "verdict": item.verdict} for item in (*count_fits, *time_fits)],
    }
    output = options.output or RESULTS / f"scaling{'-quick' if options.quick else ''}.json"
    write_json(output, record)
    print(
        headline(record),
        "multiplications per sample\n" + counts_table(counts),
        f"microseconds per sample, forward at batch {TIMED_BATCH}\n" + times_table(times),
        "exponents, claimed and found\n" + fits_table([*count_fits, *time_fits]),
        NOTES,
        f"written: {output}",
        sep="\n\n",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
