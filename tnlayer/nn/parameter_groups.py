"""Groups of a layer's parameters for torch's optimisers, one a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import as_number, listed, shown, suggest
from ..runtime.module_arrays import Maker


def parameter_groups(
    module: nn.Module, rates: float | Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """One group a parameter, with its name, its rate and whether it is a matrix.

    Arguments:
        module: a layer.
        rates: the learning rate of all tensors, or of some by their names; None, and for those that
            are not named: the optimiser's.

    Raises:
        SpecError: a rate for a tensor that there is not, or that is no number.
    """
    found = {_tensor_name(name, module): array for name, array in module.named_parameters()}
    if isinstance(rates, Mapping):
        unknown = next((name for name in rates if name not in found), None)
        if unknown is not None:
            msg = (
                f"parameter_groups: no parameter is called {shown(unknown)}"
                f"{suggest(str(unknown), found)}; expected some of {listed([*found])}"
            )
            raise SpecError(msg)
        by_name = dict(rates)
    else:
        by_name = {} if rates is None else dict.fromkeys(found, rates)
    for name, rate in by_name.items():
        number = as_number(rate)
        if number is None or not number >= 0:
            msg = (
                f"parameter_groups: the rate of {name!r} must be a number from 0, got {shown(rate)}"
            )
            raise SpecError(msg)
    groups: list[dict[str, Any]] = []
    for name, array in found.items():
        group: dict[str, Any] = {
            "params": [array],
            "name": name,
            "is_matrix": array.dim() == 2 and min(array.shape) > 1,
        }
        if name in by_name:
            group["lr"] = by_name[name]
        groups.append(group)
    return groups


def _tensor_name(name: str, module: nn.Module) -> str:
    """The tensor that a parameter belongs to, where an isometry is made from it."""
    for prefix, child in module.named_children():
        free = f"{prefix}.free."
        if isinstance(child, Maker) and name.startswith(free):
            return name.removeprefix(free)
    return name
