"""The arrays that a layer stores, by name: looked up once a call, and held against the networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ..errors import SpecError
from ..graph.graph import Graph
from ..runtime.array_checks import Expected, check_array, check_storage
from ..runtime.autograd import is_traced
from ..runtime.module_arrays import (
    array_to_set,
    home_of,
    is_made,
    look_up,
    look_up_all,
    maker_of,
)
from ..support.dtypes import DTYPES

BIAS = "bias"


class StoredArrays:
    """What a layer's networks need of it: an array for each tensor, and perhaps a bias.

    It holds no array: a layer gives its own, or a copy or a replica of it does.

    Arguments:
        graphs: the networks of the layer.
        has_bias: whether a bias of the layer is added to what they give.
    """

    def __init__(self, graphs: Iterable[Graph], *, has_bias: bool = True) -> None:
        graphs = tuple(graphs)
        self.expected: dict[str, Expected] = {
            parameter.name: Expected(f"tensor {parameter.name!r}", parameter.shape)
            for graph in graphs
            for parameter in graph.parameters
        }
        self.bias = Expected(BIAS, (graphs[0].out_features,))
        self.names = (*self.expected, *((BIAS,) if has_bias else ()))
        """Of all arrays that there may be."""

    def of(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """All arrays by name, "bias" among them if there is one.

        Raises:
            SpecError: one is gone, or has another shape, dtype or device, or no memory.
        """
        return self._checked(layer, look_up_all(layer, self.names))

    def to_set(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """Arrays to fill and to hand to ``set_array``, by name, with "bias" if there is one.

        Raises:
            SpecError: as for ``of``.
        """
        return self._checked(layer, {name: array_to_set(layer, name) for name in self.names})

    def _checked(
        self, layer: nn.Module, arrays: Mapping[str, torch.Tensor | None]
    ) -> dict[str, torch.Tensor]:
        """Those that are there, if all is as it must be."""
        for name, expected in self.expected.items():
            if arrays[name] is None:
                msg = (
                    f"{layer!r}: {expected.name} is gone: expected an array of shape "
                    f"{expected.shown()} under that name; assign one, for example "
                    f"layer._parameters[{name!r}] = torch.nn.Parameter(...)"
                )
                raise SpecError(msg)
        found = {name: array for name, array in arrays.items() if array is not None}
        first = first_of(found)
        if first is not None and str(first.dtype).removeprefix("torch.") not in DTYPES:
            known = ", ".join(f"torch.{name}" for name in DTYPES)
            msg = (
                f"{layer!r}: {self._named(next(iter(found)))}: dtype {first.dtype} is not "
                f"supported; expected one of {known}: move the layer back with layer.to(...)"
            )
            raise SpecError(msg)
        for name, array in found.items():
            assert first is not None
            check_stored(layer, array, self.expected.get(name, self.bias), first)
        return found

    def _named(self, name: str) -> str:
        """An array in words."""
        return self.expected.get(name, self.bias).name

    def any_of(self, layer: nn.Module) -> torch.Tensor | None:
        """An array that tells dtype and device: one that is not made anew at each look, if there
        is."""
        stored = [name for name in self.names if not is_made(layer, name)]
        for name in stored:
            home = home_of(layer, name)
            if home is not None:
                return home[name]
        maker = maker_of(layer)
        if maker is not None:
            return maker.any_parameter()
        with torch.no_grad():
            made = (look_up(layer, name) for name in self.names if name not in stored)
            return next(made, None)


def check_stored(
    layer: nn.Module, array: torch.Tensor, expected: Expected, like: torch.Tensor
) -> None:
    """Refuse a stored array that is not as the networks have it, or unlike the layer's first."""
    fix = "assign an array of that shape, or load a state that was saved from such a layer"
    check_array(layer, array, expected, fix=fix)
    fix = "make dtypes and devices of all arrays equal, for example with layer.to(...)"
    check_array(layer, array, expected, fix=fix, dtype=like.dtype, device=like.device)
    if not is_traced():
        check_storage(layer, expected.name, array)


def first_of(arrays: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The first of some arrays, if there is one."""
    return next(iter(arrays.values()), None)


def arrays_for(graph: Graph, arrays: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of one network."""
    return {parameter.name: arrays[parameter.name] for parameter in graph.parameters}
