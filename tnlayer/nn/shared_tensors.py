"""Tensors that several networks of one layer have in common: each one parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..errors import SpecError
from ..graph.argument_checks import check_tensor_name, shown, suggest, take_bounded
from ..graph.graph import Graph, Parameter


def stored_parameters(
    graphs: Sequence[Graph], shared: bool | str | Sequence[str]
) -> tuple[Parameter, ...]:
    """The arrays that a sum of networks stores, each once.

    Arguments:
        graphs: the networks.
        shared: names of tensors that several networks have in common, or True: all such names.

    Raises:
        SpecError: two networks have a name in common that is not shared, what is shared differs in
            shape or flags, or a name is in fewer than two networks.
    """
    uses = Counter(parameter.name for graph in graphs for parameter in graph.parameters)
    common = [name for name, count in uses.items() if count > 1]
    wanted = common if shared is True else _names(shared)
    for name in wanted:
        if name not in common:
            known = "it is in one network only" if name in uses else "no network has it"
            msg = (
                f"shared tensor {name!r}: {known}, expected a tensor of two networks or more"
                f"{suggest(name, common)}"
            )
            raise SpecError(msg)
    owners: dict[str, tuple[Graph, Parameter]] = {}
    for graph in graphs:
        for parameter in graph.parameters:
            name = parameter.name
            if name not in owners:
                owners[name] = (graph, parameter)
                continue
            first = owners[name]
            if name not in wanted:
                msg = (
                    f"tensor {name!r} is in two of the networks ({first[0].label!r} and "
                    f"{graph.label!r}); pass shared=True or shared=({name!r},) to Layer if it is "
                    "one parameter, else give each its own names"
                )
                raise SpecError(msg)
            _check_equal(name, first, (graph, parameter))
    return tuple(parameter for _, parameter in owners.values())


def _names(shared: bool | str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(shared, bool):
        return ()
    if not isinstance(shared, Iterable):
        msg = f"Layer: shared must be True, False or names of tensors, got {shown(shared)}"
        raise SpecError(msg)
    names = shared.split() if isinstance(shared, str) else shared
    return tuple(check_tensor_name(name) for name in take_bounded(names, "Layer: shared"))


def _check_equal(name: str, one: tuple[Graph, Parameter], other: tuple[Graph, Parameter]) -> None:
    """What is one parameter has one shape, and one way to start."""
    first, second = _content(one[1]), _content(other[1])
    for what, value in first.items():
        if value != second[what]:
            msg = (
                f"tensor {name!r} is shared by networks {one[0].label!r} and {other[0].label!r}, "
                f"but its {what} differs: {value!r} and {second[what]!r}; make them equal, or give "
                "each network a tensor of its own"
            )
            raise SpecError(msg)


def _content(parameter: Parameter) -> dict[str, object]:
    node = parameter.node
    return {
        "shape": parameter.full_shape,
        "fixed indices": parameter.pins,
        "trainable": node.trainable,
        "value": node.value,
        "init": node.init,
        "isometry (its axes)": node.isometry,
    }
