"""Conv2d: a convolution whose kernel is the matrix of a tensor network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import check_option, check_whole, shown
from ..graph.graph import Graph
from ..graph.network import Network
from ..graph.told_calls import told
from ..planning.predictions import times_of
from ..runtime.autograd import is_traced, shape_of
from ..runtime.module_arrays import look_up
from ..time_models.torch_calls import dense_seconds
from .derived_graphs import fill, matrix_of
from .layer import Layer
from .layer_inputs import as_graphs
from .padded import Padded
from .stored_arrays import BIAS
from .symbolic import as_leaf, proxy_in

Pair = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
# How y is computed: from patches of x, or from the kernel that the network is contracted to.
WAYS = ("auto", "patches", "kernel")
# Options of Padded that a convolution says in channels.
_NOT_TAKEN = ("in_features", "out_features")


class Conv2d(Padded):
    """nn.Conv2d with a tensor network in place of the kernel.

    The network maps a patch of x, in_channels / groups x kernel_size features in the order of
    nn.Conv2d's weight, to out_channels features: its matrix is ``weight.reshape(out_channels, -1)``
    of the dense kernel. A network with more features is padded.

    Two ways lead to y. *patches* takes x apart as ``nn.Unfold`` does (a kernel of 1 x 1 needs no
    such copy) and contracts the network with them. *kernel* contracts the network alone to the
    dense kernel and calls torch's convolution: parameters are few, arithmetic is that of the dense
    layer. Groups need the second way.

    Arguments:
        net: a network with one batched input, or several that are summed.
        kernel_size: of a patch, (height, width) or one size for both.
        in_channels: by default what the network's features say.
        out_channels: by default the network's features.
        stride, dilation, padding, groups, padding_mode: as for nn.Conv2d; padding may be "same" or
            "valid".
        bias: whether to add a learned vector, of out_channels entries.
        way: "patches", "kernel", or "auto": patches for 1 x 1, else what is predicted to be faster
            for the number of patches; what is traced or compiled takes the kernel.
        options: as for :class:`tnlayer.Layer`.

    Shapes: x is (N, in_channels, height, width), or without N; y as that of nn.Conv2d.

    Raises:
        SpecError: features and channels do not fit, or an option is wrong.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.low_rank(3 * 3 * 3, 16, rank=4)
    >>> conv = tn.Conv2d(net, kernel_size=3, padding=1, bias=True)
    >>> conv(torch.zeros(2, 3, 8, 8)).shape, conv.parameter_count
    (torch.Size([2, 16, 8, 8]), 172)
    """

    @told("tn.Conv2d(net, kernel_size=3), and all else by name", "Conv2d")
    def __init__(
        self,
        net: Network | Graph | Sequence[Network | Graph],
        *,
        kernel_size: Pair,
        in_channels: int | None = None,
        out_channels: int | None = None,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        bias: bool = False,
        way: str = "auto",
        **options: Any,
    ) -> None:
        graphs = as_graphs(net, where="Conv2d")
        self.kernel_size = _pair(kernel_size, "kernel_size", 1)
        self.stride = _pair(stride, "stride", 1)
        self.dilation = _pair(dilation, "dilation", 1)
        self.groups = check_whole(groups, "Conv2d: groups")
        self.padding_mode = check_option(padding_mode, "padding_mode", PADDING_MODES)
        self.padding = self._padding_of(padding)
        self._given_padding = padding if isinstance(padding, str) else _pair(padding, "padding", 0)
        self._way = check_option(way, "way", WAYS)
        area = self.kernel_size[0] * self.kernel_size[1]
        own, given = graphs[0].in_features if graphs[0].inputs else 0, in_channels
        if given is None:
            given = own * self.groups // area
        self.in_channels = check_whole(given, "Conv2d: in_channels")
        self.out_channels = check_whole(
            graphs[0].out_features if out_channels is None else out_channels,
            "Conv2d: out_channels",
        )
        self._check_channels(own, area, is_given=in_channels is not None)
        super().__init__(
            graphs, self.in_channels // self.groups * area, self.out_channels, bias=bias, **options
        )
        self._alone = {
            name: value for name, value in options.items() if name in ("backend", "effort")
        }
        self._derive()

    # -- what it is ------------------------------------------------------------------------

    @property
    def weight(self) -> torch.Tensor:
        """The dense kernel, (out_channels, in_channels / groups, height, width), made anew at each
        look: read-only. Gradients go through it."""
        own = look_up(self, "weight")
        if own is not None:
            return own
        return self.to_dense().reshape(
            self.out_channels, self.in_channels // self.groups, *self.kernel_size
        )

    @property
    def options(self) -> dict[str, Any]:
        """As those of Layer, with the convolution's."""
        own = {name: value for name, value in super().options.items() if name not in _NOT_TAKEN}
        return {
            **own,
            "kernel_size": self.kernel_size,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "stride": self.stride,
            "padding": self._given_padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
            "way": self._way,
        }

    def extra_repr(self) -> str:
        """Channels, kernel, and what Padded says."""
        own = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, padding_mode={self.padding_mode!r}"
        )
        return f"{own}, {super().extra_repr()}"

    def __repr__(self) -> str:
        # The layers within are how it is done: they have no arrays, and features of another kind.
        return f"{self._get_name()}({self.extra_repr()})"

    # -- what it does ----------------------------------------------------------------------

    def forward(self, input: Any = None, *others: Any, **named: Any) -> torch.Tensor:
        """Convolve x with the kernel and add the bias.

        Raises:
            SpecError: the shape, dtype or device of x is wrong.
        """
        if proxy_in((input,)) is not None:
            node = as_leaf(self, (input,))
            if node is not None:
                return node  # pyright: ignore[reportReturnType]
            msg = f"{self!r}: torch.fx.symbolic_trace looks at a module that holds it, or export it"
            raise SpecError(msg)
        if others or named or not isinstance(input, torch.Tensor):
            msg = f"{self!r}: expected one torch.Tensor, got {shown((input, *others, *named))}"
            raise SpecError(msg)
        shape = shape_of(input)
        if len(shape) not in (3, 4) or shape[-3] != self.in_channels:
            msg = (
                f"Conv2d: x must have shape (N, {self.in_channels}, height, width) or without N, "
                f"got {shape}; move the channels there, or make another network"
            )
            raise SpecError(msg)
        x = self._with_border(input)
        size = [
            (x.shape[axis] - d * (k - 1) - 1) // s + 1
            for axis, k, s, d in zip(
                (-2, -1), self.kernel_size, self.stride, self.dilation, strict=True
            )
        ]
        if not is_traced() and min(size) < 1:
            msg = (
                f"Conv2d: x of {shape[-2]} x {shape[-1]} with padding {self.padding} is smaller "
                f"than the kernel of {self.kernel_size} with dilation {self.dilation}"
            )
            raise SpecError(msg)
        if self._takes_patches(x.shape[:-3].numel() if x.dim() == 4 else 1, size):
            return self._by_patches(x, size)
        return self._by_kernel(x)

    def to_dense(self) -> torch.Tensor:
        """The kernel as a matrix, (out_channels, in_channels / groups x height x width)."""
        arrays = self._stored.of(self)
        like = next(iter(arrays.values()), None)
        if like is None:
            return super().to_dense()
        total: torch.Tensor | None = None
        for derived, layer in zip(self._derived, self._matrices, strict=True):
            assert isinstance(layer, Layer)
            layer._follow(like)
            y = layer(*fill(derived, arrays, like))
            total = y if total is None else total + y
        assert total is not None
        whole = total.reshape(self.graph.out_features, self.graph.in_features)
        return whole[: self.out_features, : self.in_features]

    def replace_networks(self, graphs: Sequence[Graph], arrays: Mapping[str, torch.Tensor]) -> None:
        """Take other networks with equal ports, and the arrays that changed."""
        super().replace_networks(graphs, arrays)
        self._derive()

    # -- inside ----------------------------------------------------------------------------

    def _derive(self) -> None:
        """The networks that give the kernel, as layers without arrays."""
        dtype, device = self._kind()
        kind: dict[str, Any] = {"dtype": dtype, "device": device}
        # By number of patches: whether they are contracted, rather than the kernel built.
        self._by_count: dict[int, bool] = {}
        self._derived = [matrix_of(graph) for graph in self.graphs]
        self._matrices = nn.ModuleList(
            Layer(derived.graph, **self._alone, **kind) for derived in self._derived
        )

    def _padding_of(self, padding: object) -> tuple[int, int, int, int]:
        """Zeros left, right, above and below, as nn.functional.pad takes them."""
        if isinstance(padding, str):
            check_option(padding, "padding", ("same", "valid"))
            if padding == "valid":
                return (0, 0, 0, 0)
            if self.stride != (1, 1):
                msg = f"Conv2d: padding='same' needs stride 1, got {self.stride}"
                raise SpecError(msg)
            over = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            high, wide = ((total // 2, total - total // 2) for total in over)
            return (*wide, *high)
        high, wide = _pair(padding, "padding", 0)
        return (wide, wide, high, high)

    def _check_channels(self, features: int, area: int, *, is_given: bool) -> None:
        """Channels, groups and the network's features must fit."""
        groups = self.groups
        if groups < 1 or self.in_channels % groups or self.out_channels % groups:
            msg = (
                f"Conv2d: groups={groups} must divide in_channels={self.in_channels} and "
                f"out_channels={self.out_channels}"
            )
            raise SpecError(msg)
        if not is_given and features * groups != self.in_channels * area:
            msg = (
                f"Conv2d: the network has {features} features, no whole number of channels "
                f"for a kernel of {self.kernel_size}; pass in_channels=, or make its legs fit"
            )
            raise SpecError(msg)
        if self._way == "patches" and groups > 1:
            msg = "Conv2d: way='patches' cannot do groups; leave it out, or take groups=1"
            raise SpecError(msg)

    def _with_border(self, x: torch.Tensor) -> torch.Tensor:
        if not any(self.padding):
            return x
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return nn.functional.pad(x, self.padding, mode=mode)

    def _takes_patches(self, samples: int, size: Sequence[int]) -> bool:
        """Whether patches are contracted with the network."""
        if self.groups > 1 or self._way == "kernel":
            return False
        if self._way == "patches" or self.kernel_size == (1, 1):
            return True
        if is_traced() or torch.compiler.is_compiling():
            return False
        patches = samples * size[0] * size[1]
        if patches not in self._by_count:
            self._by_count[patches] = patches > 0 and self._patches_are_faster(patches)
        return self._by_count[patches]

    def _patches_are_faster(self, patches: int) -> bool:
        """By predictions: the copy of x and the network, against the kernel and a dense product."""
        request = self._request
        training = request.objective == "train"
        network = sum(c.fastest.wanted(request.objective) for c in self.costs(patches))
        times = times_of(self._programs_at(patches)[0].planned.request)
        dense = dense_seconds(patches, self.in_features, self.out_features, times)
        copy = times.move(2 * patches * self.in_features) * (2 if training else 1)
        build = sum(
            c.fastest.wanted(request.objective)
            for layer in self._matrices
            if isinstance(layer, Layer)
            for c in layer.costs(1)
        )
        return network + copy < build + (dense.total if training else dense.forward)

    def _by_patches(self, x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        if self.kernel_size == (1, 1):
            part = x[..., :: self.stride[0], :: self.stride[1]]
            return super().forward(part.movedim(-3, -1)).movedim(-1, -3)
        patches = nn.functional.unfold(
            x, self.kernel_size, dilation=self.dilation, stride=self.stride
        )
        y = super().forward(patches.mT).mT
        return y.reshape(*y.shape[:-1], *size)

    def _by_kernel(self, x: torch.Tensor) -> torch.Tensor:
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        weight, bias = self.to_dense().reshape(shape), look_up(self, BIAS)
        return nn.functional.conv2d(
            x, weight, bias, stride=self.stride, dilation=self.dilation, groups=self.groups
        )


def _pair(value: object, name: str, least: int) -> tuple[int, int]:
    """One size for both axes, or one for each."""
    items = (value, value) if isinstance(value, int) else value
    if not isinstance(items, Sequence) or isinstance(items, str) or len(items) != 2:
        msg = f"Conv2d: {name}={shown(value)}, expected a whole number or two"
        raise SpecError(msg)
    high, wide = (check_whole(item, f"Conv2d: {name}") for item in items)
    if min(high, wide) < least:
        msg = f"Conv2d: {name}={shown(value)}, expected numbers from {least} on"
        raise SpecError(msg)
    return high, wide
