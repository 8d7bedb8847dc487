"""Cost: what a network costs, known before anything runs, as a frozen printable value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..graph.argument_checks import listed
from ..graph.drawing.options import Style
from ..graph.graph import Graph
from ..ir.counts import Amount, Counts
from ..ir.plan import Plan
from ..ir.plan_text import at_batch, milliseconds, plan_text
from ..ir.table_text import table
from ..ir.written_table import WrittenTable
from ..lowering.calls.training_schedules import Mask
from ..planning.break_even import BreakEven, find_break_even
from ..planning.path_of_plan import path_of
from ..planning.planner import PlannedGraph
from ..planning.predictions import DENSE, Prediction, seconds_by_name
from ..support.html import bars_svg, block, heading, html_table, lines
from ..support.option_words import Labels
from ..support.wording import fewer
from ..targets.backend import backend_of
from ..targets.lowered import Lowered
from .cost_drawing import DrawnPlans, draw_plans
from .verdict import kind_of, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = "largest intermediate, entries"


@dataclass(frozen=True, slots=True, repr=False)
class Cost(WrittenTable):
    """Counts of one network at one batch size, beside those of the dense layer it replaces.

    A network without inputs, such as a norm or an energy, has no samples and replaces no layer: its
    text leaves both out.

    Arguments:
        label: the network's label.
        batch: samples of one call, where an input has some.
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
        predictions: predicted times on the plan's backends, and of dense where one dense layer does
            the same.
        profile: the device profile that they rest on, in words.
        planned: where the plan comes from.
        lowered: what it was lowered to, for a training step.
        one_plan: whether the plan serves every batch size, as in a Layer with ``batch``.
        frozen: trainable tensors that the layer keeps frozen now (``requires_grad_(False)``); plans
            are made, and all is counted, as if they were trained.

    >>> import tnlayer as tn
    >>> net = tn.topologies.low_rank(64, 64, rank=4)
    >>> cost = tn.cost(net, batch=16, backend="torch", minimize="flops")
    >>> cost.parameters, cost.dense_parameters, cost.compression
    (512, 4096, 8.0)
    >>> cost.forward_flops, cost.backward_flops  # of one call with 16 samples
    (16384, 32768)
    >>> cost.dense_forward_flops, cost.dense_backward_flops
    (131072, 262144)
    >>> cost.forward_peak <= cost.training_peak, cost.dense_forward_peak, cost.dense_bytes
    (True, 4096, 24576)
    >>> cost.largest_intermediate, cost.width, cost.samples, cost.dtype  # y: 16 x 64 entries
    (1024, 10.0, 16, 'float32')
    >>> cost.graph == net.freeze(), cost.path  # x with V, and that with U
    (True, ((0, 1), (0, 1)))
    >>> round(cost.intensity, 2), cost.backend, cost.objective, cost.notes
    (1.52, 'torch', 'train', ())
    >>> cost.predicted("dense").training > 0, cost.fastest.backend, cost.reason[:6]
    (True, 'torch', 'fewest')
    >>> {"", *(step.result.name for step in cost.plan.steps)} <= set(cost.step_seconds())
    True
    >>> print(cost.table_lines()[0])
    cost of low rank at batch 16, float32
    >>> print(cost.steps_text().splitlines()[0])
    plan for batch 16, float32, the order of fewest FLOPs (proven optimal)
    >>> cost.numbers()["parameters"], cost.kernel_bytes(), cost.lowered_for(None).backend
    (512, 0, 'torch')
    >>> cost.break_even().checked
    65536
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
    predictions: tuple[Prediction, ...]
    profile: str
    planned: PlannedGraph = field(repr=False, compare=False)
    lowered: Lowered = field(repr=False, compare=False)
    one_plan: bool = False
    frozen: tuple[str, ...] = ()

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
    def graph(self) -> Graph:
        """The network."""
        return self.planned.graph

    @property
    def dtype(self) -> str:
        """Of the arithmetic."""
        return self.plan.dtype

    @property
    def samples(self) -> int:
        """Of one call: ``batch``; 1 where no input has samples."""
        return self.batch if self.graph.is_batched else 1

    @property
    def path(self) -> tuple[tuple[int, ...], ...]:
        """The order of contraction of the forward as opt_einsum, numpy and cotengra write it.

        Pairs of places in a list of operands: each pair is taken out and its product appended.

        Operands are the inputs, of a product input one vector a leg, and behind them the tensors in
        the order of ``graph.tensors``. Where the plan computes equal products once, the path has
        each of them; how a memory limit is kept it does not tell.
        """
        return path_of(self.plan, self.graph, self.planned.form)

    @property
    def largest_intermediate(self) -> int:
        """Entries of the largest value that a step of the forward makes at the batch size, y
        included: see :meth:`tnlayer.Plan.largest_intermediate`."""
        return self.plan.largest_intermediate(self.batch)

    @property
    def width(self) -> float:
        """The contraction width: log2 of ``largest_intermediate``."""
        return math.log2(self.largest_intermediate)

    @property
    def dense_forward_flops(self) -> int:
        """FLOPs of the dense layer's forward call."""
        return 2 * self.dense_parameters * self.samples

    @property
    def dense_backward_flops(self) -> int:
        """FLOPs of the dense layer's backward call."""
        return 2 * self.dense_forward_flops

    @property
    def dense_forward_peak(self) -> int:
        """Bytes that the dense layer's forward allocates: y."""
        return self.samples * self.graph.out_features * self.plan.itemsize

    @property
    def dense_bytes(self) -> int:
        """Bytes that the dense layer's forward reads and writes: x, W and y."""
        # The training peak has y, the gradient of x, which is as large as x, and that of W.
        return self.dense_training_peak

    @property
    def intensity(self) -> float:
        """FLOPs for one byte that the forward's steps read or write."""
        moved = self.forward.bytes_read + self.forward.bytes_written
        work = self.forward.flops + self.forward.elementwise
        return work.at(self.batch) / max(1, moved.at(self.batch))

    # -- predictions -----------------------------------------------------------------------

    def predicted(self, backend: str) -> Prediction | None:
        """The predicted times on a backend, or of "dense".

        Arguments:
            backend: its name.

        Returns:
            seconds of one call; None where nothing is predicted for it.
        """
        return next((one for one in self.predictions if one.backend == backend), None)

    @property
    def fastest(self) -> Prediction:
        """The predicted times on the backends of the plan."""
        return self.predictions[0]

    @property
    def backend(self) -> str:
        """What runs the plan: "torch", "cpp", "cuda", "mixed" or what was registered."""
        return self.plan.backend

    @property
    def notes(self) -> tuple[str, ...]:
        """What the backends of the plan say of themselves."""
        names = dict.fromkeys(region.backend for region in self.plan.regions)
        return tuple(dict.fromkeys(note for name in names for note in backend_of(name).notes))

    @property
    def objective(self) -> str:
        """What the plan was chosen for: "train" or "infer"."""
        return self.planned.request.objective

    @property
    def reason(self) -> str:
        """Why this plan: the objective that found it, its predicted time, and the runners-up."""
        choice = self.planned.choice
        notes = [choice.reason]
        if self.plan.batch != self.batch and self.graph.is_batched:
            notes = [f"at batch {self.plan.batch:,}, {choice.reason}"]
        if choice.cut:
            notes.append(choice.cut)
        if choice.stored:
            notes.append("read from the store of plans")
        return "; ".join(notes)

    def break_even(self) -> BreakEven | None:
        """The batch sizes at which this is predicted to beat dense; None without a dense layer.

        Plans for other batch sizes may have to be searched for, which takes seconds at the first
        call for large networks.
        """
        return find_break_even((self.planned,), one_plan=self.one_plan)

    def step_seconds(self) -> dict[str, float]:
        """Predicted seconds of each step of the plan, in a training step's forward and backward.

        By the name of the step's result in ``plan`` and ``backward_plan``; "" has what only the
        results and autograd need. Where kernels are compiled, a step's backward counts for it, and
        "" has the start of calls as well. The sum is the predicted time.
        """
        return self.lowered.step_seconds(self.batch)

    def draw(
        self,
        path: str | Path | None = None,
        *,
        labels: Labels = "all",
        style: Style | None = None,
        title: bool = True,
        legend: bool = True,
    ) -> Figure:
        """Draw the orders of forward and backward side by side, with the predicted ms of each step
        (``pip install tnlayer[viz]``).

        Where kernels are compiled, the ms of a step in the forward are those of its backward, too,
        and the backward has shares of its FLOPs.

        Arguments:
            path: file to save the picture to; the suffix says its format: .svg, .png, .pdf, ...
            labels: what stands in boxes: "all" (names and sizes), "names", "sizes" or "none".
            style: colours by what they mean, as for :meth:`Plan.draw`.
            title: whether steps, FLOPs and the search stand above.
            legend: whether what the colours mean stands above.

        Raises:
            BuildError: matplotlib is missing.
            PlanError: a plan has too many steps for a picture.
            SpecError: a label, a colour, a flag or the format is none.

        >>> import tnlayer as tn
        >>> cost = tn.cost(tn.topologies.low_rank(64, 64, rank=4), batch=16)
        >>> len(cost.draw().axes)
        2
        """
        drawn = DrawnPlans(self.plans, self.step_seconds())
        return draw_plans([drawn], path, labels=labels, style=style, title=title, legend=legend)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plan and that of its gradients; the first alone where nothing is learned.

        >>> import tnlayer as tn
        >>> len(tn.cost(tn.topologies.low_rank(64, 64, rank=4), batch=16).plans)
        2
        """
        both = self.plan, self.backward_plan
        return both if self.backward_plan is not self.plan else both[:1]

    def kernel_bytes(self, mask: Mask | None = None) -> int:
        """Bytes of the workspace of the plan's compiled kernels, by default in training.

        Arguments:
            mask: for each input of the plan, whether its gradient is wanted.
        """
        return self.lowered_for(mask).workspace

    def lowered_for(self, mask: Mask | None) -> Lowered:
        """The plan lowered for a mask of wanted gradients, by default those of training.

        Arguments:
            mask: for each input of the plan, whether its gradient is wanted.
        """
        if mask is None or mask == self.lowered.mask:
            return self.lowered
        return self.planned.lowered_for(mask)

    # -- as numbers and text ---------------------------------------------------------------

    def numbers(self, *, break_even: bool = False) -> dict[str, Any]:
        """The counts and predictions as plain values, for a file.

        Arguments:
            break_even: whether to add the batch ranges at which dense is slower, which may need
                a search: [low, high], high null where there is no end.
        """
        batch, has_inputs = self.batch, bool(self.graph.inputs)
        # Of what has no samples, or stands for no layer, there is no number.
        return {
            "label": self.label,
            "batch": batch if self.graph.is_batched else None,
            "dtype": self.plan.dtype,
            "parameters": self.parameters,
            "stored": self.stored,
            "dense_parameters": self.dense_parameters if has_inputs else None,
            "compression": self.compression if has_inputs else None,
            "forward_flops": self.forward_flops,
            "backward_flops": self.backward_flops,
            "forward_elementwise": self.forward.elementwise.at(batch),
            "backward_elementwise": self.backward.elementwise.at(batch),
            "dense_forward_flops": self.dense_forward_flops if has_inputs else None,
            "dense_backward_flops": self.dense_backward_flops if has_inputs else None,
            "forward_bytes": (self.forward.bytes_read + self.forward.bytes_written).at(batch),
            "backward_bytes": (self.backward.bytes_read + self.backward.bytes_written).at(batch),
            "saved_bytes": self.saved.at(batch),
            "forward_peak": self.forward_peak,
            "training_peak": self.training_peak,
            "dense_training_peak": self.dense_training_peak if has_inputs else None,
            "intensity": self.intensity,
            "largest_intermediate": self.largest_intermediate,
            "width": self.width,
            "forward_calls": self.forward_calls,
            "backward_calls": self.backward_calls,
            **seconds_by_name(self.predictions),
            "profile": self.profile,
            "reason": self.reason,
            "remarks": list(self.lowered.remarks),
            **(self._break_even_numbers() if break_even else {}),
        }

    def _break_even_numbers(self) -> dict[str, Any]:
        found = self.break_even()
        parts = ("training", "inference")
        return {
            f"faster_than_dense_{part}": found and [list(ends) for ends in getattr(found, part)]
            for part in parts
        }

    def __repr__(self) -> str:
        return f"<Cost of {self._title}>"

    def __str__(self) -> str:
        return "\n".join((*self.table_lines(), *self._remarks()))

    @property
    def _title(self) -> str:
        kind = kind_of(self.graph)
        what = f"{self.label or 'network'}{kind and f', a {kind}'}"
        return f"{what}{at_batch(self.plan, self.batch)}, {self.plan.dtype}"

    def _remarks(self) -> list[str]:
        """Why this plan, and whether it is faster than dense."""
        dense = self.predicted(DENSE)
        told = verdict(self.graph, self.batch, self.fastest, dense, self.break_even())
        return [f"plan: {self.reason}", *told]

    def _repr_html_(self) -> str:
        table = html_table(self._table())
        bars = bars_svg(
            [(one.backend, (1e3 * one.forward, 1e3 * one.backward)) for one in self.predictions],
            ("ms forward", "ms backward"),
        )
        remarks = (*self._below(), *self._remarks())
        return block(heading(f"cost of {self._title}"), bars, table, lines(remarks))

    def table_lines(self) -> list[str]:
        """The counts and times beside those of dense, and what they rest on: quick, without a
        search."""
        return [f"cost of {self._title}", *table(self._table()), *self._below()]

    def _below(self) -> list[str]:
        """Where counts are not what runs, and what times and counts rest on."""
        times = f"times: predicted with the profile {self.profile}"
        return [*self.lowered.remarks, times, *frozen_lines(self.frozen)]

    def steps_text(self) -> str:
        """The steps of the plan as a table: legs, FLOPs, bytes and predicted times."""
        seconds = self.step_seconds()
        forward = plan_text(self.plan, seconds, self.batch)
        return "\n".join((forward, *self.lowered.lines(self.batch, seconds)))

    def _table(self) -> list[tuple[str, ...]]:
        """A header and rows, with a column for dense where the network has inputs."""
        rows = [("", "network", "dense"), *self._rows()]
        if self.graph.inputs:
            return [*rows]
        return [(name, own) for name, own, _ in rows]

    def _rows(self) -> list[tuple[str, str, str]]:
        batch = self.batch
        moved = [(c.bytes_read + c.bytes_written).at(batch) for c in (self.forward, self.backward)]
        of_dense = self.dense_bytes
        compression = fewer(self.dense_parameters, self.parameters).removesuffix(" than dense")
        flops = [self.forward_flops, self.backward_flops]
        dense_flops = [self.dense_forward_flops, self.dense_backward_flops]
        intensity = self.dense_forward_flops / of_dense
        per_sample = [f"{count / self.samples:,.0f}" for count in flops]
        dense = [f"{count // self.samples:,}" for count in dense_flops]
        rows = [
            ("parameters", f"{self.parameters:,}", f"{self.dense_parameters:,}"),
            *([("compression", compression, "")] if self.graph.inputs else []),
            *(
                (f"FLOPs a sample, {name}", per_sample[k], dense[k])
                for k, name in enumerate(("forward", "backward"))
                if self.graph.is_batched
            ),
            ("FLOPs a call, forward", f"{flops[0]:,}", f"{dense_flops[0]:,}"),
            ("FLOPs a call, backward", f"{flops[1]:,}", f"{dense_flops[1]:,}"),
            ("elementwise, forward", f"{self.forward.elementwise.at(batch):,}", "0"),
            ("elementwise, backward", f"{self.backward.elementwise.at(batch):,}", "0"),
            ("bytes moved, forward", f"{moved[0]:,}", f"{of_dense:,}"),
            ("bytes moved, backward", f"{moved[1]:,}", f"{2 * of_dense:,}"),
            ("bytes saved for backward", f"{self.saved.at(batch):,}", "0"),
            ("peak bytes, forward", f"{self.forward_peak:,}", f"{self.dense_forward_peak:,}"),
            ("peak bytes, training", f"{self.training_peak:,}", f"{self.dense_training_peak:,}"),
            (
                LARGEST,
                f"{self.largest_intermediate:,}",
                f"{self.samples * self.graph.out_features:,}",
            ),
            ("FLOPs a byte, forward", f"{self.intensity:.1f}", f"{intensity:.1f}"),
            ("calls, forward + backward", f"{self.forward_calls} + {self.backward_calls}", "1 + 2"),
            *self._time_rows(),
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

    def _time_rows(self) -> list[tuple[str, str, str]]:
        """Three rows a backend."""
        dense = self.predicted(DENSE)
        return [
            (
                f"predicted ms {name}, {one.backend}",
                milliseconds(getattr(one, part)),
                "-" if dense is None else milliseconds(getattr(dense, part)),
            )
            for one in self.predictions
            if one.backend != DENSE
            for part, name in (
                ("forward", "forward"),
                ("backward", "backward"),
                ("inference", "forward without grad"),
            )
        ]


def frozen_lines(frozen: Sequence[str]) -> list[str]:
    """That a step which leaves tensors out costs less than is told; nothing where there are none.

    Arguments:
        frozen: their names.
    """
    if not frozen:
        return []
    return [
        "backward, saved bytes, training peak and times are of a step that trains all tensors; "
        f"frozen now: {listed(frozen, ', ')}"
    ]
