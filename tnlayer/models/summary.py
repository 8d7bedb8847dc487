"""summary: what each layer of a model costs, and the whole, beside dense layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import check_option, check_whole, shown
from ..graph.describe import sum_label
from ..graph.told_calls import told
from ..ir.paged_table import paged_table
from ..ir.plan_text import milliseconds
from ..ir.written_table import WrittenTable
from ..nn.dense_modules import LINEAR
from ..nn.layer import Layer
from ..planning.request import OBJECTIVES
from ..runtime.module_arrays import homes_of, maker_of
from ..support.dtypes import DTYPES
from ..support.html import block, heading, html_table
from ..support.option_words import Objective
from .budget_rule import stay_cost
from .data import Call, Watched, batches_of, call_model
from .module_cost import NO_COST, ModuleCost, Setting, dense_cost, network_cost
from .targets import Target, find_targets

# Columns of the table that stay together: a number and that of the dense layer.
_GROUPS = (1, 1, 2, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One layer.

    Arguments:
        name: of it in the model.
        kind: its class, or the label of its network.
        rows: samples that it meets in a call; 0: it has no input.
        is_counted: whether costs are known: of matrices and networks they are.
        own: its cost.
        dense: that of the dense layer with the same features; its own where there is none.
        has_dense: whether there is one: not of closed networks, such as an energy.
    """

    name: str
    kind: str
    rows: int
    is_counted: bool
    own: ModuleCost
    dense: ModuleCost
    has_dense: bool = True


@dataclass(frozen=True, slots=True)
class Summary(WrittenTable):
    """What :func:`tnlayer.summary` counted; ``print`` it.

    Arguments:
        rows: one a layer that has parameters of its own.
        total: of all; seconds and FLOPs are those of matrices and networks only. Memory is the
            largest of a layer's own call: what a training step keeps of other layers is not in it.
        dense: the same with dense layers.
        objective: "train" or "infer": what times are of.
        batch: rows where no data told.
    """

    rows: tuple[SummaryRow, ...]
    total: ModuleCost
    dense: ModuleCost
    objective: Objective
    batch: int

    def numbers(self) -> dict[str, Any]:
        """The summary as plain values, for a file."""
        return {
            "objective": self.objective,
            "batch": self.batch,
            "total": _plain(self.total),
            "dense": _plain(self.dense),
            "layers": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "rows": row.rows,
                    "is_counted": row.is_counted,
                    "has_dense": row.has_dense,
                    **_plain(row.own),
                    "dense": _plain(row.dense),
                }
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        return "\n".join((self._title, *paged_table(self._table(), _GROUPS)))

    def _repr_html_(self) -> str:
        return block(heading(self._title), html_table(self._table()))

    @property
    def _title(self) -> str:
        return (
            f"{self.total.parameters:,} parameters, {self.dense.parameters:,} with dense layers; "
            f"predicted ms and memory of one call, {self.objective}"
        )

    def _table(self) -> list[tuple[str, ...]]:
        """A header, a row a layer, and the whole."""
        heads = ("layer", "kind", "rows", "parameters", "dense", "FLOPs", "dense", "ms", "dense")
        rows: list[tuple[str, ...]] = [(*heads, "KiB", "dense")]
        rows += [_cells(row.name or "(the model)", row.kind, row) for row in self.rows]
        whole = SummaryRow("", "", 0, True, self.total, self.dense)
        return [*rows, _cells("total; KiB: the largest", "", whole)]


