"""Initialisation that preserves variance, for any network.

All free tensors are drawn with variance 1, and then scaled by the variance rule (variance_rule.py).
What the user gave is not touched: a value, an isometry, an init, a deviation. Everything is counted
in logarithms and float64, whatever the dtype of the arrays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from ...errors import SpecError
from ...graph.graph import Graph
from ...runtime.array_checks import PLAIN
from .entries import STORED_ONLY, cut, given_entries, is_free, unit_entries
from .log_scale_run import log_scaled
from .measure_variance import WHOLE, Part, Planned, exact_gain, measure
from .variance_rule import Solved, count_uses, find_scales

# In half precision the gain is measured again, in a few rounds, until its logarithm is so close.
_ROUNDS, _CLOSE = 3, 0.1


@torch.no_grad()
def initialise(
    networks: Sequence[Planned],
    arrays: Mapping[str, torch.Tensor],
    part: Part = WHOLE,
    *,
    is_scaled: bool = False,
) -> None:
    """Fill the stored arrays of networks with equal ports, whose results are summed, in place.

    Arguments:
        networks: with their plans.
        arrays: stored arrays by tensor name, all of one dtype; networks may share some.
        part: the features for which Var(y) = Var(x).
        is_scaled: whether calls keep values in range themselves (log_scale=True): then only the
            entries of arrays have to be.

    Raises:
        SpecError: an array's dtype cannot hold what the user gave, or no scale of the free tensors
            keeps the network's values in its range.
    """
    _check_apart(arrays)
    owners = {p.name: (one.graph, p) for one in networks for p in one.graph.parameters}
    parameters = {name: parameter for name, (_, parameter) in owners.items()}
    free = {p.name: p for p in parameters.values() if is_free(p)}
    drawn: dict[str, torch.Tensor] = {}
    for name, parameter in parameters.items():
        array = arrays[name]
        if name not in free:
            array.copy_(cut(given_entries(owners[name][0], parameter, array.dtype), parameter))
            continue
        # What is only stored is rounded once, at the end: on its grid it cannot be scaled a bit.
        entries = cut(unit_entries(parameter, array), parameter)
        rounds = array.dtype in STORED_ONLY
        drawn[name] = torch.empty_like(array, dtype=entries.dtype) if rounds else array
        if entries is not array:
            drawn[name].copy_(entries)
    if not free:
        return
    stored = {name: log_scaled(drawn.get(name, array)) for name, array in arrays.items()}
    dtype = arrays[next(iter(free))].dtype
    solved = find_scales(networks, [*free], stored, part, dtype, is_scaled=is_scaled)
    for name, log in solved.scales.items():
        scaled_entries = drawn[name].mul_(math.exp(log))
        if dtype in STORED_ONLY:
            arrays[name].copy_(scaled_entries)
    if dtype in STORED_ONLY:
        _correct_rounding(networks, solved, drawn, arrays, part)


@torch.no_grad()
def draw_cancelled(
    graphs: Sequence[Graph], networks: Sequence[Planned], arrays: Mapping[str, torch.Tensor]
) -> None:
    """Fill the arrays of isometries that no plan needs, since they cancel.

    Arguments:
        graphs: the networks as the user gave them.
        networks: as they are planned.
        arrays: stored arrays by tensor name.
    """
    planned = {p.name for one in networks for p in one.graph.parameters}
    for graph in graphs:
        for parameter in graph.parameters:
            if parameter.name not in planned:
                array = arrays[parameter.name]
                array.copy_(cut(given_entries(graph, parameter, array.dtype), parameter))


def _check_apart(arrays: Mapping[str, torch.Tensor]) -> None:
    """Refuse two tensors in one array: each would be drawn and scaled over the other.

    Raises:
        SpecError: names both.
    """
    names: dict[tuple[int, int], str] = {}
    for name, array in arrays.items():
        if type(array) not in PLAIN or not array.numel():
            continue
        storage = array.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
        other = names.setdefault((storage, int(array.storage_offset())), name)
        if other != name:
            msg = (
                f"tensors {other!r} and {name!r} are stored in one array, so they cannot start as "
                f"two: describe the network with net.tensor({name!r}, ..., share={other!r}), or "
                "tie them after reset_parameters()"
            )
            raise SpecError(msg)


def _correct_rounding(
    networks: Sequence[Planned],
    solved: Solved,
    drawn: Mapping[str, torch.Tensor],
    arrays: Mapping[str, torch.Tensor],
    part: Part,
) -> None:
    """Make up for the rounding of entries and values that are only stored in their dtype.

    A map that is a product of hundreds of tensors changes by far more than an entry's rounding. One
    tensor of each network is scaled once more and rounded anew; the others stay. Where the mean
    comes from the doubled network, which has other values, only the rounding of entries counts.

    Arguments:
        networks: with their plans.
        solved: with the gain that each network shall have.
        drawn: entries of the free tensors before they were rounded.
        arrays: those that are stored.
        part: the features for which Var(y) = Var(x).
    """
    uses = sum((count_uses(network.graph, [*drawn]) for network in networks), Counter[str]())
    for place, gain in solved.gains.items():
        once = [name for name in count_uses(networks[place].graph, [*drawn]) if uses[name] == 1]
        for _ in range(_ROUNDS if once else 0):
            stored = {name: log_scaled(array) for name, array in arrays.items()}
            one = [networks[place]]
            found = None if place in solved.sampled else exact_gain(one, stored, part)
            if found is None:
                found = measure(one, stored, part, arrays[once[0]].dtype).sampled
            if found is None or not math.isfinite(found) or abs(gain - found) < _CLOSE:
                break
            largest = max(once, key=lambda name: drawn[name].numel())
            array = drawn[largest].mul_(math.exp((gain - found) / 2))
            arrays[largest].copy_(array)
