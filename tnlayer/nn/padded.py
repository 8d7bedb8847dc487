"""Padded: a layer between features that a network's ports do not have exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import check_flag, check_whole, shown
from ..graph.graph import Graph
from ..graph.network import Network, as_graph
from ..report.explain import Explanation
from ..runtime.array_checks import Expected
from ..runtime.autograd import shape_of
from ..runtime.module_arrays import array_to_set, check_can_be_set, has_array, look_up, set_array
from .initialisation.measure_variance import Part
from .layer import Layer
from .programs import Beside
from .ranks.padded_ranks import PaddedRanks
from .stored_arrays import BIAS, check_stored
from .symbolic import as_leaf, proxy_in


class PaddedNetwork(Layer):
    """The network inside Padded: Var(y) = Var(x) holds for the features that are used.

    Arguments:
        net: the network.
        part: the features that are used.
        bias: whether a bias is added to the y that was cut.
        options: as for :class:`tnlayer.Layer`.
    """

    def __init__(self, net: Graph, part: Part, *, bias: bool, **options: Any) -> None:
        self._part = part
        used_in, used_out = part.in_features or 0, part.out_features or 0
        x = net.in_features if net.in_features > used_in else 0
        y, more = net.out_features, net.out_features - used_out
        # With a bias the longer y is alive beside the sum, and its gradient instead of it. Without
        # one the result is a part of it, and the whole stays alive beside its gradient.
        infer, train = (y, y) if bias else (more, more + (y if more else 0))
        self._beside = Beside(x + infer, 2 * x + train)
        super().__init__(net, **options)


class Padded(PaddedRanks):
    """A layer whose x is padded with zeros and whose y is cut to the features that are wanted.

    Arguments:
        net: a network with one batched input, at least so many features in and out.
        in_features: features of x; zeros are appended up to the network's.
        out_features: features of y; what the network gives beyond them is dropped.
        bias: whether to add a learned vector, of out_features entries.
        options: as for :class:`tnlayer.Layer`.

    Shapes: x is (..., in_features), y is (..., out_features). The map is the network's matrix
    without its last rows and columns. The network's parameters lie in ``layer``.

    Raises:
        SpecError: the network has other ports, or too few features.

    >>> import torch, tnlayer as tn
    >>> layer = Padded(tn.topologies.tensor_train((4, 3), (4, 3), rank=2), 11, 10, bias=True)
    >>> layer(torch.zeros(7, 11)).shape
    torch.Size([7, 10])
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        net: Network | Graph,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        graph = as_graph(net, "Padded")
        ports = graph.inputs
        if len(ports) != 1 or ports[0].product or not ports[0].batched:
            msg = f"{graph.label!r} cannot be padded: it needs one batched input that is no product"
            raise SpecError(msg)
        for size, name in ((in_features, "in_features"), (out_features, "out_features")):
            check_whole(size, f"Padded: {name}")
        if not 1 <= in_features <= graph.in_features or not 1 <= out_features <= graph.out_features:
            msg = (
                f"Padded: {graph.label!r} has {graph.in_features} -> {graph.out_features} features,"
                f" expected at least {shown(in_features)} -> {shown(out_features)} and at least one"
                " each; make its legs larger"
            )
            raise SpecError(msg)
        check_flag(bias, "bias")
        if check_flag(options.get("log_scale", False), "log_scale"):
            msg = f"{graph.label!r} cannot be padded with log_scale=True; pad x and cut y yourself"
            raise SpecError(msg)
        self.in_features = in_features
        self.out_features = out_features
        part = Part(in_features, out_features)
        self.layer = PaddedNetwork(graph, part, bias=bias, device=device, dtype=dtype, **options)
        self.bias = (
            nn.Parameter(torch.zeros(out_features, device=device, dtype=self.layer.dtype))
            if bias
            else None
        )

    @property
    def ranked(self) -> Layer:
        """The layer inside, whose bonds truncate and grow change."""
        return self.layer

    def reset_parameters(self) -> None:
        """Initialise as Layer does, with Var(y) = Var(x) for the features that are used."""
        check_can_be_set(self, (BIAS,))
        self.layer.reset_parameters()
        bias = array_to_set(self, BIAS)
        if bias is not None:
            set_array(self, BIAS, nn.init.zeros_(bias))

    def extra_repr(self) -> str:
        """Features and what was added to them."""
        graph = self.layer.graph
        return (
            f"in_features={self.in_features} (+{graph.in_features - self.in_features}), "
            f"out_features={self.out_features} (+{graph.out_features - self.out_features}), "
            f"bias={has_array(self, BIAS)}"
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Append zeros to x, contract the network, cut y and add the bias.

        Raises:
            SpecError: number, shape, dtype or device of x is wrong.
        """
        if proxy_in((x,)) is not None:
            node = as_leaf(self, (x,))
            if node is not None:
                return node  # pyright: ignore[reportReturnType]
        elif x.dim() < 1 or shape_of(x)[-1] != self.in_features:
            msg = (
                f"Padded: x must have shape (..., {self.in_features}), got {shape_of(x)}; "
                "reshape it, or fit the network to other features"
            )
            raise SpecError(msg)
        missing = self.layer.in_features - self.in_features
        y = self.layer(nn.functional.pad(x, (0, missing)) if missing else x)
        if self.layer.out_features > self.out_features:
            y = y[..., : self.out_features]
        bias = look_up(self, BIAS)
        if bias is None:
            return y
        if proxy_in((x,)) is None:
            check_stored(self, bias, Expected(BIAS, (self.out_features,)), y)
        return y + bias

    def to_dense(self) -> torch.Tensor:
        """The dense matrix, (out_features, in_features)."""
        return self.layer.to_dense()[: self.out_features, : self.in_features]

    def source(self) -> str:
        """The code that the network runs."""
        return self.layer.source()

    def explain(self, batch: int | None = None) -> Explanation:
        """What the network runs and what it costs, at its padded features."""
        return self.layer.explain(batch)
