"""Rules: which network takes the place of a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..budget.fit import Fit, fit_budget
from ..budget.topology import SHAPE_PARAMETERS, Topology, name_of
from ..errors import SpecError
from ..graph.argument_checks import listed, shown
from ..graph.as_graph import as_graph
from ..graph.graph import Graph
from ..graph.network import Network
from ..graph.topology_names import as_written
from .targets import Target

Networks = tuple[Graph, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a rule says of a module.

    Arguments:
        graphs: the networks that take its place; none: it stays.
        why: in words.
    """

    graphs: Networks
    why: str


STAYS = Choice((), "no rule names it")
FACTORIZED = Choice((), "it is factorized already")


def is_topology(rule: object) -> bool:
    """Whether a rule is a topology: a function whose parameters say the shape of the ports."""
    if not callable(rule) or isinstance(rule, Network | Graph):
        return False
    try:
        names = set(inspect.signature(rule).parameters)
    except (TypeError, ValueError):
        return False
    return any(names.issuperset(shape) for shape in SHAPE_PARAMETERS)


def check_rule(rule: object) -> None:
    """Refuse what is no rule.

    Raises:
        SpecError: says what a rule may be.
    """
    if isinstance(rule, Mapping):
        for pattern, inner in rule.items():
            if not isinstance(pattern, str):
                msg = f"compress: pattern {shown(pattern)}: expected text such as 'layers.*.fc1'"
                raise SpecError(msg)
            if inner is not None:
                check_rule(inner)
        return
    if isinstance(rule, str):
        msg = f"compress: rule={shown(rule)} is text; write {as_written(rule)}"
        raise SpecError(msg)
    if not (callable(rule) or _are_networks(rule)):
        msg = (
            f"compress: rule={shown(rule)}: expected a topology such as tn.topologies.low_rank, a "
            "network, a function (module, name) -> network or None, a dict from name patterns to "
            "rules, or tn.Budget(...)"
        )
        raise SpecError(msg)


def check_patterns(rule: object, targets: Sequence[Target]) -> None:
    """Refuse patterns that no module of a model has.

    Raises:
        SpecError: names the pattern, and some of the modules.
    """
    if not isinstance(rule, Mapping):
        return
    for pattern in rule:
        if not any(_matches(pattern, target) for target in targets):
            names = [target.name for target in targets]
            msg = (
                f"compress: no module matches the pattern {shown(pattern)}; those that are "
                f"matrices: {listed(names, ', ')}"
            )
            raise SpecError(msg)


def choose(rule: Any, target: Target, compression: float, batch: int) -> Choice:
    """What a rule says of a module.

    Arguments:
        rule: a checked one, but no budget.
        target: the module.
        compression: for topologies: parameters of the module for one of the network.
        batch: for topologies: samples of a call.

    Raises:
        SpecError: a function returned something else than a network, or one that does not fit.
    """
    if rule is None:
        return Choice((), "its rule is None")
    if isinstance(rule, Mapping):
        for pattern, inner in rule.items():
            if _matches(pattern, target):
                return choose(inner, target, compression, batch)
        return STAYS
    if _are_networks(rule):
        return _of_result(rule, target, "the network given")
    if is_topology(rule):
        return _of_topology(rule, target, compression, batch)
    result = rule(target.module, target.name)
    if result is None:
        return Choice((), f"{name_of(rule)} returned None")
    return _of_result(result, target, f"{name_of(rule)}")


def _matches(pattern: str, target: Target) -> bool:
    return any(fnmatchcase(name, pattern) for name in target.places)


def _of_topology(rule: Topology, target: Target, compression: float, batch: int) -> Choice:
    if target.is_layer:
        return Choice((), "it is factorized already: name it in a function to do it again")
    dense = target.dense
    try:
        fit = fit_budget(
            rule, dense.in_features, dense.out_features, compression=compression, batch=batch
        )
    except SpecError as error:
        return Choice((), f"too small for it: {error}")
    return Choice((fit.network().freeze(),), f"{name_of(rule)} at {compression:g} x")


def _of_result(result: Any, target: Target, why: str) -> Choice:
    """The networks that a function gave."""
    if isinstance(result, Fit):
        result = result.network()
    if not _are_networks(result):
        msg = (
            f"compress: the rule gave {shown(result)} for {shown(target.name)}; expected a "
            "tnlayer.Network, several, tn.fit_budget(...), or None to leave the module"
        )
        raise SpecError(msg)
    nets = result if isinstance(result, Sequence) else (result,)
    graphs = tuple(as_graph(net) for net in nets)
    first = graphs[0]
    wanted = (target.dense.in_features, target.dense.out_features)
    has_port = len(first.inputs) == 1 and first.inputs[0].batched and not first.inputs[0].product
    got = (first.in_features, first.out_features) if has_port else (0, 0)
    if not has_port or got[0] < wanted[0] or got[1] < wanted[1]:
        msg = (
            f"compress: the network {first.label!r} for {shown(target.name)} maps {got[0]} to "
            f"{got[1]} features, expected at least {wanted[0]} to {wanted[1]}, with one batched "
            "input; make another for this module, or return None"
        )
        raise SpecError(msg)
    return Choice(graphs, why)


def _are_networks(value: object) -> bool:
    """One network, or several."""
    if isinstance(value, Network | Graph):
        return True
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return is_list and bool(value) and all(isinstance(one, Network | Graph) for one in value)  # type: ignore[attr-defined]


Rule = Topology | Network | Graph | Callable[..., Any] | Mapping[str, Any]
