"""The arrays of a layer: registered under the tensors' names, looked up, set, loaded and moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from ..errors import SpecError
from ..graph.cancel_isometries import can_be_kept
from ..graph.graph import Graph, Parameter, count_parameters
from ..runtime.available_memory import check_bytes
from ..runtime.module_arrays import (
    MAKER,
    Maker,
    add_parameter,
    maker_of,
    would_hide,
)
from .initialisation.entries import check_initialisers
from .kept_isometries import KeptIsometries
from .parameter_groups import parameter_groups
from .ranks.ranked import Ranked
from .shared_tensors import stored_parameters
from .stored_arrays import BIAS, StoredArrays, check_stored

# Parameters of fewer bytes are made without a look at what the device has left.
_SMALL = 2**26


class HeldArrays(Ranked):
    """Holds the arrays of networks under the names of their tensors."""

    # Set by whoever makes a layer, before arrays are registered: the networks, what they need, and
    # dtype and device of a network without tensors, which has no array to ask.
    _graphs: tuple[Graph, ...]
    _stored: StoredArrays
    _empty: tuple[torch.dtype, torch.device]

    # -- what it is ------------------------------------------------------------------------

    @property
    def in_features(self) -> int:
        """Features of the (first) input."""
        return self._graphs[0].in_features

    @property
    def out_features(self) -> int:
        """Features of y."""
        return self._graphs[0].out_features

    @property
    def graph(self) -> Graph:
        """The network; the first, where several are summed."""
        return self._graphs[0]

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The networks that are summed."""
        return self._graphs

    @property
    def parameter_count(self) -> int:
        """Trainable entries of the networks, a tensor that several share counted once; no bias."""
        return count_parameters(self._graphs)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of parameters and arithmetic."""
        return self._kind()[0]

    def named_arrays(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The stored tensors by name, without the bias: parameters and constants."""
        for name, array in self._stored.of(self).items():
            if name != BIAS:
                yield name, array

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the networks as they are now, by name: after training, the state.

        They are the parameters themselves, and as these have gradients; a tensor that is kept
        isometric, or parametrized, is made anew from what is trained. Frozen tensors are among
        them, constants (``trainable=False`` with ``value=``, such as the operator of an energy) and
        the bias are not. None is conjugated, and where a leg is fixed the axis is gone, as in
        ``state_dict()``.

        Returns:
            tensors by name, which ``load_state_dict`` of a layer of the same state takes.

        >>> import numpy as np, torch, tnlayer as tn
        >>> state = tn.topologies.mps(3, dim=2, bond=2)
        >>> energy = tn.Layer(tn.energy(state, {0: np.diag([1.0, -1.0])}), backend="torch")
        >>> list(energy.tensors()), len(energy.state_dict())
        (['site_0', 'site_1', 'site_2'], 4)
        >>> psi = tn.Layer(state, backend="torch")
        >>> psi.load_state_dict(energy.tensors())
        <All keys matched successfully>
        >>> psi().shape
        torch.Size([8])
        """
        constants = {
            one.name
            for graph in self._graphs
            for one in graph.parameters
            if one.node.value is not None and not one.node.trainable
        }
        return {name: x for name, x in self.named_arrays() if name not in constants}

    def parameter_groups(
        self, rates: float | Mapping[str, float] | None = None
    ) -> list[dict[str, Any]]:
        """One group a tensor, for torch's optimisers: with its "name", its "lr" where one is given,
        and "is_matrix", by which those are picked that Muon takes.

        Arguments:
            rates: the learning rate of all tensors, or of some by name; the optimiser's is that of
                the others.

        Raises:
            SpecError: a rate for a tensor that there is not, or that is no number.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(8, 4, rank=2))
        >>> rates = {name: 0.1 for name, _ in list(layer.named_parameters())[:1]}
        >>> optimiser = torch.optim.Adam(layer.parameter_groups(rates), lr=0.01)
        >>> [group["lr"] for group in optimiser.param_groups]
        [0.1, 0.01]
        """
        return parameter_groups(self, rates)

    # -- inside ----------------------------------------------------------------------------

    def _register_arrays(
        self,
        shared: bool | str | Sequence[str],
        device: torch.device | str | None,
        dtype: torch.dtype,
        *,
        keeps: bool,
    ) -> None:
        """Parameters and buffers under the tensors' names, of which none is outlawed; isometries
        that are kept are made by a module of their own."""
        for graph in self._graphs:
            check_initialisers(graph)
        parameters = stored_parameters(self._graphs, shared)
        self._check_room(parameters, torch.empty(0, device=device).device, dtype)
        kept = [one for one in parameters if keeps and can_be_kept(one.node)]
        if kept:
            self._modules[MAKER] = KeptIsometries(kept, device, dtype)
        for parameter in parameters:
            if parameter in kept:
                continue
            array = torch.empty(parameter.shape, device=device, dtype=dtype)
            node = parameter.node
            if node.value is not None and not node.trainable:
                self._buffers[parameter.name] = array
            else:
                add_parameter(self, parameter.name, nn.Parameter(array, node.trainable))

    def _check_room(
        self, parameters: Sequence[Parameter], device: torch.device, dtype: torch.dtype
    ) -> None:
        """Refuse parameters for which the device has no memory left."""
        sizes = {parameter.name: math.prod(parameter.full_shape) for parameter in parameters}
        needed = sum(sizes.values()) * dtype.itemsize
        if needed > _SMALL:
            largest = max(sizes, key=lambda name: sizes[name])
            what = (
                f"the parameters of {self._graphs[0].label!r} ({largest!r}, the largest, has "
                f"{sizes[largest]} entries)"
            )
            check_bytes(needed, what, device, SpecError)

    def __setattr__(self, name: str, value: Any) -> None:
        """As every module's; but an array under the name of a method, which a replica of
        nn.DataParallel takes as an attribute, does not hide the method."""
        maker = maker_of(self) if MAKER in self.__dict__.get("_modules", ()) else None
        if maker is not None and name in maker.names and isinstance(value, torch.Tensor):
            check_stored(self, value, self._stored.expected[name], maker.any_parameter())
            maker.right_inverse(name, value)
            return
        stored = self.__dict__.get("_stored")
        if stored is not None and name in stored.expected and would_hide(self, name, value):
            self._buffers[name] = value
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """As every module's; an isometry that is kept is made when it is asked for."""
        maker = self.__dict__.get("_modules", {}).get(MAKER)
        if isinstance(maker, Maker) and name in maker.names:
            return maker.made((name,))[name]
        return super().__getattr__(name)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *others: Any, **named: Any
    ) -> None:
        """As every module's; a layer that keeps its isometries takes tensors of one that does not,
        of each the nearest isometry."""
        maker = maker_of(self)
        for name in () if maker is None else maker.names:
            array = state_dict.get(prefix + name)
            if maker is not None and isinstance(array, torch.Tensor):
                maker.take(name, state_dict.pop(prefix + name), state_dict, f"{prefix}{MAKER}.")
        super()._load_from_state_dict(state_dict, prefix, *others, **named)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """As every module's; a layer without arrays remembers what it was moved to."""
        super()._apply(fn, recurse)
        if self._stored.any_of(self) is None:
            dtype, device = self._empty
            # Nothing can be moved off the meta device, not even nothing.
            device = torch.device("cpu") if device.type == "meta" else device
            moved = fn(torch.empty(0, dtype=dtype, device=device))
            self._empty = (moved.dtype, moved.device)
        return self

    def _follow(self, array: torch.Tensor) -> None:
        """Take dtype and device of an array; only for a layer without arrays of its own."""
        if self._empty != (array.dtype, array.device):
            self._empty = (array.dtype, array.device)

    def _kind(self, array: torch.Tensor | None = None) -> tuple[torch.dtype, torch.device]:
        """Dtype and device of the layer: those of an array of it, by default of any."""
        array = self._stored.any_of(self) if array is None else array
        return self._empty if array is None else (array.dtype, array.device)
