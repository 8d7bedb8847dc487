"""Autotuning: the few best candidate plans, timed on the device; the winner is kept.

A prediction is off by some percent, and so candidates that are predicted to be as fast as each
other are told apart by timing only. What was timed once is found in the store by later processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from ..errors import SpecError
from ..graph.graph import Graph
from ..hardware.detect_processor import processor_name
from ..measure.median_time import median_seconds
from ..planning.batch_ranges import EXACT, TUNED, Choice, plan_key, store_choice, stored_choice
from ..planning.mixture import plan_name
from ..planning.plan_search import Search
from ..planning.plan_store import PlanKey
from ..planning.planner import PlannedGraph, plan_graph, planned_with
from ..planning.rank import Ranked, rank
from ..planning.request import TRAIN, Request
from ..runtime.autograd import run
from ..runtime.program import Program
from ..support.debug import debug
from ..support.progress import progress_share
from ..targets.backend import same_code
from ..time_models.torch_calls import Seconds
from .build_program import program_of

# Seconds for all candidates together, and for the winner's forward alone.
BUDGET, _FORWARD_BUDGET = 1.0, 0.2

# How many candidates are timed; what is predicted to be this much slower than the best is not.
_TIMED = {"fast": 2, "default": 4, "high": 8}
_HOPELESS = 2.0

_SEED = 7


def tune_graph(
    graph: Graph,
    request: Request,
    arrays: Sequence[torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    wanted: Sequence[bool],
    *,
    whole_range: bool = True,
    budget: float = BUDGET,
) -> PlannedGraph:
    """The plan that is the fastest when timed, for ``request.batch`` or its whole range.

    The arrays are read only; their ``.grad``, the random state and the caller's grad mode are not
    touched. A call is forward and backward for objective "train", with gradients of the inputs that
    want one and of the parameters that require one; forward alone for "infer".

    Arguments:
        graph: the network.
        request: as for the planner; with a memory limit all candidates keep it.
        arrays: an input a port, of ``request.batch`` samples, where the network will run.
        parameters: the arrays by tensor name.
        wanted: for each input whether its gradient is wanted.
        whole_range: as for :func:`tnlayer.planning.planner.plan_graph`.
        budget: seconds to spend on timing; each candidate runs four times at least.

    Raises:
        SpecError: an array is on the meta device, where nothing can be timed.
        PlanError: no plan fits.
    """
    planned = plan_graph(graph, request, whole_range=whole_range)
    calls = _Calls(planned, arrays, parameters, wanted)
    key = _key(planned, calls, whole_range=whole_range)
    search = Search.begin(planned.form.graph, planned.request)
    choice = stored_choice(search, key, request.batch)
    if choice is None:
        choice = _time(search, planned, calls, budget)
        store_choice(key, choice)
    debug(1, f"plan of {graph.label!r} for batch {request.batch}: {choice.reason}")
    return planned_with(graph, planned.form, planned.request, choice)


def random_inputs(
    graph: Graph, batch: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Inputs to time calls with, which require a gradient where they can; torch's random state is
    not touched."""
    shapes = [((batch,) if p.batched else ()) + tuple(graph.input_shape(p)) for p in graph.inputs]
    with torch.inference_mode(False):
        found = [_random(shape, dtype, device) for shape in shapes]
        own = [port.dtype and getattr(torch, port.dtype) for port in graph.inputs]
        return tuple(
            x.to(kind or dtype).requires_grad_(not port.is_whole)
            for x, kind, port in zip(found, own, graph.inputs, strict=True)
        )


class _Calls:
    """Detached copies of the arrays, and calls of programs with them.

    Arguments:
        planned: the network, with any one of its plans.
        arrays, parameters, wanted: as for :func:`tune_graph`.
    """

    def __init__(
        self,
        planned: PlannedGraph,
        arrays: Sequence[torch.Tensor],
        parameters: Mapping[str, torch.Tensor],
        wanted: Sequence[bool],
    ) -> None:
        self.training = planned.request.objective == TRAIN
        self.wanted = {name: array.requires_grad for name, array in parameters.items()}
        self.wanted_inputs = tuple(wanted)
        self.device = next((a.device for a in (*arrays, *parameters.values())), torch.device("cpu"))
        if self.device.type == "meta":
            msg = (
                f"network {planned.graph.label!r}: its arrays are on the meta device, where "
                f"nothing can be timed; move the layer first, as layer.to_empty(device='cpu') does"
            )
            raise SpecError(msg)
        with torch.inference_mode(False):
            pairs = zip(arrays, self.wanted_inputs, strict=True)
            self.inputs = tuple(_detached(array, asked) for array, asked in pairs)
            self.parameters = {
                name: _detached(array, self.wanted[name]) for name, array in parameters.items()
            }
        self._gradient: torch.Tensor | None = None

    def mask(self, program: Program) -> tuple[bool, ...]:
        """Which inputs of the program's plan want a gradient."""
        if not self.training:
            return (False,) * len(program.plan.inputs)
        return (*self.wanted_inputs, *(self.wanted[name] for name in program.parameter_order))

    def whole(self, program: Program) -> Callable[[], None]:
        """What the user's code will run: forward, and the backward in training."""
        arrays = self._arrays(program)
        wanted = [array for array in arrays if array.requires_grad and self.training]

        def call() -> None:
            with torch.inference_mode(False), torch.set_grad_enabled(bool(wanted)):
                y = run(program, arrays)
                if wanted:
                    torch.autograd.grad(y, wanted, self._gradient_like(y), allow_unused=True)
            self._wait()

        return call

    def forward(self, program: Program) -> Callable[[], None]:
        """The forward of a training step alone, which saves what the backward needs."""
        arrays = self._arrays(program)

        def call() -> None:
            with torch.inference_mode(False), torch.set_grad_enabled(self.training):
                run(program, arrays)
            self._wait()

        return call

    def _arrays(self, program: Program) -> tuple[torch.Tensor, ...]:
        return (*self.inputs, *(self.parameters[name] for name in program.parameter_order))

    def _gradient_like(self, y: torch.Tensor) -> torch.Tensor:
        if self._gradient is None:
            self._gradient = _random(tuple(y.shape), y.dtype, y.device)
        return self._gradient

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _time(search: Search, planned: PlannedGraph, calls: _Calls, budget: float) -> Choice:
    """Time the candidates; the winner, with its measured seconds."""
    programs = _candidates(search, planned, calls)
    predicted = {name: ranked.seconds.total for name, (ranked, _) in programs.items()}
    with progress_share(f"timing {len(programs)} plans") as reach:
        timed = median_seconds(
            {name: calls.whole(program) for name, (_, program) in programs.items()},
            budget=budget,
            progress=reach,
        )
    winner = min(timed, key=lambda name: timed[name])
    program = programs[winner][1]
    seconds = Seconds(timed[winner])
    if any(calls.mask(program)):
        forward = median_seconds({winner: calls.forward(program)}, budget=_FORWARD_BUDGET)[winner]
        forward = min(forward, timed[winner])
        seconds = Seconds(forward, timed[winner] - forward)
    reason = _reason(planned.request.batch, timed, predicted)
    return Choice(search.lowered(programs[winner][0].plan), planned.choice.batches, seconds, reason)


