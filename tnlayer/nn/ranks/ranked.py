"""What changes the sizes of a layer's bonds after it was made: truncate, round, grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...errors import SpecError
from ...fitting.fitted import Fitted
from ...graph.argument_checks import as_number, check_whole, shown
from ...graph.graph import Graph, count_parameters
from ...graph.told_calls import told
from ...report.cost_of_network import cost
from ...runtime.module_arrays import has_no_entries, home_of, look_up, parametrization_of
from ..dense_weight import DenseWeight
from ..sharded_arrays import is_sharded
from .carry_optimizer import carry_optimizer, check_optimizer
from .grow import grown, widened
from .truncate import Truncated, truncate_to_budget, truncate_to_error

if TYPE_CHECKING:
    from typing import Self

# What an array of the old shape becomes in the new one.
_Widen = Callable[[torch.Tensor], torch.Tensor]


class Ranked(DenseWeight):
    """Gives ``fit``, ``truncate``, ``round`` and ``grow``."""

    _fit: Fitted | None = None

    @property
    def fit(self) -> Fitted | None:
        """How near the entries come to what they were fitted to, or truncated from; None: they were
        not. It says what was true when that was done, whatever training did since.

        >>> import torch, tnlayer as tn
        >>> print(tn.Layer(tn.topologies.low_rank(4, 4, rank=2), backend="torch").fit)
        None
        """
        return self._fit

    def keep_fit(self, fitted: Fitted | None) -> None:
        """Remember how the entries were found."""
        self._fit = fitted

    def networks_for_ranks(self) -> tuple[Sequence[Graph], tuple[int, int] | None, int]:
        """The networks, the features of a padded layer that count, and a usual batch size."""
        raise NotImplementedError

    def replace_networks(self, graphs: Sequence[Graph], arrays: Mapping[str, Any]) -> None:
        """Take other networks, with the arrays of the tensors that changed."""
        raise NotImplementedError

    @told("layer.truncate(tol=0.01), or params= or time=")
    def truncate(
        self,
        *,
        tol: float | None = None,
        params: int | None = None,
        time: float | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Self:
        """Make bonds smaller, with outputs as near as they can be; changes the layer in place.

        Where the network is a tree (each bond joins two tensors, no loops) bonds are cut by the
        singular values across them, with all else orthonormal: no dense tensor is made. All other
        networks lose the indices that bring least and are refitted to their dense tensor, of at
        most 2^26 entries. ``layer.fit`` says how near it comes.

        Parameters keep their names and get new shapes: they are new nn.Parameters. A layer in a
        model that torch.compile has compiled is compiled anew at its next call.

        Arguments:
            tol: the largest relative error ||W - W'|| / ||W||, in the layer's own dtype, or
            params: most trainable entries of the tensors, as ``parameter_count`` counts them: the
                bias is not among them, or
            time: most seconds, as predicted, of a forward and backward call of ``batch`` samples.
            optimizer: gets the new parameters in place of the old. What it knew of these is
                dropped: their indices mean something else now.

        Returns:
            the layer itself.

        Raises:
            SpecError: there is not exactly one of the three, the budget is too small, tensors are
                parametrized or on the meta device, or the network is too large to be refitted.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(16, 16, rank=8), dtype=torch.float64)
        >>> layer.truncate(params=100).parameter_count
        96
        """
        given = {"tol": tol, "params": params, "time": time}
        asked = {name: value for name, value in given.items() if value is not None}
        if len(asked) != 1:
            msg = (
                f"truncate: expected exactly one of tol, params, time, got "
                f"{', '.join(asked) or 'none'}"
            )
            raise SpecError(msg)
        check_optimizer(optimizer)
        graphs, part, batch = self.networks_for_ranks()
        arrays = self._free_arrays(graphs, "truncate")
        shared = len({n for g in graphs for n in g.nodes}) < sum(len(g.nodes) for g in graphs)
        if tol is not None:
            _check_positive(tol, "tol", most=1.0)
            done = truncate_to_error(graphs, arrays, float(tol), shared=shared, part=part)
        else:
            fits, what = self._budget(params, time, batch, arrays)
            done = truncate_to_budget(graphs, arrays, fits, what=what, shared=shared, part=part)
        self._take(done, arrays, optimizer)
        return self

    @told("layer.round(0.01), the relative error")
    def round(self, eps: float, *, optimizer: torch.optim.Optimizer | None = None) -> Self:
        """Make bonds as small as a relative error allows: ``truncate(tol=eps)``.

        The promise: ||W - W'|| <= eps ||W||, Frobenius norms, for the layer's own entries after
        they were rounded to its dtype. Below what the dtype can tell, nothing is changed.

        Arguments:
            eps: the relative error, below 1.
            optimizer: as for ``truncate``.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.tensor_train((4, 4), (4, 4), rank=20))
        >>> dict(layer.round(1e-5).graph.leg_sizes)["b0"]  # no more than 16 is of use
        16
        """
        return self.truncate(tol=eps, optimizer=optimizer)

    @told("layer.grow(8), or layer.grow({'b0': 8}), the size of the bonds")
    def grow(
        self,
        bond: int | Mapping[str, int],
        *,
        seed: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Self:
        """Make bonds larger, with the same outputs; changes the layer in place.

        At one end of each bond the new indices are zero, at the others random, of the size of the
        old entries: outputs are the same but for rounding, and gradients reach all new entries
        within a few steps. Parameters keep their names and are new nn.Parameters.

        Arguments:
            bond: the size that each inner leg shall have at least, or sizes by leg. Legs that
                shared tensors tie grow together; those of frozen tensors do not grow.
            seed: of the random entries.
            optimizer: gets the new parameters in place of the old; what it knows of these, such as
                Adam's moments, goes on, with zeros for the new entries.

        Returns:
            the layer itself.

        Raises:
            SpecError: a leg cannot grow, all are larger already, or tensors are parametrized.

        >>> import torch, tnlayer as tn
        >>> layer = tn.Layer(tn.topologies.low_rank(16, 16, rank=2), dtype=torch.float64)
        >>> x = torch.ones(3, 16, dtype=torch.float64)
        >>> before = layer(x)
        >>> bool(torch.allclose(layer.grow(bond=6)(x), before)), layer.parameter_count
        (True, 192)
        """
        check_optimizer(optimizer)
        graphs, _, _ = self.networks_for_ranks()
        made = grown(graphs, bond)
        arrays = self._free_arrays(graphs, "grow")
        random = torch.Generator().manual_seed(check_whole(seed, "grow: seed"))
        new: dict[str, torch.Tensor] = {}
        widen: dict[str, _Widen] = {}
        for graph in made.graphs:
            for parameter in graph.parameters:
                old = arrays[parameter.name]
                if parameter.name in new or tuple(old.shape) == parameter.shape:
                    continue
                places = [axis for axis, pin in enumerate(parameter.pins) if pin is None]
                zeros = [k for k, a in enumerate(places) if (parameter.name, a) in made.zeros]
                shape = parameter.shape
                new[parameter.name] = widened(old, shape, zeros, random)
                widen[parameter.name] = _widening(shape)
        self._replace(made.graphs, new, widen, optimizer)
        return self

    # -- inside ----------------------------------------------------------------------------

    def _budget(
        self, params: int | None, seconds: float | None, batch: int, arrays: Mapping[str, Any]
    ) -> tuple[Callable[[Sequence[Graph]], bool], str]:
        if params is not None:
            most = check_whole(params, "truncate: params")
            if most < 1:
                msg = f"truncate: params={shown(params)}, expected at least 1"
                raise SpecError(msg)
            return lambda graphs: count_parameters(graphs) <= most, f"params={most}"
        assert seconds is not None
        limit = _check_positive(seconds, "time")
        array = next(iter(arrays.values()))
        name = str(array.dtype).removeprefix("torch.")
        device = "cuda" if array.device.type == "cuda" else "cpu"

        def fits(graphs: Sequence[Graph]) -> bool:
            found = [cost(g, batch=batch, device=device, dtype=name, effort="fast") for g in graphs]
            return sum(one.fastest.training for one in found) <= limit

        return fits, f"time={limit:.3g} seconds"

    def _free_arrays(self, graphs: Sequence[Graph], what: str) -> dict[str, torch.Tensor]:
        """All arrays; refused where they are made from others, or have no entries."""
        arrays: dict[str, torch.Tensor] = {}
        for graph in graphs:
            for parameter in graph.parameters:
                name = parameter.name
                home = home_of(self, name)
                is_made = parametrization_of(self, name) is not None
                if is_made or home is None or (home is self.__dict__):
                    msg = (
                        f"{what}: tensor {name!r} is parametrized, pruned or a replica's: it is "
                        "made from other arrays, whose shape cannot be changed; remove that first"
                    )
                    raise SpecError(msg)
                array = look_up(self, name)
                assert array is not None
                if is_sharded(array):
                    msg = f"{what}: tensor {name!r} lies on several processes; do it before"
                    raise SpecError(msg)
                if has_no_entries(array):
                    msg = f"{what}: tensor {name!r} has no entries: it is on the meta device"
                    raise SpecError(msg)
                arrays[name] = array.detach()
        if not arrays:
            msg = f"{what}: the network has no tensor"
            raise SpecError(msg)
        return arrays

    def _take(
        self,
        done: Truncated,
        arrays: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        if done.arrays is not None:
            new = {
                name: array.to(arrays[name].dtype).to(arrays[name].device)
                for name, array in done.arrays.items()
                if name in arrays
            }
            self._replace(done.graphs, new, {}, optimizer)
        self.keep_fit(done.fitted)

    def _replace(
        self,
        graphs: Sequence[Graph],
        arrays: Mapping[str, torch.Tensor],
        widen: Mapping[str, _Widen],
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        """Take the networks, and let the optimizer hold the new parameters."""
        replaced: dict[nn.Parameter, tuple[nn.Parameter, _Widen | None]] = {}
        new: dict[str, torch.Tensor] = {}
        for name, array in arrays.items():
            old = look_up(self, name)
            new[name] = array.contiguous()
            if isinstance(old, nn.Parameter):
                made = nn.Parameter(new[name], old.requires_grad)
                new[name] = made
                replaced[old] = (made, widen.get(name))
        self.replace_networks(graphs, new)
        carry_optimizer(optimizer, replaced)


def _widening(shape: tuple[int, ...]) -> _Widen:
    return lambda array: widened(array, shape, (), None)


def _check_positive(value: Any, name: str, most: float = float("inf")) -> float:
    number = as_number(value)
    if number is None or not 0 < number < most:
        msg = f"truncate: {name}={shown(value)}, expected a number above 0" + (
            f" and below {most:g}" if most < float("inf") else ""
        )
        raise SpecError(msg)
    return float(number)
