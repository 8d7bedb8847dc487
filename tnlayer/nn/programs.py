"""The programs of a layer: for each dtype and kind of device, and with a memory limit for what a
call holds beside the networks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count as counter
from typing import Any, cast
from uuid import uuid4

import torch

from ..dispatch.memory_shares import share_limit
from ..dispatch.programs_by_batch import RangedProgram
from ..dispatch.sum_of_networks import BIAS, SummedRanges
from ..errors import PlanError
from ..graph.graph import Graph
from ..ir.counts import Amount
from ..planning.batch_ranges import upper_end
from ..planning.request import TRAIN, Request
from ..runtime import cuda_devices, torch_ops
from ..runtime.array_checks import Expected
from ..runtime.autograd import Runnable, is_copy
from .layer_inputs import dtype_name

NOTHING = Amount()

# Tells layers apart that were tuned.
_apart = counter()
# Tells processes apart: torch keeps compiled graphs on disk and finds them by what dynamo saw,
# which does not say what was planned. Another process may plan otherwise, and save other arrays.
_PROCESS = uuid4().hex


@dataclass(frozen=True, slots=True)
class Beside:
    """Entries a sample that whoever calls a layer holds beside it, which a memory limit counts.

    Arguments:
        infer: without gradients.
        train: with gradients.
    """

    infer: int = 0
    train: int = 0


ALONE = Beside()


class LayerPrograms:
    """The programs of networks whose results a layer adds.

    Arguments:
        graphs: the networks.
        request: as for the planner; dtype and device are those of a call.
        one_plan: whether the user named the batch size.
        log_scale: whether results have a scale of their own.
        beside: what a caller holds.
        has_tiers: whether torch's calls may run while kernels are built.
        has_trials: whether first calls decide between plans whose predictions are close.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        request: Request,
        *,
        one_plan: bool,
        log_scale: bool,
        beside: Beside = ALONE,
        has_tiers: bool = True,
        has_trials: bool = False,
    ) -> None:
        self.graphs, self.request, self.one_plan = tuple(graphs), request, one_plan
        self.log_scale, self.beside, self.has_tiers = log_scale, beside, has_tiers
        # Of several networks none is timed alone.
        self.has_trials = has_trials and len(self.graphs) == 1
        self._plain: dict[tuple[torch.dtype, str], tuple[RangedProgram, ...]] = {}
        self._shared: dict[tuple[int, Request, Amount], tuple[RangedProgram, ...]] = {}
        self._sums: dict[tuple[tuple[RangedProgram, ...], bool], SummedRanges] = {}
        self._taken: dict[tuple[torch.dtype, bool, int], RangedProgram | SummedRanges] = {}
        # Where these programs run as operations of torch, this stands for them; equal for equal
        # layers, so that what torch compiled for one of them serves all.
        self.key = _key(self)
        # Dimensions of the one input where a call has one leading dimension; -1: of several inputs.
        ports = self.graphs[0].inputs
        shapes = [self.graphs[0].input_shape(port) for port in ports if port.batched]
        self.flat_dim = 1 + len(shapes[0]) if len(ports) == len(shapes) == 1 else -1
        # Which of the arrays has the batch.
        self.batched = next((place for place, port in enumerate(ports) if port.batched), None)
        # Names of the tensors in the order in which programs take them, for all batch sizes, and
        # all arrays; known once there is a plan.
        self.order: tuple[str, ...] = ()
        self.expected: tuple[Expected, ...] = ()
        self._known = torch_ops.register(self.key, self)

    def plain(self, dtype: torch.dtype, device: str) -> tuple[RangedProgram, ...]:
        """The program of each network where a call holds nothing beside it, and wants what the
        layer was made for: what torch traces, too.

        Arguments:
            dtype: of parameters and arithmetic.
            device: the type of device that the arrays lie on.
        """
        programs = self._plain.get((dtype, device))
        if programs is None:
            request = replace(self.request, dtype=dtype_name(dtype), device=device)
            if self._is_shared(request.memory_limit, self._held(request, dtype)):
                programs = self.of(dtype, device)
            else:
                programs = self._alike(request)
            names = (name for ranged in programs for name in ranged.known.parameter_order)
            self.order = tuple(dict.fromkeys(names))
            self.expected = self._expected(self.order)
            self._plain[dtype, device] = programs
        return programs

    def of(
        self,
        dtype: torch.dtype,
        device: str,
        *,
        batch: int | None = None,
        copied: Amount = NOTHING,
        trains: bool = False,
    ) -> tuple[RangedProgram, ...]:
        """The program of each network for a call.

        Arguments:
            dtype, device: as for ``plain``.
            batch: samples of a call; by default what was planned for.
            copied: bytes of copies of its inputs that a call has made.
            trains: whether gradients are wanted, which matters with a memory limit.

        Raises:
            PlanError: the limit cannot be kept.
        """
        limit = self.request.memory_limit
        if limit is None:
            return self.plain(dtype, device)
        objective = TRAIN if trains else self.request.objective
        request = replace(self.request, dtype=dtype_name(dtype), device=device, objective=objective)
        held = self._held(request, dtype) + copied
        if not self._is_shared(limit, held):
            if objective == self.request.objective:
                return self.plain(dtype, device)
            key = request.batch, request, held
            if key not in self._shared:
                self._shared[key] = self._alike(request)
            return self._shared[key]
        # The largest batch size that is planned together with this one; else this one alone.
        batch = request.batch if batch is None else max(1, batch)
        for size in (upper_end(batch, request.batch, one_plan=self.one_plan), batch):
            sized = replace(request, batch=size)
            known = self._shared.get((size, sized, held))
            if known is not None:
                return known
            try:
                shared = share_limit(self.graphs, sized, held)
            except PlanError:
                if size == batch:
                    raise
                continue
            self._shared[size, sized, held] = found = self._programs(shared, one_plan=True)
            return found
        raise AssertionError

    def summed(
        self, programs: tuple[RangedProgram, ...], *, has_bias: bool
    ) -> RangedProgram | SummedRanges:
        """The networks' programs and the bias as one."""
        if len(programs) == 1 and not has_bias:
            return programs[0]
        found = self._sums.get((programs, has_bias))
        if found is None:
            found = self._sums[programs, has_bias] = SummedRanges(programs, has_bias)
        return found

    def copied(
        self, graph: Graph, inputs: Sequence[torch.Tensor], flat: Sequence[torch.Tensor]
    ) -> Amount:
        """With a memory limit: bytes of the copies of inputs that a call has made, and of the
        gradients of those that were cast.

        Arguments:
            graph: any of the networks.
            inputs: of the call.
            flat: what is contracted.
        """
        total = NOTHING
        if self.request.memory_limit is None:
            return total
        for port, x, copy in zip(graph.inputs, inputs, flat, strict=True):
            if not is_copy(copy, x):
                continue
            cast = x.dtype != copy.dtype and x.requires_grad and torch.is_grad_enabled()
            rows = len(copy) if port.batched else 1
            size = (2 if cast else 1) * copy.numel() // rows * copy.itemsize
            total += Amount(0, size) if port.batched else Amount(size, 0)
        return total

    @property
    def is_limited_alone(self) -> bool:
        """Whether all calls of one kind take one plan, whatever they hold and want."""
        if self.request.memory_limit is None:
            return True
        alone = len(self.graphs) == 1 and self.beside == ALONE
        return alone and self.request.objective == TRAIN

    # -- as operations of torch ------------------------------------------------------------

    @property
    def where(self) -> str:
        """Whose programs these are, for errors."""
        return f"layer of {self.graphs[0].label!r}"

    @property
    def out_features(self) -> int:
        """Features of y."""
        return self.graphs[0].out_features

    def _expected(self, order: Sequence[str]) -> tuple[Expected, ...]:
        """Ports, tensors in some order, and the bias."""
        graph = self.graphs[0]
        shapes = {p.name: p.shape for one in self.graphs for p in one.parameters}
        ports = [
            Expected(
                f"input {port.name!r}",
                (*((None,) if port.batched else ()), *graph.input_shape(port)),
            )
            for port in graph.inputs
        ]
        tensors = [Expected(f"tensor {name!r}", shapes[name]) for name in order]
        return (*ports, *tensors, Expected(BIAS, (graph.out_features,)))

    def at(self, like: torch.Tensor, count: int, batch: int, *, trains: bool) -> Runnable:
        """The program for so many arrays, with a bias or without, of a dtype and device."""
        on_gpu = cuda_devices.is_on_gpu(like)
        kind = like.dtype, on_gpu, count
        taken = self._taken.get(kind)
        if taken is None:
            device = "cuda" if on_gpu else "cpu"
            programs = self.of(like.dtype, device, batch=batch, trains=trains)
            has_bias = count == len(self.graphs[0].inputs) + len(self.order) + 1
            taken = self.summed(programs, has_bias=has_bias)
            if self.request.memory_limit is None:
                self._taken[kind] = taken
        # A graph is made for one program: it has no tiers.
        return cast(Runnable, taken.settled(batch))

    def flops(self, like: torch.Tensor, batch: int) -> int:
        """FLOPs of a forward without the bias."""
        device = "cuda" if cuda_devices.is_on_gpu(like) else "cpu"
        programs = self.of(like.dtype, device, batch=batch)
        return sum(ranged.settled(batch).plan.counts.flops.at(batch) for ranged in programs)

    def stand_apart(self) -> None:
        """Share no compiled graph with equal layers from now on: these programs were tuned."""
        self.key = f"{self.key.partition('#')[0]}#{next(_apart)}"
        self._known = torch_ops.register(self.key, self)

    def __getstate__(self) -> dict[str, Any]:
        """All but what the process knows."""
        return {**self.__dict__, "_known": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy serves graphs, too."""
        self.__dict__.update(state)
        is_apart = "#" in self.key
        self.key = _key(self)
        if is_apart:
            self.stand_apart()
        self._known = torch_ops.register(self.key, self)

    def _held(self, request: Request, dtype: torch.dtype) -> Amount:
        entries = self.beside.train if request.objective == TRAIN else self.beside.infer
        return Amount(0, entries * dtype.itemsize)

    def _alike(self, request: Request) -> tuple[RangedProgram, ...]:
        """The programs, all for the same request."""
        return self._programs((request,) * len(self.graphs), one_plan=self.one_plan)

    def _programs(
        self, requests: Sequence[Request], *, one_plan: bool
    ) -> tuple[RangedProgram, ...]:
        return tuple(
            RangedProgram(
                graph,
                own,
                one_plan=one_plan,
                log_scale=self.log_scale,
                has_tiers=self.has_tiers,
                has_trials=self.has_trials,
            )
            for graph, own in zip(self.graphs, requests, strict=True)
        )

    def _is_shared(self, limit: int | None, held: Amount) -> bool:
        """Whether no network has a memory limit for itself alone."""
        return limit is not None and (len(self.graphs) > 1 or held != NOTHING)


def _key(programs: LayerPrograms) -> str:
    """What programs depend on, as a short text: the networks with their names, for errors show
    them, and all options; entries of tensors are arguments."""
    graphs = [
        (g.label, g.leg_sizes, g.inputs, g.output, sorted(g.summed), g.fixed, g.is_complex,
         [(t.name, t.legs, t.share, t.conj, t.trainable, t.value is None) for t in g.tensors])
        for g in programs.graphs
    ]  # fmt: skip
    request, beside = programs.request, programs.beside
    options = (request.batch, programs.one_plan, programs.log_scale, beside)
    content = (_PROCESS, graphs, request, *options)
    return hashlib.sha256(repr(content).encode()).hexdigest()[:24]
