"""Padded: a layer between features that a network's ports do not have exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import check_flag, check_whole, shown
from ..graph.as_graph import AnyNetwork
from ..graph.describe import sum_label
from ..graph.graph import Graph
from ..runtime.array_checks import Expected
from ..runtime.autograd import shape_of
from ..runtime.module_arrays import array_to_set, check_can_be_set, has_array, look_up, set_array
from .initialisation.measure_variance import Part
from .layer import Layer
from .layer_inputs import SPARSE, all_inputs, as_graphs
from .nested_inputs import is_nested, nested_call
from .programs import Beside
from .stored_arrays import BIAS, check_stored
from .symbolic import as_leaf, proxy_in


class Padded(Layer):
    """A layer whose x is padded with zeros and whose y is cut to the features that are wanted.

    Arguments:
        net: a network with one batched input, at least so many features in and out; or several
            with equal ports, whose results are summed.
        in_features: features of x; zeros are appended up to the network's.
        out_features: features of y; what the network gives beyond them is dropped.
        bias: whether to add a learned vector, of out_features entries.
        options: as for :class:`tnlayer.Layer`.

    Shapes: x is (..., in_features), y is (..., out_features). The map is the network's matrix
    without its last rows and columns. Parameters have the names of the network's tensors, as those
    of a layer without padding.

    Raises:
        SpecError: the network has other ports, or too few features.

    >>> import torch, tnlayer as tn
    >>> layer = Padded(tn.topologies.tensor_train((4, 3), (4, 3), rank=2), 11, 10, bias=True)
    >>> layer(torch.zeros(7, 11)).shape
    torch.Size([7, 10])
    >>> list(layer.state_dict())
    ['core_0', 'core_1', 'bias']
    """

    # y is cut before the bias is added, so the networks know nothing of it.
    _adds_bias = False

    def __init__(
        self,
        net: AnyNetwork | Sequence[AnyNetwork],
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        **options: Any,
    ) -> None:
        graphs = as_graphs(net, where="Padded")
        graph, ports = graphs[0], graphs[0].inputs
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
        # Var(y) = Var(x) holds for the features that are used.
        self._part = Part(in_features, out_features)
        self._beside = _beside(graph, in_features, out_features, bias=bias)
        super().__init__(graphs, bias=bias, **options)

    @property
    def in_features(self) -> int:
        """Features of x, without the zeros."""
        return self._part.in_features or 0

    @property
    def out_features(self) -> int:
        """Features of y, as it is cut."""
        return self._part.out_features or 0

    @property
    def options(self) -> dict[str, Any]:
        """As those of Layer, with the features."""
        features = {"in_features": self.in_features, "out_features": self.out_features}
        return {**super().options, **features}

    def reset_parameters(self) -> None:
        """Initialise as Layer does, with Var(y) = Var(x) for the features that are used."""
        check_can_be_set(self, (BIAS,))
        super().reset_parameters()
        bias = array_to_set(self, BIAS)
        if bias is not None:
            set_array(self, BIAS, nn.init.zeros_(bias))

    @property
    def layer(self) -> Padded:
        """The layer that has the tensors: this one; padding was a module around it once.

        >>> import tnlayer as tn
        >>> padded = Padded(tn.topologies.low_rank(8, 6, rank=2), 7, 5, backend="torch")
        >>> padded.layer is padded
        True
        """
        return self

    def extra_repr(self) -> str:
        """Features and what was added to them, sizes and backend."""
        graph = self.graph
        added_in = graph.in_features - self.in_features
        added_out = graph.out_features - self.out_features
        return (
            f"{sum_label(self.graphs)}, in_features={self.in_features}{_added(added_in)}, "
            f"out_features={self.out_features}{_added(added_out)}, "
            f"bias={has_array(self, BIAS)}, parameters={self.parameter_count}, "
            f"dtype={self.dtype}, backend={self._backend!r}"
        )

    def forward(self, input: Any = None, *others: Any, **named: Any) -> torch.Tensor:
        """Append zeros to x, contract the network, cut y and add the bias.

        Raises:
            SpecError: number, shape, dtype or device of x is wrong.
        """
        inputs = (input,)
        if input is None or type(others) is not tuple or others or named:
            inputs = all_inputs(self, self.graph, input, others, named)
        if is_nested(inputs):
            return nested_call(self, self, inputs)
        if proxy_in(inputs) is not None:
            node = as_leaf(self, inputs)
            if node is not None:
                return node  # pyright: ignore[reportReturnType]
            x = self._with_zeros(inputs[0])
        else:
            x = self._with_zeros(self._checked(inputs))
        y = super().forward(x)
        assert not isinstance(y, tuple), "log_scale=True was refused"
        return self._with_bias(y, inputs)

    def to_dense(self) -> torch.Tensor:
        """The dense matrix, (out_features, in_features)."""
        return super().to_dense()[: self.out_features, : self.in_features]

    def tune(self, *inputs: torch.Tensor) -> Padded:
        """As that of Layer, with an x of in_features."""
        super().tune(*(self._with_zeros(x) for x in inputs))
        return self

    def export_c(self, *arguments: Any, **options: Any) -> None:
        """Not for padded layers: a C++ library would take and give the padded features.

        Raises:
            SpecError: always.
        """
        msg = f"{self!r}: export_c does not pad; export tn.Layer of its graph, and pad x yourself"
        raise SpecError(msg)

    # -- inside ----------------------------------------------------------------------------

    def _checked(self, inputs: tuple[Any, ...]) -> torch.Tensor:
        """The one x of a call, of the right shape."""
        if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor):
            super().forward(*inputs)  # whose error says what x must be
            msg = f"{self!r}: expected one torch.Tensor, got {shown(inputs)}; pass x alone"
            raise SpecError(msg)
        x = inputs[0]
        if x.dim() < 1 or shape_of(x)[-1] != self.in_features:
            msg = (
                f"x must have shape (..., {self.in_features}), got {shape_of(x)}; reshape it, or "
                f"fit the network to other features\n  in a call of {self!r}"
            )
            raise SpecError(msg)
        return x.to_dense() if x.layout in SPARSE else x

    def _with_zeros(self, x: torch.Tensor) -> torch.Tensor:
        missing = self.graph.in_features - self.in_features
        return nn.functional.pad(x, (0, missing)) if missing else x

    def _with_bias(self, y: torch.Tensor, inputs: tuple[Any, ...]) -> torch.Tensor:
        """The y of the networks cut to the features that are wanted, with the bias."""
        if self.graph.out_features > self.out_features:
            y = y[..., : self.out_features]
        bias = look_up(self, BIAS)
        if bias is None:
            return y
        if proxy_in(inputs) is None:
            check_stored(self, bias, Expected(BIAS, (self.out_features,)), y)
        return y + bias


def _added(features: int) -> str:
    """Features that padding adds, where there are some."""
    return f" (+{features})" if features else ""


def _beside(graph: Graph, in_features: int, out_features: int, *, bias: bool) -> Beside:
    """The features that a call allocates beside those of the network's own call."""
    x = graph.in_features if graph.in_features > in_features else 0
    y, more = graph.out_features, graph.out_features - out_features
    # With a bias the longer y is alive beside the sum, and its gradient instead of it. Without
    # one the result is a part of it, and the whole stays alive beside its gradient.
    infer, train = (y, y) if bias else (more, more + (y if more else 0))
    return Beside(x + infer, 2 * x + train)
