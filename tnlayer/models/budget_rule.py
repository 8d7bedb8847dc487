"""Budget: topology and size of each module of a model, so that the whole keeps a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..budget.fit import fit_budget, smallest_parameters
from ..budget.topology import Topology, check_topology
from ..errors import PlanError, SpecError
from ..fitting.closed_network import close
from ..fitting.fitted import Fitted
from ..graph.argument_checks import as_number, listed, shown
from ..graph.graph import Graph, count_parameters
from ..graph.told_calls import told_class
from ..nn.dense_modules import replace_module
from ..nn.layer import Layer
from ..support.progress import progress as progress_bar
from ..topologies.btt import btt
from ..topologies.kronecker import kronecker
from ..topologies.low_rank import low_rank
from ..topologies.tensor_train import tensor_train
from .allocate import Option, TooSmallError, allocate, fastest_alike
from .data import Seen, as_evaluated
from .matrix_fit import fit_matrix, module_of, parameters_of, why_unfit
from .module_cost import ModuleCost, Setting, dense_cost, network_cost
from .rules import FACTORIZED, Choice
from .targets import Target

# Topologies and numbers of legs that are tried; more legs rarely win where the error counts.
TRIED: tuple[tuple[Topology, int | None], ...] = (
    (low_rank, None),
    (tensor_train, 2),
    (tensor_train, 3),
    (btt, 2),
    (kronecker, 2),
)
# Compressions of single modules that are tried.
LEVELS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
# Of those, by how much less and more than the budget's own they may be.
_LESS, _MORE = 4, 8
# Residuals that differ by less than this share are alike: then the faster network is taken. Errors
# are squares of them.
_ALIKE = 1.02**2 - 1

Loss = Callable[[nn.Module], float]
# Networks that are tried for a module, each with what it is in words.
Networks = Callable[[Target], Iterator[tuple[Graph, str]]]


@told_class("tn.Budget(compression=8), or params= or time=")
@dataclass(frozen=True, slots=True)
class Budget:
    """A budget for a whole model, as a rule of :func:`tnlayer.compress`.

    Exactly one of the first three. All parameters of the model count, those of modules that stay
    too; an array that several share counts once.

    Arguments:
        compression: parameters of the model as it is for one of the compressed, from 1 on, or
        params: most parameters, or
        time: share of the predicted time of the model's matrices as they are, from 0 to 1.
        topologies: what is tried for each module, by default low_rank, tensor_train, btt (which at
            rank 1 is Monarch) and kronecker, the last three with few legs.

    Raises:
        SpecError: there is not exactly one budget, or it is no such number.

    >>> import tnlayer as tn
    >>> budget = tn.Budget(compression=8)
    >>> budget.kind, budget.amount, len(budget.tried)
    ('compression', 8.0, 5)
    """

    compression: float | None = None
    params: float | None = None
    time: float | None = None
    topologies: Sequence[Topology] | None = None

    def __post_init__(self) -> None:
        given = {
            name: value
            for name in ("compression", "params", "time")
            if (value := getattr(self, name)) is not None
        }
        if len(given) != 1:
            got = ", ".join(given) or "none"
            msg = f"Budget: expected exactly one of compression, params and time, got {got}"
            raise SpecError(msg)
        ((name, value),) = given.items()
        number = as_number(value)
        least, most = {"compression": (1, math.inf), "time": (0, 1)}.get(name, (0, math.inf))
        if number is None or not 0 < number < math.inf or not least <= number <= most:
            expected = {
                "compression": "a number from 1 on: 8 leaves an eighth of the parameters",
                "time": "a number above 0 and at most 1",
            }.get(name, "a positive number")
            msg = f"Budget: {name}={shown(value)}, expected {expected}"
            raise SpecError(msg)
        tried: Any = self.topologies
        if isinstance(tried, Sequence):
            for one in (tried,) if isinstance(tried, str) else tried:
                check_topology(one, "Budget")
        if tried is not None and not (isinstance(tried, Sequence) and tried):
            msg = (
                f"Budget: topologies={shown(self.topologies)}, expected functions of tn.topologies"
            )
            raise SpecError(msg)

    @property
    def kind(self) -> str:
        """ "compression", "params" or "time"."""
        return next(
            name for name in ("compression", "params", "time") if getattr(self, name) is not None
        )

    @property
    def amount(self) -> float:
        """The number that was given."""
        return float(getattr(self, self.kind))

    @property
    def tried(self) -> tuple[tuple[Topology, int | None], ...]:
        """Topologies and numbers of legs."""
        return TRIED if self.topologies is None else tuple((one, None) for one in self.topologies)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to have a module.

    Arguments:
        graphs: networks; none: as it is.
        text: what it is, in words; of a module as it is why nothing else can be had.
        cost: predicted; of networks only the parameters where no time is asked for.
        error: square of the relative residual, whitened where there was data, times the module's
            sensitivity.
    """

    graphs: tuple[Graph, ...]
    text: str
    cost: ModuleCost
    error: float


