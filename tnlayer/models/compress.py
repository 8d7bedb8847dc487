"""compress: networks in place of a model's matrices, in one call."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..fitting.clock import Clock
from ..fitting.fit import check_seconds
from ..fitting.fitted import Fitted
from ..graph.argument_checks import (
    as_number,
    check_flag,
    check_option,
    check_whole,
    did_you_mean,
    shown,
)
from ..graph.describe import sum_label
from ..graph.graph import Graph
from ..graph.told_calls import told
from ..measure.median_time import median_seconds
from ..nn.dense_modules import CONV1D, EMBEDDING, LINEAR, replace_module
from ..nn.layer import Layer
from ..planning.request import OBJECTIVES
from ..support.dtypes import DTYPES
from ..support.option_words import Objective
from ..support.progress import progress as progress_bar
from ..support.told import told as told_work
from .budget_rule import Budget, Search, stay_cost
from .data import Call, Seen, Watched, as_evaluated, batches_of, call_model
from .matrix_fit import fit_matrix, module_of
from .module_cost import ModuleCost, Setting
from .report import CompressReport, ModuleRow
from .rules import FACTORIZED, Choice, check_patterns, check_rule, choose
from .targets import Filter, Target, find_targets

# A model has many modules: what a single fit would take a minute for is cut.
_FIT = {"steps": 20, "starts": 2}
# Seconds until it says what goes on.
_PATIENCE = 5.0
# Seconds that each module's fit may take, of those that the modules before it left.
_SECONDS = 30.0


@told(
    "tn.compress(model, tn.topologies.low_rank, compression=4), or tn.Budget(compression=4) as the "
    "rule for the whole model"
)
def compress(
    model: nn.Module,
    rule: Any,
    data: Any = None,
    filter_fn: Filter | None = None,
    dry_run: bool = False,
    *,
    compression: float = 4.0,
    batch: int = 256,
    objective: Objective = "train",
    loss: Callable[..., Any] | None = None,
    call: Call | None = None,
    measure: bool = False,
    fit_options: Mapping[str, Any] | None = None,
    progress: bool = True,
    seconds: float | None = None,
    **layer_options: Any,
) -> CompressReport:
    """Put tensor networks in place of a model's linear modules, convolutions and embeddings.

    Modules of the classes nn.Linear, nn.Conv2d, nn.Embedding and transformers' Conv1D are looked
    at. One that stands in several places is replaced in all. These stay, and the report says why:
    modules of derived classes, with weights that others have too (tied), that are parametrized,
    pruned, quantised, or have hooks. All networks are fitted before any module is swapped, so that
    an error, or Ctrl-C, leaves the model as it was. Make the optimizer afterwards.

    Arguments:
        model: changed in place; may itself be a module that is replaced: take ``report.model``.
        rule: a topology (of ``tn.topologies``, or your own), for each module at ``compression``; a
            network; a function (module, name) -> network, ``tn.fit_budget(...)`` or None to leave
            the module; a dict from name patterns ("layers.*.fc1") to rules, of which the first that
            matches counts; or ``tn.Budget(...)`` for the whole model.
        data: a batch of the model's inputs, or several: tensors, dicts of arguments, or pairs whose
            first is the input. Errors are weighted by what each module sees of them (embeddings
            excepted), and times are predicted for as many rows. Takes in_features^2 numbers for
            each module.
        filter_fn: (module, name) -> bool: which modules to look at.
        dry_run: report only; nothing of the model changes.
        compression: for topologies: parameters of a module for one of its network, by default 4.
        batch: rows that a module meets in a call, where no data tells.
        objective: "train" or "infer": what is planned for and predicted.
        loss: for a Budget with data: (model, batch) -> number; measures how much each module's
            error matters, with that module alone replaced. Without it all count alike.
        call: (model, batch): how to run the model on data, if not as ``model(batch)``.
        measure: whether to time each module and the model, before and after.
        fit_options: of :func:`tnlayer.fit`; steps=20 and starts=2 are meant for many modules, more
            take longer and come nearer where there is no closed form.
        progress: whether to show bars on a terminal.
        seconds: that all fits may take together, about; the best until then is kept. By default
            30 for each module; ``math.inf`` for no limit, so that the same seed gives the same.
        layer_options: of the layers, as for :class:`tnlayer.Layer`, such as backend.

    Returns:
        what was done to each module, why, and what it costs; ``print`` it.

    Raises:
        SpecError: the rule is none, a network does not fit, a pattern matches nothing, the budget
            cannot be kept, or the model is compiled, scripted or wrapped for parallel training.

    >>> import torch.nn as nn, tnlayer as tn
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    >>> report = tn.compress(model, {"0": tn.topologies.tensor_train}, compression=4)
    >>> report.parameters_before, report.parameters, [row.name for row in report.replaced]
    (4680, 1608, ['0'])
    """
    # Layers of tensors that were made in inference mode could never be trained.
    with torch.inference_mode(False), told_work("compressing a model", after=_PATIENCE):
        return _compress(
            model, rule, data, filter_fn, dry_run, compression, batch, objective, loss, call,
            measure, fit_options, progress, seconds, layer_options,
        )  # fmt: skip


def _compress(
    model: nn.Module,
    rule: Any,
    data: Any,
    filter_fn: Filter | None,
    dry_run: bool,
    compression: float,
    batch: int,
    objective: Objective,
    loss: Callable[..., Any] | None,
    call: Call | None,
    measure: bool,
    fit_options: Mapping[str, Any] | None,
    progress: bool,
    seconds: float | None,
    layer_options: Mapping[str, Any],
) -> CompressReport:
    if not isinstance(model, nn.Module):
        msg = f"compress: expected a torch.nn.Module, got {shown(model)}"
        raise SpecError(msg)
    for value, name in ((dry_run, "dry_run"), (measure, "measure"), (progress, "progress")):
        check_flag(value, f"compress: {name}")
    check_option(objective, "objective", OBJECTIVES)
    if check_whole(batch, "compress: batch") < 1:
        msg = f"compress: batch={batch}, expected a number from 1 on"
        raise SpecError(msg)
    ratio = as_number(compression)
    if ratio is None or not ratio > 0:
        msg = f"compress: compression={shown(compression)}, expected a positive number"
        raise SpecError(msg)
    check_seconds(seconds, "compress")
    _check_layer_options(layer_options)
    if not isinstance(rule, Budget):
        check_rule(rule)
    targets = find_targets(model, filter_fn)
    check_patterns(rule, targets)
    if not targets:
        msg = (
            "compress: the model has no nn.Linear, Conv1D, nn.Conv2d or nn.Embedding that "
            "filter_fn lets through; nothing can be compressed"
        )
        raise SpecError(msg)
    work = _Work(
        *(model, targets, batch, objective, call or call_model),
        {**_FIT, **(fit_options or {})},
        progress,
        seconds,
    )
    batches = None if data is None else batches_of(data)
    if batches is not None:
        work.see(batches)
    if isinstance(rule, Budget):
        total = None if loss is None else _total_loss(loss, batches)
        choices = work.search(rule, total).choose(targets)
    else:
        choices = {
            target.name: choose(rule, target, ratio, work.rows(target))
            for target in targets
            if not target.obstacle
        }
    made = work.make(choices, layer_options)
    before = _parameters(model)
    times = work.time(made) if measure else {}
    whole_before = _model_seconds(model, batches, work.call) if measure else None
    rows = tuple(work.row(target, choices, made, times) for target in targets)
    whole, after, root = None, 0, model
    is_kept = False
    try:
        root = _swapped(model, made)
        whole = _model_seconds(root, batches, work.call) if measure else None
        after = _parameters(root)
        is_kept = not dry_run
    finally:
        if not is_kept:
            root = _swapped_back(root, made)
    if is_kept and "transformers" in sys.modules:
        from ..huggingface.quantizer import attach

        attach(root)
    return CompressReport(root, rows, before, after, objective, dry_run, whole_before, whole)


# Options of a layer that are those of the module which it replaces, and two that need entries or
# names of several networks before there are any.
_OF_MODULE = ("net", "others", "bias", "dtype", "device", "isometries", "shared")


def _check_layer_options(options: Mapping[str, Any]) -> None:
    """Refuse unknown options, before an hour is spent on fits."""
    of_layer = [name for name in inspect.signature(Layer).parameters if name not in _OF_MODULE]
    for name in options:
        if name not in of_layer:
            hint = did_you_mean(name, [*inspect.signature(compress).parameters, *of_layer])
            msg = (
                f"compress: {name}= is no option of it{hint}; those of layers are "
                f"{', '.join(of_layer)}"
            )
            raise SpecError(msg)


Made = list[tuple[Target, Layer, Fitted]]


class _Work:
    """What one call looks at and makes, before anything is swapped."""

    def __init__(
        self,
        model: nn.Module,
        targets: list[Target],
        batch: int,
        objective: Objective,
        call: Call,
        fit_options: dict[str, Any],
        progress: bool,
        seconds: float | None,
    ) -> None:
        self.model, self.targets, self.batch = model, targets, batch
        self.objective: Objective = objective
        self.call, self.fit_options = call, fit_options
        self.progress, self.seconds = progress, seconds
        self.seen: dict[int, Seen] = {}

    def see(self, batches: list[Any]) -> None:
        """Run the model on data."""
        watched = [target.module for target in self.targets]
        free = [one for one in self.targets if not one.obstacle and one.dense.kind != EMBEDDING]
        whitened = frozenset(id(one.module) for one in free)
        self.seen = Watched(watched, whitened).run(self.model, batches, self.call)

    def rows(self, target: Target) -> int:
        """Samples that a module meets in a call."""
        seen = self.seen.get(id(target.module))
        return seen.rows if seen is not None and seen.rows else self.batch

    def setting(self, target: Target) -> Setting:
        """How a module is run."""
        weight = target.dense.weight
        name = str(weight.dtype).removeprefix("torch.")
        device = "cuda" if weight.device.type == "cuda" else "cpu"
        return Setting(self.objective, device, name if name in DTYPES else "float32")

    def search(self, budget: Budget, loss: Callable[[nn.Module], float] | None) -> Search:
        """The search for a budget; predictions are for the first module that can be replaced."""
        free = [target for target in self.targets if not target.obstacle]
        setting = self.setting(free[0]) if free else Setting(self.objective)
        options = self.fit_options
        return Search(
            *(budget, self.model, self.seen, self.batch, setting, loss, options, self.progress)
        )

    def make(self, choices: Mapping[str, Choice], layer_options: Mapping[str, Any]) -> Made:
        """The new modules, with their entries."""
        chosen = [target for target in self.targets if _choice(choices, target).graphs]
        made: Made = []
        options = {"objective": self.objective, **layer_options}
        clock = Clock.of(_SECONDS * len(chosen) if self.seconds is None else self.seconds)
        with progress_bar("fitting", len(chosen), shown=self.progress) as advance:
            for number, target in enumerate(chosen):
                graphs = _choice(choices, target).graphs
                seen = self.seen.get(id(target.module))
                # What is left is shared by those that are left.
                share = {"seconds": clock.left / (len(chosen) - number), **self.fit_options}
                fitted = _fitted(graphs, target, seen, share)
                made.append((target, module_of(graphs, target, fitted, options), fitted))
                advance()
        return made

    def time(self, made: Made) -> dict[str, tuple[float, float]]:
        """Measured seconds of a call of each module before and after, by name."""
        found: dict[str, tuple[float, float]] = {}
        for target, new, _ in made:
            x = self._sample(target)
            if x is None:
                continue
            new.prepare((self.rows(target),))
            names = {"old": target.module, "new": new}
            calls = {name: _step(module, x, self.objective) for name, module in names.items()}
            seconds = median_seconds(calls, budget=0.5)
            found[target.name] = (seconds["old"], seconds["new"])
            for module in names.values():
                module.zero_grad(set_to_none=True)
        return found

    def row(
        self,
        target: Target,
        choices: Mapping[str, Choice],
        made: Made,
        times: Mapping[str, tuple[float, float]],
    ) -> ModuleRow:
        """What became of a module."""
        dense, rows, setting = target.dense, self.rows(target), self.setting(target)
        choice = _choice(choices, target)
        before = stay_cost(target, rows, setting)
        new = next((one for one in made if one[0] is target), None)
        now: ModuleCost = before
        if new is not None:
            now = _cost_of(target, new[1], rows, setting)
        old_time, new_time = times.get(target.name, (None, None))
        return ModuleRow(
            name=target.name,
            places=len(target.places),
            kind=dense.kind,
            in_features=dense.in_features,
            out_features=dense.out_features,
            rows=rows,
            network=sum_label(choice.graphs),
            why=target.obstacle or choice.why,
            dense=before,
            now=now,
            residual=None if new is None else new[2].residual,
            whitened_residual=None if new is None else new[2].whitened_residual,
            method="" if new is None else new[2].method,
            seconds=0.0 if new is None else new[2].seconds,
            measured_dense=old_time,
            measured=new_time,
        )

    def _sample(self, target: Target) -> torch.Tensor | None:
        """A random input of a module with as many rows as it meets; None for a convolution, whose
        image is not known."""
        dense, rows = target.dense, self.rows(target)
        device = dense.weight.device
        if dense.kind in (LINEAR, CONV1D):
            return torch.randn(rows, dense.in_features, dtype=dense.weight.dtype, device=device)
        if dense.kind == EMBEDDING:
            return torch.randint(dense.in_features, (rows,), device=device)
        return None


def _fitted(
    graphs: tuple[Graph, ...], target: Target, seen: Seen | None, options: Mapping[str, Any]
) -> Fitted:
    """The entries for a module; an error says for which."""
    try:
        return fit_matrix(graphs, target, seen, **options)
    except SpecError as error:
        where = f"module {shown(target.name)}" if target.name else "the model"
        msg = f"compress: {where}: {error}"
        raise SpecError(msg) from error


def _swapped(model: nn.Module, made: Made) -> nn.Module:
    """The model with new modules in place of the old."""
    for target, new, _ in made:
        model = replace_module(model, target.module, new)
    return model


def _swapped_back(model: nn.Module, made: Made) -> nn.Module:
    """The model as it was."""
    for target, new, _ in reversed(made):
        model = replace_module(model, new, target.module)
    return model


def _cost_of(target: Target, new: Layer, rows: int, setting: Setting) -> ModuleCost:
    """The cost of a new module."""
    twin = Target(target.name, target.places, new, target.dense, "", True)
    return stay_cost(twin, rows, setting)


def _choice(choices: Mapping[str, Choice], target: Target) -> Choice:
    return choices.get(target.name, FACTORIZED)


def _step(module: nn.Module, x: torch.Tensor, objective: Objective) -> Callable[[], object]:
    """One call to time."""

    def infer() -> object:
        with torch.no_grad():
            return module(x)

    def train() -> object:
        module(x).square().mean().backward()
        return None

    trains = objective == "train" and any(one.requires_grad for one in module.parameters())
    return train if trains else infer


def _model_seconds(model: nn.Module, batches: list[Any] | None, call: Call) -> float | None:
    """Measured seconds of a model's forward on the first batch."""
    if not batches:
        return None
    with as_evaluated(model), torch.no_grad():
        seconds = median_seconds({"model": lambda: call(model, batches[0])}, budget=1.0)
    return seconds["model"]


def _total_loss(
    loss: Callable[..., Any], batches: list[Any] | None
) -> Callable[[nn.Module], float]:
    """The mean loss of a model over all batches."""
    if batches is None:
        msg = "compress: loss= needs data=: batches that it is measured on"
        raise SpecError(msg)
    return lambda model: sum(float(loss(model, batch)) for batch in batches) / len(batches)


def _parameters(model: nn.Module) -> int:
    """Parameters of a model, each once."""
    return sum(array.numel() for array in model.parameters())
