"""Networks that use a budget well: one for each port shape, then the best over all shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import PlanError, SpecError
from ..graph.graph import Graph
from .topology import Candidate, Sizes, worst_imbalance
from .useful_bond_sizes import useful_sizes

# Networks that use the budget as well as the best, within this share of it, count as equal.
_TOLERANCE = 0.05

# Where each value needs a plan, port shapes with more tensors than this are left to the user.
_FEW_TENSORS = 8

Measure = Callable[[Graph], float]


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget as a quantity of a network and its largest allowed value.

    Arguments:
        measure: the quantity, which grows with the network.
        most: its largest allowed value.
        text: a value of the quantity for a message, as a budget to ask for.
        is_planned: whether measuring needs a plan, which takes milliseconds to seconds.
        is_inverse: whether a larger budget asks for a smaller network, as a compression does.
    """

    measure: Measure
    most: float
    text: Callable[[float], str]
    is_planned: bool = False
    is_inverse: bool = False

    def value(self, graph: Graph) -> float:
        """The quantity; infinite if no plan of the network fits."""
        try:
            return self.measure(graph)
        except PlanError:
            return math.inf


@dataclass(frozen=True, slots=True)
class Found:
    """The network that was found for one port shape; no bond of it can be raised within the limit.

    Arguments:
        candidate: the port shape.
        sizes: sizes of the growing parameter, one for all bonds or one a bond.
        graph: the network.
        value: its value of the limited quantity.
        bonds: legs whose size the growing parameter sets.
        useful: largest useful size of each of these.
    """

    candidate: Candidate
    sizes: Sizes
    graph: Graph
    value: float
    bonds: tuple[str, ...]
    useful: dict[str, int]


def best_network(options: Sequence[Candidate], limit: Limit) -> Found:
    """The network that uses the limit best, over all port shapes.

    Only shapes whose smallest network is within the limit count, and of these the ones whose
    padding makes the dense map at most an eighth larger than the least padding does. Networks
    within 5 percent of the best count as equal, and so do all with as many parameters as the dense
    map; among them the one with the least padding wins, then the fewest legs, which take the fewest
    FLOPs and calls, then the best balanced legs.

    Raises:
        SpecError: not even the smallest network is within the limit; says how small it is.
    """
    tried = _few_tensors(options) if limit.is_planned else list(options)
    smallest = [limit.value(candidate.build()) for candidate in tried]
    if min(smallest) > limit.most and len(tried) < len(options):
        tried = list(options)
        smallest = [limit.value(candidate.build()) for candidate in tried]
    within = [
        (candidate, value)
        for candidate, value in zip(tried, smallest, strict=True)
        if value <= limit.most
    ]
    if not within:
        size, advice = ("large", "at most") if limit.is_inverse else ("small", "at least")
        msg = (
            f"fit_budget: the budget of {limit.text(limit.most)} is too {size} for "
            f"{options[0].question.name}: the smallest network with these features needs "
            f"{limit.text(min(smallest))}. Ask for {advice} that, or try another topology"
        )
        raise SpecError(msg)
    least = min(candidate.build().dense_parameter_count for candidate, _ in within)
    found = [
        _largest_network(candidate, limit, value)
        for candidate, value in within
        if 8 * candidate.build().dense_parameter_count <= 9 * least
    ]
    used = [_share(one, limit) for one in found]
    enough = max(used) - _TOLERANCE
    return min(
        (one for one, share in zip(found, used, strict=True) if share >= enough), key=_preference
    )


def _share(found: Found, limit: Limit) -> float:
    """Share of the budget that counts: more parameters than the dense map has are no gain."""
    graph = found.graph
    return 1.0 if graph.parameter_count >= graph.dense_parameter_count else found.value / limit.most


def _preference(found: Found) -> tuple[int, int, float]:
    graph = found.graph
    legs = len(graph.inputs[0].legs) + len(graph.output)
    return (graph.dense_parameter_count, legs, worst_imbalance(graph))


def _few_tensors(options: Sequence[Candidate]) -> list[Candidate]:
    counts = [len(candidate.build().tensors) for candidate in options]
    most = max(_FEW_TENSORS, min(counts))
    return [c for c, count in zip(options, counts, strict=True) if count <= most]


# -- one port shape ----------------------------------------------------------------------------