@dataclass(frozen=True, slots=True)
class Search:
    """What the choice rests on.

    Arguments:
        budget: to keep.
        model: the model.
        seen: what each module saw of data, by its id.
        batch: rows of modules that saw none.
        setting: how modules are run, for predictions.
        loss: of the model, or None: residuals count alone.
        fit_options: of :func:`tnlayer.fit`.
        progress: whether to show a bar.
    """

    budget: Budget
    model: nn.Module
    seen: Mapping[int, Seen]
    batch: int
    setting: Setting
    loss: Loss | None
    fit_options: Mapping[str, Any]
    progress: bool

    def choose(self, targets: Sequence[Target]) -> dict[str, Choice]:
        """A network or none for each module, by name.

        Raises:
            SpecError: the budget is smaller than any choice can be.
        """
        free = [target for target in targets if not target.obstacle and not target.is_layer]
        ways = self._all_ways(free, self._networks)
        fixed, most = self._fixed_and_most(targets, free, ways)
        try:
            options, chosen = self._allocated(ways, most - fixed)
        except TooSmallError:
            # Sizes near the budget's own do not keep it: the smallest of all topologies are tried.
            smallest = self._all_ways(free, self._smallest_networks)
            ways = [
                [more[0], *first[1:], *more[1:]] for first, more in zip(ways, smallest, strict=True)
            ]
            try:
                options, chosen = self._allocated(ways, most - fixed)
            except TooSmallError as error:
                stays = _stays(targets, free, ways)
                raise SpecError(self._too_small(error.least + fixed, most, stays)) from None
        if self.budget.kind != "time":
            dense = [of_one[0].cost.seconds for of_one in ways]
            options, chosen = self._timed(free, ways, options, chosen)
            chosen = fastest_alike(options, chosen, most - fixed, _ALIKE, dense)
        return {
            target.name: self._choice(target, of_one, option)
            for target, of_one, option in zip(free, ways, chosen, strict=True)
        }

    def _all_ways(self, free: Sequence[Target], networks: Networks) -> list[list[Way]]:
        """All that is tried for each module."""
        ways: list[list[Way]] = []
        with progress_bar("trying networks", len(free), shown=self.progress) as advance:
            for target in free:
                ways.append(self._ways(target, networks))
                advance()
        return ways

    def _allocated(
        self, ways: Sequence[Sequence[Way]], most: float
    ) -> tuple[list[list[Option]], list[Option]]:
        """All ways as options, and the one chosen for each module."""
        options = [
            [
                Option(self._amount(way), way.error, number, way.cost.seconds)
                for number, way in enumerate(of_one)
            ]
            for of_one in ways
        ]
        return options, allocate(options, most)

    def _timed(
        self,
        free: Sequence[Target],
        ways: Sequence[Sequence[Way]],
        options: Sequence[Sequence[Option]],
        chosen: Sequence[Option],
    ) -> tuple[list[list[Option]], list[Option]]:
        """The options about as good as those chosen with their times: plans of all take long."""
        found: list[list[Option]] = []
        for target, of_one, all_of_one, own in zip(free, ways, options, chosen, strict=True):
            timed = list(all_of_one)
            for place, option in enumerate(all_of_one):
                way = of_one[option.number]
                if way.graphs and option.error <= (1 + _ALIKE) * own.error:
                    timed[place] = replace(option, seconds=self._cost(target, way.graphs).seconds)
            found.append(timed)
        return found, [
            next(option for option in of_one if option.number == own.number)
            for of_one, own in zip(found, chosen, strict=True)
        ]

    # -- one module ------------------------------------------------------------------------

    def _ways(self, target: Target, networks: Networks) -> list[Way]:
        """All that is tried for a module, dense first."""
        dense, rows = target.dense, self._rows(target)
        cost = dense_cost(
            dense.kind,
            dense.in_features,
            dense.out_features,
            rows,
            self.setting,
            bias=dense.has_bias,
        )
        reason = why_unfit(target, self.seen.get(id(target.module)))
        found: list[Way] = []
        best: tuple[float, tuple[Graph, ...], Fitted] | None = None
        for graph, text in () if reason else networks(target):
            graphs = (graph,)
            try:
                # Only a budget of time asks what those cost that are not chosen: plans take long.
                timed = self.budget.kind == "time"
                count = parameters_of(graphs, target)
                own = self._cost(target, graphs) if timed else ModuleCost(count, 0, 0.0, 0)
                # A closed form as it is: the one that is chosen is fitted with all care.
                fitted = fit_matrix(graphs, target, None, steps=1, starts=1, seed=0, quick=True)
            except (PlanError, SpecError) as error:
                reason = reason or str(error)
                continue
            error = residual_on(graphs, target, fitted, self.seen.get(id(target.module))) ** 2
            found.append(Way(graphs, text, own, error))
            # The sensitivity is measured where the error is moderate.
            if best is None or abs(math.log((error + 1e-12) / 0.05)) < best[0]:
                best = (abs(math.log((error + 1e-12) / 0.05)), graphs, fitted)
        scale = 1.0
        if self.loss is not None and best is not None:
            scale = self._sensitivity(target, best[1], best[2])
        found = [replace(one, error=one.error * scale) for one in found]
        return [Way((), reason or "no network that was tried is smaller", cost, 0.0), *found]

    def _cost(self, target: Target, graphs: tuple[Graph, ...]) -> ModuleCost:
        """The predicted cost of networks in place of a module."""
        dense = target.dense
        bias = parameters_of(graphs, target) - count_parameters(graphs)
        rows = self._rows(target)
        return network_cost(
            dense.kind, graphs, rows, self.setting, bias=bias, options=dense.options
        )

    def _networks(self, target: Target) -> Iterator[tuple[Graph, str]]:
        """Networks of all topologies and sizes for a module, each once."""
        dense, seen = target.dense, set[Graph]()
        for topology, legs in self.budget.tried:
            for level in self._levels():
                try:
                    found = fit_budget(
                        topology,
                        dense.in_features,
                        dense.out_features,
                        compression=level,
                        batch=self._rows(target),
                        legs=legs,
                        effort=self.setting.effort,
                    )
                except SpecError:  # no network of this topology is so small, or there is none
                    continue
                graph = found.network().freeze()
                if graph in seen or graph.parameter_count >= dense.in_features * dense.out_features:
                    continue
                seen.add(graph)
                yield graph, found.call

    def _smallest_networks(self, target: Target) -> Iterator[tuple[Graph, str]]:
        """The smallest network of each topology for a module, where that is smaller than it."""
        dense = target.dense
        for topology, legs in self.budget.tried:
            sizes = (topology, dense.in_features, dense.out_features)
            try:
                least = smallest_parameters(*sizes, legs=legs)
                found = fit_budget(*sizes, params=least, batch=self._rows(target), legs=legs)
            except SpecError:  # there is none
                continue
            graph = found.network().freeze()
            if graph.parameter_count < dense.in_features * dense.out_features:
                yield graph, found.call

    def _levels(self) -> list[float]:
        budget = self.budget
        if budget.kind == "time":
            middle = 1 / budget.amount
        elif budget.kind == "compression":
            middle = budget.amount
        else:
            middle = _parameters(self.model) / budget.amount
        return [level for level in LEVELS if middle / _LESS <= level <= middle * _MORE]

    def _sensitivity(self, target: Target, graphs: tuple[Graph, ...], fitted: Fitted) -> float:
        """How much the loss rises for one unit of a module's squared residual, measured with that
        module alone replaced."""
        assert self.loss is not None
        error = residual_on(graphs, target, fitted, self.seen.get(id(target.module))) ** 2
        if not error:
            return 0.0
        new = module_of(graphs, target, fitted, {"backend": "torch", "effort": "fast"})
        with as_evaluated(self.model), torch.no_grad():
            before = float(self.loss(self.model))
            if not math.isfinite(before):
                msg = (
                    f"compress: loss= gives {before:g} for the model as it is, by which no module "
                    "can be weighed: look at the model's weights and at data, or leave loss= out"
                )
                raise SpecError(msg)
            root = replace_module(self.model, target.module, new)
            try:
                root.eval()
                after = float(self.loss(root))
            finally:
                replace_module(root, new, target.module)
        # Noise may lower a loss; no module is free.
        return max(after - before, 1e-6 * abs(before)) / error

    def _rows(self, target: Target) -> int:
        seen = self.seen.get(id(target.module))
        return seen.rows if seen is not None and seen.rows else self.batch

    # -- the budget ------------------------------------------------------------------------

    def _amount(self, way: Way) -> float:
        return way.cost.seconds if self.budget.kind == "time" else way.cost.parameters

    def _fixed_and_most(
        self, targets: Sequence[Target], free: Sequence[Target], ways: Sequence[Sequence[Way]]
    ) -> tuple[float, float]:
        """What modules that stay take of the budget, and the budget in the same unit."""
        budget = self.budget
        now = [self._amount(of_one[0]) for of_one in ways]
        if budget.kind == "time":
            staying = [target for target in targets if target not in free]
            rest = sum(stay_cost(one, self._rows(one), self.setting).seconds for one in staying)
            return rest, budget.amount * (sum(now) + rest)
        total = _parameters(self.model)
        if budget.kind == "compression":
            return total - sum(now), total / budget.amount
        return total - sum(now), budget.amount

    def _too_small(self, least: float, most: float, stays: str) -> str:
        budget = self.budget
        advice = "let it replace more of the modules, allow more topologies, or ask for less"
        if budget.kind == "time":
            share = budget.amount * least / most
            return (
                f"compress: time={budget.amount:g} of what the model's matrices take cannot be "
                f"had: the fastest choice that was tried takes {share:.3g}{stays}; {advice}"
            )
        total = _parameters(self.model)
        # Rounded down: what the message names can be asked for.
        ratio = math.floor(100 * total / least) / 100
        return (
            f"compress: {budget.kind}={budget.amount:g} cannot be had: the smallest choice leaves "
            f"{int(least):,} of {total:,} parameters, a compression of {ratio:,}, for biases and "
            f"modules that stay count as well{stays}; {advice}"
        )

    def _choice(self, target: Target, ways: Sequence[Way], option: Option) -> Choice:
        way, dense = ways[option.number], ways[0]
        if not way.graphs:
            best = "dense is the best use of the budget here"
            return Choice((), best if len(ways) > 1 else dense.text)
        cost = way.cost if self.budget.kind == "time" else self._cost(target, way.graphs)
        saved = dense.cost.parameters - cost.parameters
        gained = 1e3 * (dense.cost.seconds - cost.seconds)
        times = f"saves {saved:,} parameters and {gained:.3g} ms"
        if gained < 0:
            times = f"saves {saved:,} parameters, costs {-gained:.3g} ms"
        return Choice(way.graphs, f"{way.text}: {times} for {self._price(target, way)} as tried")

    def _price(self, target: Target, way: Way) -> str:
        """What a way costs in errors, in the words of the report's columns."""
        if self.loss is not None:
            return f"a loss higher by {way.error:.3g}"
        seen = self.seen.get(id(target.module))
        name = "error" if seen is None or seen.covariance is None else "whitened error"
        return f"{name} {math.sqrt(way.error):.3g}"


