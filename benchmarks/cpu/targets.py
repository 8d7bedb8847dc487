"""What compiled kernels are to reach, and which cells do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.layers import MODES

FORWARD, BOTH = MODES
CHAIN, DENSE, BOUND = "x best chain", "x dense", "share of the bound"
# Above the batch size of the table's ratios as they stand; at 50 this much of them.
FULL_BATCH, SMALLER_BATCH, SMALLER = 256, 50, 0.8
SINGLE, SINGLE_OF = 4.0, {"mera-2": 8.0, "tree-2": 8.0}
SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Ratios:
    """Least ratios at batch 256: times the best chain and times dense."""

    forward: float
    both: float
    both_dense: float


RATIOS = {
    "mera-2": Ratios(8, 7, 30),
    "tree-2": Ratios(8.5, 6, 40),
    "butterfly": Ratios(8.5, 6, 40),
    "mera-3": Ratios(5, 3, 6),
    "tt-3": Ratios(4.5, 3.5, 16),
    "tt-7": Ratios(3, 2.3, 5.5),
    "btt": Ratios(1.5, 1.5, 5),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target of a cell.

    Arguments:
        what: the figure that it is about.
        target: the least value.
        reached: the measured one; None where it could not be measured.
        met: whether it is reached.
    """

    what: str
    target: float
    reached: float | None
    met: bool


def targets_of(case: str, batch: int, mode: str) -> dict[str, float]:
    """The targets of a cell by figure; none for a case or batch size that has none."""
    ratios = RATIOS.get(case)
    if ratios is None:
        return {}
    if batch == 1:
        return {CHAIN: SINGLE_OF.get(case, SINGLE)} if mode == FORWARD else {}
    scale = {FULL_BATCH: 1.0, SMALLER_BATCH: SMALLER}.get(batch)
    if scale is None:
        return {}
    found = {CHAIN: ratios.forward * scale}
    if mode == BOTH:
        found = {CHAIN: ratios.both * scale, DENSE: ratios.both_dense * scale}
    return found | ({BOUND: SHARE} if batch == FULL_BATCH else {})


def judge(
    case: str, batch: int, mode: str, reached: Mapping[str, float | None]
) -> tuple[Verdict, ...]:
    """Each target of a cell against what was measured; what is missing is missed."""
    verdicts: list[Verdict] = []
    for what, target in targets_of(case, batch, mode).items():
        value = reached.get(what)
        verdicts.append(Verdict(what, target, value, value is not None and value >= target))
    return tuple(verdicts)