@told("tn.summary(model, batch=64), or data=x, a batch of the model's inputs")
def summary(
    model: nn.Module,
    *,
    batch: int = 256,
    data: Any = None,
    objective: Objective = "train",
    call: Call | None = None,
) -> Summary:
    """Count parameters, FLOPs, predicted time and memory of each layer of a model, and of all.

    Matrices of torch (Linear, Conv2d, Embedding, transformers' Conv1D) and layers of this package
    are counted and predicted, others have parameters only.

    Arguments:
        model: is not changed.
        batch: rows that a layer meets in a call, where no data tells: of a transformer samples
            times positions, of a convolution images times positions.
        data: a batch of the model's inputs, to see how many rows each layer meets.
        objective: "train" for a forward and backward, "infer" for a forward.
        call: (model, batch): how to run the model on data, if not as ``model(batch)``.

    Raises:
        SpecError: an argument is wrong, or the model is compiled or wrapped.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.low_rank(64, 64, rank=4)
    >>> found = tn.summary(torch.nn.Sequential(tn.Layer(net), torch.nn.Linear(64, 8)))
    >>> found.total.parameters, found.dense.parameters
    (1032, 4616)
    """
    if not isinstance(model, nn.Module):
        msg = f"summary: expected a torch.nn.Module, got {shown(model)}"
        raise SpecError(msg)
    check_option(objective, "objective", OBJECTIVES)
    if check_whole(batch, "summary: batch") < 1:
        msg = f"summary: batch={batch}, expected a number from 1 on"
        raise SpecError(msg)
    targets = {id(target.module): target for target in find_targets(model, None)}
    watched = Watched([target.module for target in targets.values()])
    seen = {} if data is None else watched.run(model, batches_of(data)[:1], call or call_model)
    rows: list[SummaryRow] = []
    counted: set[int] = set()
    inside: set[int] = set()
    made: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, Layer):
            if id(module) in inside:
                # Layers within a table or a convolution are how it is done, without arrays.
                continue
            inside.update(id(inner) for inner in module.modules())
        maker = maker_of(module) if isinstance(module, Layer) else None
        made.update(() if maker is None else (id(inner) for inner in maker.modules()))
        if id(module) in made:
            continue  # the parameters of isometries are those of their layer
        held = [p for p in homes_of(module)[0].values() if p is not None]
        held += [] if maker is None else maker.parameters()
        own = sum(p.numel() for p in held)
        new = [p for p in held if id(p) not in counted]
        counted.update(map(id, new))
        if not own and not isinstance(module, Layer):
            continue
        size = seen[id(module)].rows if id(module) in seen else batch
        target = targets.get(id(module))
        tied = own - sum(p.numel() for p in new)
        rows.append(_row(name, module, target, size, objective, own, tied))
    total = sum((row.own for row in rows), NO_COST)
    dense = sum((row.dense for row in rows), NO_COST)
    return Summary(tuple(rows), total, dense, objective, batch)


def _row(
    name: str,
    module: nn.Module,
    target: Target | None,
    rows: int,
    objective: Objective,
    parameters: int,
    tied: int,
) -> SummaryRow:
    """One layer; an array that an earlier one has, too, counts there."""
    alone = ModuleCost(parameters - tied, 0, 0.0, 0)
    kind = type(module).__name__
    if isinstance(module, Layer) and not module.graph.inputs:
        return _without_inputs(name, module, objective, alone)
    if target is None or not target.dense.options:
        return SummaryRow(name, kind, rows, False, alone, alone)
    weight = str(target.dense.weight.dtype).removeprefix("torch.")
    device = "cuda" if target.dense.weight.is_cuda else "cpu"
    setting = Setting(objective, device, weight if weight in DTYPES else "float32")
    found = stay_cost(target, rows, setting)
    own = ModuleCost(parameters - tied, found.flops, found.seconds, found.memory)
    if not isinstance(module, Layer):
        return SummaryRow(name, kind, rows, True, own, own)
    shape = (target.dense.in_features, target.dense.out_features)
    dense = dense_cost(target.dense.kind, *shape, rows, setting, bias=target.dense.has_bias)
    label = sum_label(module.graphs)
    return SummaryRow(name, f"{kind}: {label}", rows, True, own, dense)


def _without_inputs(name: str, layer: Layer, objective: Objective, alone: ModuleCost) -> SummaryRow:
    """A layer that contracts itself: it meets no samples, and no dense layer does the same."""
    array = next(iter(dict(layer.named_arrays()).values()), None)
    device = "cuda" if array is not None and array.is_cuda else "cpu"
    setting = Setting(objective, device, str(layer.dtype).removeprefix("torch."))
    found = network_cost(LINEAR, layer.graphs, 1, setting)
    own = ModuleCost(alone.parameters, found.flops, found.seconds, found.memory)
    kind = f"{type(layer).__name__}: {sum_label(layer.graphs)}"
    return SummaryRow(name, kind, 0, True, own, own, has_dense=False)


def _cells(name: str, kind: str, row: SummaryRow) -> tuple[str, ...]:
    def pair(own: str, dense: str) -> tuple[str, str]:
        if not row.is_counted:
            return "-", "-"
        return own, dense if row.has_dense else "-"

    own, dense = row.own, row.dense
    return (
        name,
        kind,
        f"{row.rows:,}" if row.rows else "",
        f"{own.parameters:,}",
        f"{dense.parameters:,}" if row.has_dense else "-",
        *pair(f"{own.flops:,}", f"{dense.flops:,}"),
        *pair(milliseconds(own.seconds), milliseconds(dense.seconds)),
        *pair(f"{own.memory / 1024:,.0f}", f"{dense.memory / 1024:,.0f}"),
    )


def _plain(cost: ModuleCost) -> dict[str, Any]:
    return {name: getattr(cost, name) for name in cost.__dataclass_fields__}