def _stays(targets: Sequence[Target], free: Sequence[Target], ways: Sequence[Sequence[Way]]) -> str:
    """Why modules stay as they are whatever the budget is, in words; "" where none does."""
    reasons: dict[str, list[str]] = {}
    tried = {id(target): of_one for target, of_one in zip(free, ways, strict=True)}
    for target in targets:
        of_one = tried.get(id(target), ())
        if len(of_one) > 1:
            continue
        reason = of_one[0].text if of_one else target.obstacle or FACTORIZED.why
        name = shown(target.name) if target.name else "the model"
        reasons.setdefault(reason, []).append(name)
    if not reasons:
        return ""
    told = [f"{listed(names, ', ')} ({reason})" for reason, names in reasons.items()]
    return f"; modules that stay: {listed(told, ', ')}"


def stay_cost(target: Target, rows: int, setting: Setting) -> ModuleCost:
    """The cost of a module as it is."""
    dense = target.dense
    if isinstance(target.module, Layer):
        bias = target.dense.out_features if dense.has_bias else 0
        graphs = target.module.graphs
        return network_cost(dense.kind, graphs, rows, setting, bias=bias, options=dense.options)
    return dense_cost(
        dense.kind, dense.in_features, dense.out_features, rows, setting, bias=dense.has_bias
    )


@torch.no_grad()
def residual_on(
    graphs: tuple[Graph, ...], target: Target, fitted: Fitted, seen: Seen | None
) -> float:
    """The relative error of a module's outputs on what it saw; of its matrix, if it saw nothing."""
    if seen is None or seen.covariance is None:
        return fitted.residual
    wanted = target.dense.matrix().to(seen.covariance)
    arrays = {name: array.to(wanted.dtype) for name, array in fitted.parameters.items()}
    made = torch.zeros_like(wanted)
    for graph in graphs:
        made += close(graph).dense(arrays)[: wanted.shape[0], : wanted.shape[1]]
    return _size(wanted - made, seen.covariance) / max(_size(wanted, seen.covariance), 1e-300)


def _size(matrix: torch.Tensor, covariance: torch.Tensor) -> float:
    """The norm of a matrix on inputs of this covariance."""
    return math.sqrt(max(0.0, float(((matrix @ covariance) * matrix.conj()).sum().real)))


def _parameters(model: nn.Module) -> int:
    """Parameters of a model, each once."""
    return sum(array.numel() for array in model.parameters())
