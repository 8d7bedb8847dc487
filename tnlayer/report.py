"""Cost: what a network costs, known before anything runs, as a frozen printable value."""

from __future__ import annotations

from dataclasses import dataclass

from tnlayer.graph import Graph
from tnlayer.kernels.pair import schedule_pair
from tnlayer.network import Network
from tnlayer.plan.counts import Amount, Counts
from tnlayer.plan.plan import Plan
from tnlayer.plan.text import table
from tnlayer.planning.planner import (
    DEFAULT_BATCH,
    DEFAULT_MINIMIZE,
    PlannedGraph,
    PlanOptions,
    plan_graph,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts of one network at one batch size, beside those of the dense layer it replaces.

    Arguments:
        label: the network's label.
        batch: samples of one call.
        parameters: trainable entries; stored: all entries.
        dense_parameters: entries of the dense map with the same ports.
        forward: FLOPs and bytes of the forward's steps.
        backward: those of a training step's backward.
        saved: bytes kept from the forward to the backward, beside the inputs.
        forward_peak: bytes allocated at once by a forward without grad, y included.
        training_peak: by a forward and backward, y and the gradients included.
        dense_training_peak: the same of the dense layer: y, and the gradients of x and W.
        forward_calls, backward_calls: calls of torch, copies included.
        plan, backward_plan: what was counted.
    """

    label: str
    batch: int
    parameters: int
    stored: int
    dense_parameters: int
    forward: Counts
    backward: Counts
    saved: Amount
    forward_peak: int
    training_peak: int
    dense_training_peak: int
    forward_calls: int
    backward_calls: int
    plan: Plan
    backward_plan: Plan

    @property
    def compression(self) -> float:
        """Dense parameters for one trainable parameter of the network."""
        return self.dense_parameters / max(1, self.parameters)

    @property
    def forward_flops(self) -> int:
        """FLOPs of the contractions of one forward call."""
        return self.forward.flops.at(self.batch)

    @property
    def backward_flops(self) -> int:
        """FLOPs of the contractions of one backward call."""
        return self.backward.flops.at(self.batch)

    @property
    def dense_forward_flops(self) -> int:
        """FLOPs of the dense layer's forward call."""
        return 2 * self.dense_parameters * self.batch

    @property
    def dense_backward_flops(self) -> int:
        """FLOPs of the dense layer's backward call."""
        return 2 * self.dense_forward_flops

    @property
    def intensity(self) -> float:
        """FLOPs for one byte that the forward's steps read or write."""
        moved = self.forward.bytes_read + self.forward.bytes_written
        work = self.forward.flops + self.forward.elementwise
        return work.at(self.batch) / max(1, moved.at(self.batch))

    def numbers(self) -> dict[str, int | float | str]:
        """The counts as plain numbers, for a file."""
        batch = self.batch
        return {
            "label": self.label,
            "batch": batch,
            "dtype": self.plan.dtype,
            "parameters": self.parameters,
            "stored": self.stored,
            "dense_parameters": self.dense_parameters,
            "compression": self.compression,
            "forward_flops": self.forward_flops,
            "backward_flops": self.backward_flops,
            "forward_elementwise": self.forward.elementwise.at(batch),
            "backward_elementwise": self.backward.elementwise.at(batch),
            "dense_forward_flops": self.dense_forward_flops,
            "dense_backward_flops": self.dense_backward_flops,
            "forward_bytes": (self.forward.bytes_read + self.forward.bytes_written).at(batch),
            "backward_bytes": (self.backward.bytes_read + self.backward.bytes_written).at(batch),
            "saved_bytes": self.saved.at(batch),
            "forward_peak": self.forward_peak,
            "training_peak": self.training_peak,
            "dense_training_peak": self.dense_training_peak,
        }

    def __str__(self) -> str:
        rows = [("", "network", "dense"), *self._rows()]
        title = f"cost of {self.label or 'network'} at batch {self.batch}, {self.plan.dtype}"
        return "\n".join((title, *table(rows)))

    def _rows(self) -> list[tuple[str, str, str]]:
        batch = self.batch
        moved = [c.bytes_read + c.bytes_written for c in (self.forward, self.backward)]
        compression = f"{self.compression:,.1f}x fewer"
        per_sample = [f"{c.flops.at(batch) / batch:,.0f}" for c in (self.forward, self.backward)]
        dense = [self.dense_forward_flops // batch, self.dense_backward_flops // batch]
        rows = [
            ("parameters", f"{self.parameters:,}", f"{self.dense_parameters:,}"),
            ("compression", compression, ""),
            ("FLOPs a sample, forward", per_sample[0], f"{dense[0]:,}"),
            ("FLOPs a sample, backward", per_sample[1], f"{dense[1]:,}"),
            ("FLOPs a call, forward", f"{self.forward_flops:,}", f"{self.dense_forward_flops:,}"),
            (
                "FLOPs a call, backward",
                f"{self.backward_flops:,}",
                f"{self.dense_backward_flops:,}",
            ),
            ("elementwise, forward", f"{self.forward.elementwise.at(batch):,}", "0"),
            ("elementwise, backward", f"{self.backward.elementwise.at(batch):,}", "0"),
            ("bytes moved, forward", f"{moved[0].at(batch):,}", ""),
            ("bytes moved, backward", f"{moved[1].at(batch):,}", ""),
            ("bytes saved for backward", f"{self.saved.at(batch):,}", "0"),
            ("peak bytes, forward", f"{self.forward_peak:,}", ""),
            ("peak bytes, training", f"{self.training_peak:,}", f"{self.dense_training_peak:,}"),
            ("FLOPs a byte, forward", f"{self.intensity:.1f}", ""),
            ("calls, forward + backward", f"{self.forward_calls} + {self.backward_calls}", "1 + 2"),
        ]
        if self.plan.is_complex:
            real = self.forward.real_flops.at(batch), self.backward.real_flops.at(batch)
            rows.append(
                ("real FLOPs, forward", f"{real[0]:,}", f"{4 * self.dense_forward_flops:,}")
            )
            rows.append(
                ("real FLOPs, backward", f"{real[1]:,}", f"{4 * self.dense_backward_flops:,}")
            )
        return rows


def cost(
    net: Network | Graph,
    *,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    objective: str = "train",
    memory_limit: int | None = None,
    effort: str = "default",
    dtype: str | None = None,
    minimize: str = DEFAULT_MINIMIZE,
) -> Cost:
    """Count what a network costs, without running or allocating anything.

    Arguments:
        net: the network.
        batch: samples of one call.
        device, objective, memory_limit, effort, dtype, minimize: as for :func:`tnlayer.plan`.

    >>> import tnlayer as tn
    >>> c = tn.cost(tn.topologies.tensor_train((16, 16, 16), (16, 16, 16), rank=8), batch=1)
    >>> c.parameters, c.dense_parameters, round(c.compression)
    (20480, 16777216, 819)
    """
    options = PlanOptions(batch, objective, device, memory_limit, effort, dtype, minimize)
    planned = plan_graph(net, options)
    return cost_of(planned, batch)


def cost_of(planned: PlannedGraph, batch: int) -> Cost:
    """Counts of a planned graph at a batch size."""
    graph, plan = planned.graph, planned.plan
    mask = planned.training_mask
    pair = schedule_pair(plan, mask)
    inference = schedule_pair(plan, (False,) * len(mask))
    backward = pair.backward
    backward_plan = backward.plan if backward is not None else plan
    dense_in = graph.dense_parameter_count // graph.out_features
    entries = batch * (graph.out_features + dense_in) + graph.dense_parameter_count
    return Cost(
        label=graph.label,
        batch=batch,
        parameters=graph.parameter_count,
        stored=graph.stored_count,
        dense_parameters=graph.dense_parameter_count,
        forward=plan.counts,
        backward=backward_plan.counts if backward is not None else Counts(),
        saved=pair.forward.saved_bytes,
        forward_peak=inference.peak_bytes(batch),
        training_peak=pair.peak_bytes(batch),
        dense_training_peak=entries * plan.itemsize,
        forward_calls=inference.forward.kernel_count,
        backward_calls=backward.kernel_count if backward is not None else 0,
        plan=plan,
        backward_plan=backward_plan,
    )