def _candidates(
    search: Search, planned: PlannedGraph, calls: _Calls
) -> dict[str, tuple[Ranked, Program]]:
    """Programs by name: the plan that would be taken without timing, and the next best ones."""
    request, chosen = planned.request, planned.choice
    # Plans that keep a memory limit at the upper end of the range keep it in all of it.
    greatest = chosen.batches.greatest
    limited = request.memory_limit is not None
    batch = greatest if limited and greatest is not None else request.batch
    # Predictions for the range's own plan are those at its own batch size; told here at this one.
    search.note(chosen.lowered)
    plans = [chosen.plan, *(ranked.plan for ranked in rank(search, batch))]
    found = [Ranked(plan, search.lowered(plan).seconds(request.batch)) for plan in plans]
    found = _best_of_each_first(found)
    limit = _HOPELESS * min(ranked.seconds.total for ranked in found)
    programs: dict[str, tuple[Ranked, Program]] = {}
    count = Counter(plan_name(ranked.plan) for ranked in found)
    for ranked in found:
        lowered = search.lowered(ranked.plan)
        other_choice = replace(chosen, lowered=lowered)
        named = planned_with(planned.graph, planned.form, request, other_choice)
        program = program_of(named)
        # The best of each backend is timed even if it is predicted to lose: between backends
        # predictions are off by more than within one.
        new = all(other.plan.backend != named.plan.backend for other, _ in programs.values())
        bound = limit * (_HOPELESS if new else 1.0)
        hopeless = ranked.seconds.total > bound and bool(programs)
        known = any(same_code(search.lowered(r.plan), lowered) for r, _ in programs.values())
        if known or hopeless:
            continue
        name = plan_name(ranked.plan)
        if count[name] > 1:
            name = f"{name} for batch {ranked.plan.batch}"
        if name in programs:
            name = f"{name} ({len(programs)})"
        programs[name] = (ranked, program)
        if len(programs) == _TIMED[request.effort]:
            break
    return programs


def _best_of_each_first(found: list[Ranked]) -> list[Ranked]:
    """The chosen plan, the best one of each other backend, then the others as they come."""
    firsts: dict[str, Ranked] = {}
    for ranked in found:
        firsts.setdefault(ranked.plan.backend, ranked)
    heads = list(firsts.values())
    return heads + [ranked for ranked in found if all(ranked is not head for head in heads)]


def _key(planned: PlannedGraph, calls: _Calls, *, whole_range: bool) -> PlanKey:
    """Where the winner is stored: for this processor, its threads and these wanted gradients."""
    kind = TUNED if whole_range else f"{TUNED}, {EXACT}"
    key = plan_key(planned.form.key(), planned.request, kind)
    on_gpu = calls.device.type == "cuda"
    threads = 1 if on_gpu else torch.get_num_threads()
    where = f"{processor_name(calls.device.type)}, {threads} threads"
    tensors = {canonical: user for user, canonical in planned.form.tensor_names.items()}
    parameters = (calls.wanted[tensors[value.name]] for value in planned.plan.parameters)
    wanted = (*calls.wanted_inputs, *parameters) if calls.training else None
    return replace(key, device=calls.device.type, profile=f"{key.profile}, {where}", wanted=wanted)


def _reason(batch: int, timed: Mapping[str, float], predicted: Mapping[str, float]) -> str:
    """What was timed, the fastest first, beside what was predicted."""
    order = sorted(timed, key=lambda name: timed[name])
    found = ", ".join(f"{name} {1e3 * timed[name]:.3g} ms" for name in order)
    expected = ", ".join(f"{1e3 * predicted[name]:.3g}" for name in order)
    return f"timed on this device at batch {batch}: {found} (predicted {expected})"


def _random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An array with a random state of its own."""
    generator = torch.Generator(device).manual_seed(_SEED)
    return torch.rand(shape, dtype=dtype, device=device, generator=generator) - 0.5


def _detached(array: torch.Tensor, wanted: bool) -> torch.Tensor:
    """The same values without history."""
    return (array.clone() if array.is_inference() else array.detach()).requires_grad_(wanted)
