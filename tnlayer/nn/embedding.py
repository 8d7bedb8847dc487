"""Embedding: a table of vectors that is the matrix of a tensor network, and is never built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import check_whole, shown
from ..graph.graph import Graph
from ..graph.network import Network
from ..graph.told_calls import told
from ..report.explain import Explanation
from ..runtime.autograd import is_traced
from ..runtime.module_arrays import array_to_set, has_no_entries, look_up, set_array
from .derived_graphs import fill, rows_of
from .layer import Layer
from .layer_inputs import as_graphs
from .padded import Padded
from .symbolic import as_leaf, proxy_in

# Inits that draw at random and are scaled.
_DRAWN = (None, "normal", "uniform")
# Options of Padded that a table says in its own words, or has not.
_NOT_TAKEN = ("in_features", "out_features", "bias", "log_scale")


class Embedding(Padded):
    """nn.Embedding with a tensor network in place of the table.

    The network maps num_embeddings features, a one-hot vector, to embedding_dim features: its
    matrix is the transpose of the table. Neither is ever built: of each tensor that has legs of x
    the part at the index of a sample is looked up, and what was looked up is contracted. A network
    with more features is padded.

    Arguments:
        net: a network with one batched input, or several that are summed.
        num_embeddings: rows of the table, by default the network's features.
        embedding_dim: of a row, by default the network's features of y.
        padding_idx: a row that is 0 and gives no gradient, as of nn.Embedding; may count from the
            end.
        options: as for :class:`tnlayer.Layer`, but for bias and log_scale.

    Shapes: the input is (...), whole numbers below num_embeddings; y is (..., embedding_dim).

    Initialised as nn.Embedding: entries have variance 1, unless the network says otherwise.

    Raises:
        SpecError: the network has too few features or x a leg twice, or an option is wrong.

    Source: Hrinchuk et al., Tensorized embedding layers, arXiv:1901.10787, for tensor trains.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.tensor_train((10, 10, 10), (4, 4, 4), rank=4)
    >>> table = tn.Embedding(net, 999, 64)
    >>> table(torch.tensor([[1, 2, 998]])).shape, table.parameter_count
    (torch.Size([1, 3, 64]), 960)
    >>> table.num_embeddings, table.embedding_dim
    (999, 64)
    """

    @told("tn.Embedding(net, num_embeddings, embedding_dim), and all else by name", "Embedding")
    def __init__(
        self,
        net: Network | Graph | Sequence[Network | Graph],
        num_embeddings: int | None = None,
        embedding_dim: int | None = None,
        *,
        padding_idx: int | None = None,
        **options: Any,
    ) -> None:
        for name in ("bias", "log_scale"):
            if options.pop(name, False) is not False:
                msg = f"Embedding: {name} is not an option of it; leave it out"
                raise SpecError(msg)
        graphs = as_graphs(net, where="Embedding")
        rows = graphs[0].in_features if num_embeddings is None else num_embeddings
        dim = graphs[0].out_features if embedding_dim is None else embedding_dim
        self.padding_idx = _padding_idx(padding_idx, check_whole(rows, "Embedding: num_embeddings"))
        super().__init__(graphs, rows, dim, **options)
        known = ("batch", "backend", "objective", "memory_limit", "effort", "tiers")
        self._alone = {name: value for name, value in options.items() if name in known}
        self._derive()

    # -- what it is ------------------------------------------------------------------------

    @property
    def num_embeddings(self) -> int:
        """Rows of the table."""
        return self.in_features

    @property
    def embedding_dim(self) -> int:
        """Features of a row."""
        return self.out_features

    @property
    def weight(self) -> torch.Tensor:
        """The whole table, (num_embeddings, embedding_dim), made anew at each look: read-only.
        Gradients go through it."""
        own = look_up(self, "weight")
        if own is not None:
            return own
        return self.to_dense().mT

    @property
    def options(self) -> dict[str, Any]:
        """As those of Layer, with the table's."""
        own = {name: value for name, value in super().options.items() if name not in _NOT_TAKEN}
        return {
            **own,
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": self.padding_idx,
        }

    def extra_repr(self) -> str:
        """The table and what Padded says."""
        own = f"{self.num_embeddings}, {self.embedding_dim}"
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{own}{padding}, {super().extra_repr()}"

    def __repr__(self) -> str:
        # The layers within are how it is done: they have no arrays, and features of another kind.
        return f"{self._get_name()}({self.extra_repr()})"

    def explain(self, batch: int | Sequence[int] | None = None) -> Explanation:
        """What is contracted of the parts that are looked up, and what it costs."""
        return self._first_rows.explain(batch)

    def running(self, batch: int | Sequence[int] | None = None) -> str:
        """The backend that such look-ups run on now."""
        return self._first_rows.running(batch)

    @property
    def _first_rows(self) -> Layer:
        rows = self._rows[0]
        assert isinstance(rows, Layer)
        return rows

    def reset_parameters(self) -> None:
        """Draw the tensors so that entries of the table have variance 1; what the network gives as
        a value, an isometry or an init of its own stays as it is."""
        super().reset_parameters()
        used = Counter(one.name for graph in self.graphs for one in graph.parameters)
        for graph in self.graphs:
            uses = Counter(node.share or node.name for node in graph.tensors)
            free = [one for one in graph.parameters if _is_drawn(one.node) and used[one.name] == 1]
            count = sum(uses[one.name] for one in free)
            for one in free:
                array = array_to_set(self, one.name)
                if array is None or has_no_entries(array):
                    continue
                now = look_up(self, one.name)
                assert now is not None
                # Padded has Var(y) = Var(x): the squares of a row of W, which is as long as the
                # table, sum up to 1.
                with torch.no_grad():
                    array.copy_(now * self.num_embeddings ** (0.5 / count))
                set_array(self, one.name, array)

    # -- what it does ----------------------------------------------------------------------

    def forward(self, input: Any = None, *others: Any, **named: Any) -> torch.Tensor:
        """The rows of the table with these numbers.

        Raises:
            SpecError: the input is no tensor of whole numbers, or one is beyond the table.
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
        if input.dtype not in (torch.int64, torch.int32):
            msg = f"Embedding: the input has dtype {input.dtype}; expected int64 or int32"
            raise SpecError(msg)
        self._check_range(input)
        features = input.reshape(-1)
        y = self._looked_up(features)[..., : self.embedding_dim]
        if self.padding_idx is not None:
            y = y.masked_fill((features == self.padding_idx).unsqueeze(-1), 0)
        return y.reshape(*input.shape, self.embedding_dim)

    def to_dense(self) -> torch.Tensor:
        """The dense matrix, (embedding_dim, num_embeddings): the whole table, transposed."""
        like = self._stored.any_of(self)
        device = None if like is None else like.device
        return self.forward(torch.arange(self.num_embeddings, device=device)).mT

    def replace_networks(self, graphs: Sequence[Graph], arrays: Mapping[str, torch.Tensor]) -> None:
        """Take other networks with equal ports, and the arrays that changed."""
        super().replace_networks(graphs, arrays)
        self._derive()

    # -- inside ----------------------------------------------------------------------------

    def _derive(self) -> None:
        """The networks that are contracted with what was looked up, as layers without arrays."""
        dtype, device = self._kind()
        kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self._derived = [rows_of(graph) for graph in self.graphs]
        self._rows = nn.ModuleList(
            Layer(derived.graph, autocast=False, **self._alone, **kind) for derived in self._derived
        )

    def _looked_up(self, features: torch.Tensor) -> torch.Tensor:
        """The rows of the networks' tables, summed."""
        arrays = self._stored.of(self)
        like = next(iter(arrays.values()), None)
        like = torch.empty(0, dtype=self.dtype, device=features.device) if like is None else like
        total: torch.Tensor | None = None
        for derived, layer in zip(self._derived, self._rows, strict=True):
            assert isinstance(layer, Layer)
            layer._follow(like)
            y = layer(*fill(derived, arrays, like, features))
            if y.dim() == 1:  # no tensor has a leg of x: all rows are alike
                y = y.expand(len(features), -1)
            total = y if total is None else total + y
        assert total is not None
        return total

    def _check_range(self, features: torch.Tensor) -> None:
        """Refuse numbers beyond the table: padded rows are there, but mean nothing."""
        if has_no_entries(features) or not features.numel():
            return
        if is_traced() or features.is_cuda:
            fits = (features >= 0) & (features < self.num_embeddings)
            torch.ops.aten._assert_async.msg(fits.all(), "Embedding: a number is no row")
            return
        low, high = features.min(), features.max()
        if int(low) < 0 or int(high) >= self.num_embeddings:
            wrong = int(low) if int(low) < 0 else int(high)
            msg = (
                f"Embedding: {wrong} is no row of a table with num_embeddings="
                f"{self.num_embeddings}; expected 0 to {self.num_embeddings - 1}"
            )
            raise SpecError(msg)


def _padding_idx(value: int | None, rows: int) -> int | None:
    """The row that is 0, counted from the start."""
    if value is None:
        return None
    row = check_whole(value, "Embedding: padding_idx")
    if not -rows <= row < rows:
        msg = f"Embedding: padding_idx={shown(value)} is no row of {rows}"
        raise SpecError(msg)
    return row % rows


def _is_drawn(node: Any) -> bool:
    """Whether the entries of a tensor are drawn and scaled."""
    return node.trainable and node.value is None and not node.isometry and node.init in _DRAWN