def _largest_network(candidate: Candidate, limit: Limit, smallest: float) -> Found:
    """Raise the growing parameter as far as the limit and the useful sizes allow."""
    first = candidate.build()
    bonds, useful = _bonds(candidate, first)
    if candidate.question.growth is None:
        return Found(candidate, 1, first, smallest, (), {})
    order = _positions(candidate, bonds)

    def at(size: int) -> Sizes:
        return size if order is None else tuple(min(size, useful[bond]) for bond in order)

    def value(size: int) -> float:
        graph = _built(candidate, at(size))
        if graph is None or not _is_useful(graph, bonds, useful):
            return math.inf
        return limit.value(graph)

    top = max(useful.values(), default=first.dense_parameter_count)
    if not bonds and _built(candidate, 2) == first:
        top = 1  # with so few legs the parameter has nothing to grow
    sizes = at(_largest(value, smallest, limit.most, top))
    if order is not None and not limit.is_planned:
        sizes = _raise_single(candidate, limit, sizes, [useful[bond] for bond in order])
    if isinstance(sizes, tuple) and len(set(sizes)) == 1:
        sizes = sizes[0]
    graph = candidate.build(sizes)
    return Found(candidate, sizes, graph, limit.value(graph), tuple(bonds), useful)


def _bonds(candidate: Candidate, first: Graph) -> tuple[list[str], dict[str, int]]:
    """Legs whose size the growing parameter sets, and their largest useful sizes."""
    if candidate.question.growth is None:
        return [], {}
    second = _built(candidate, 2)
    if second is None:
        return [], {}
    bonds = [leg for leg, size in first.leg_sizes if second.sizes.get(leg, size) != size]
    return bonds, useful_sizes(first, bonds)


def _positions(candidate: Candidate, bonds: Sequence[str]) -> list[str] | None:
    """The bonds in the order in which the topology takes their sizes; None: it takes one size.

    It is asked with sizes of 1 and 2 that spell the number of each position in binary.
    """
    numbers = dict.fromkeys(bonds, 0)
    positions = range(1, len(bonds) + 1)
    if len(bonds) < 2:
        return None
    for bit in range(len(bonds).bit_length()):
        try:
            graph = candidate.build(tuple(1 + (number >> bit & 1) for number in positions))
        # A topology that takes one size may fail on a tuple in any way.
        except Exception:
            return None
        for bond in bonds:
            numbers[bond] += (graph.sizes.get(bond, 0) - 1) << bit
    if sorted(numbers.values()) != list(positions):
        return None
    return sorted(bonds, key=lambda bond: numbers[bond])


def _built(candidate: Candidate, sizes: Sizes) -> Graph | None:
    """The network, or None where it is larger than any network may be."""
    try:
        return candidate.build(sizes)
    except SpecError:
        return None


def _is_useful(graph: Graph, bonds: Sequence[str], useful: dict[str, int]) -> bool:
    """Whether a bond of this size still adds maps: at least one is not beyond its useful size.

    Where the parameter adds tensors (depth), more parameters than the dense map has are no use.
    """
    if bonds:
        return any(graph.sizes[bond] <= useful[bond] for bond in bonds)
    return graph.parameter_count <= graph.dense_parameter_count


def _largest(value: Callable[[int], float], first: float, most: float, top: int) -> int:
    """The largest size from 1 to top whose value is at most ``most``; the value grows with it.

    Steps are guessed as if the value was a power of the size, and halved in turn, so that few
    values are needed whatever the value does.
    """
    low, low_value = 1, first
    high, high_value = 2, math.inf
    while high <= top:
        high_value = value(high)
        if high_value > most:
            break
        low, low_value, high = high, high_value, 2 * high
    high = min(high, top + 1)
    halve = False
    while high - low > 1:
        middle = (low + high) // 2
        if not halve and 0 < low_value < high_value < math.inf:
            slope = math.log(high_value / low_value) / math.log(high / low)
            guess = low * (most / low_value) ** (1 / slope)
            middle = min(max(int(guess), low + 1), high - 1)
        halve = not halve
        middle_value = value(middle)
        if middle_value <= most:
            low, low_value = middle, middle_value
        else:
            high, high_value = middle, middle_value
    return low


def _raise_single(
    candidate: Candidate, limit: Limit, sizes: Sizes, useful: Sequence[int]
) -> tuple[int, ...]:
    """Raise bonds by one in turn, from the first to the last, until the limit allows none."""
    assert isinstance(sizes, tuple)
    raised = sizes
    waiting = list(range(len(useful)))
    while waiting:
        # A bond that did not fit once does not fit when others are larger still.
        fitting: list[int] = []
        for k in waiting:
            tried = (*raised[:k], raised[k] + 1, *raised[k + 1 :])
            graph = _built(candidate, tried) if tried[k] <= useful[k] else None
            if graph is not None and limit.value(graph) <= limit.most:
                raised = tried
                fitting.append(k)
        waiting = fitting
    return raised
