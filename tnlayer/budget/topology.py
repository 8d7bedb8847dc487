"""A topology as a function of free sizes: what its parameters mean, and which shapes to try."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from ..errors import SpecError
from ..graph.argument_checks import check_whole, did_you_mean, shown, suggest
from ..graph.graph import Graph
from ..graph.network import Network
from ..graph.topology_names import as_written
from .shapes import ceiling_root, imbalance, padded_shape, splits

Topology = Callable[..., Network]
Sizes = int | tuple[int, ...]

# The parameters that say the shape of the ports, and those that say how large the network is.
SHAPE_PARAMETERS = (
    ("in_shape", "out_shape"),
    ("legs", "dim"),
    ("rows", "columns", "dim"),
    ("in_features", "out_features"),
    ("features",),
)
BOND_PARAMETERS = ("rank", "bond")
GROWTH_PARAMETERS = (*BOND_PARAMETERS, "depth")

# A sum of block terms needs a number of them: the smallest that is no plain Tucker.
_DEFAULT_TERMS = 2
_MOST_LEGS = 12
# All ways to split both ports into two legs are tried up to so many.
_MOST_SPLITS = 1024


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: a topology with some parameters given, between ports of some size.

    Arguments:
        function: returns a Network.
        given: arguments that are not to be chosen.
        in_features, out_features: features that the ports must have at least.
        legs: number of legs of each port, or None: all that make sense.
        shape: names of the parameters that say the shape of the ports.
        growth: name of the parameter that makes the network larger, or None.
    """

    function: Topology
    given: Mapping[str, Any]
    in_features: int
    out_features: int
    legs: int | None
    shape: tuple[str, ...]
    growth: str | None

    @property
    def name(self) -> str:
        """The function's name."""
        return name_of(self.function)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice of port shapes; only the growing parameter is open.

    Arguments:
        question: what was asked.
        arguments: arguments of the topology, but for the growing one.
    """

    question: Question
    arguments: Mapping[str, Any]

    def with_sizes(self, sizes: Sizes | None) -> dict[str, Any]:
        """All arguments, with the growing one at these sizes."""
        growth = self.question.growth
        return dict(self.arguments) if growth is None else {**self.arguments, growth: sizes}

    def build(self, sizes: Sizes | None = 1) -> Graph:
        """The network at these sizes."""
        arguments = self.with_sizes(sizes)
        try:
            net = self.question.function(**arguments)
        except SpecError:
            raise
        # Whatever the user's code raises where it cannot do a shape: others are tried.
        except Exception as error:
            call = ", ".join(f"{name}={shown(value)}" for name, value in arguments.items())
            why = f"{type(error).__name__}: {error}".removesuffix(": ")
            msg = f"{self.question.name}({call}) raised {why}"
            raise SpecError(msg) from error
        if not isinstance(net, Network):
            msg = f"{self.question.name} returned {type(net).__name__}; expected a tnlayer.Network"
            raise SpecError(msg)
        return net.freeze()


def name_of(function: object) -> str:
    """How messages call a topology."""
    return getattr(function, "__name__", type(function).__name__)


def call_text(function: Topology, arguments: Mapping[str, Any]) -> str:
    """The call of a topology, as it can be written in Python (behind ``tn.topologies.``) and on the
    command line.

    >>> from tnlayer.topologies import btt
    >>> call_text(btt, {"in_shape": (8, 8), "out_shape": (8, 8), "rank": 2})
    'btt((8, 8), (8, 8), rank=2)'
    """
    module = getattr(function, "__module__", "")
    is_own = module not in ("", "__main__") and not module.startswith("tnlayer.topologies")
    order = [name for name in inspect.signature(function).parameters if name in arguments]
    order += [name for name in arguments if name not in order]
    shapes = {name for names in SHAPE_PARAMETERS for name in names}
    # By position while nothing stands before that is not plain from its place.
    in_order = list(takewhile(shapes.__contains__, order))
    cells = [f"{arguments[name]}" for name in in_order]
    cells += [f"{name}={arguments[name]!r}" for name in order[len(in_order) :]]
    return f"{f'{module}:' if is_own else ''}{name_of(function)}({', '.join(cells)})"


def check_topology(function: object, where: str) -> None:
    """Refuse what is no function that returns a network.

    Arguments:
        function: what was given.
        where: what was called, for messages.

    Raises:
        SpecError: says how to write it.
    """
    if isinstance(function, str):
        msg = f"{where}: a topology is a function, got the text {shown(function)}: "
        raise SpecError(f"{msg}write {as_written(function)}")
    if isinstance(function, Network | Graph) or not callable(function):
        msg = (
            f"{where}: topology is {type(function).__name__}; expected a function that returns "
            "a Network, such as tn.topologies.tensor_train: a network has no free sizes"
        )
        raise SpecError(msg)


# -- what the parameters mean ------------------------------------------------------------------


def read_question(
    function: Topology,
    in_features: int,
    out_features: int,
    legs: int | None,
    given: Mapping[str, Any],
    others: Sequence[str] = (),
) -> Question:
    """Sort a topology's parameters into shape, growth and given ones.

    Arguments:
        function: the topology.
        in_features, out_features, legs: as of Question.
        given: arguments of it that are not to be chosen.
        others: arguments of the call that are not the topology's, for hints.

    Raises:
        SpecError: the topology is no function, or a parameter of it, or a given one, is not known.
    """
    check_topology(function, "fit_budget")
    name = name_of(function)
    parameters = _parameters(function, given, others)
    shape = _shape_parameters(name, parameters, given)
    known = dict(given)
    if "terms" in parameters and parameters["terms"] is inspect.Parameter.empty:
        known.setdefault("terms", _DEFAULT_TERMS)
    bonds = [p for p in BOND_PARAMETERS if p in parameters and p not in known]
    if len(bonds) > 1:
        msg = f"fit_budget: {name} has both rank and bond; pass one of them, the other is chosen"
        raise SpecError(msg)
    has_bond = any(p in parameters for p in BOND_PARAMETERS)
    depth = [] if has_bond or "depth" in known or "depth" not in parameters else ["depth"]
    growth = next(iter((*bonds, *depth)), None)
    unknown = [
        p
        for p, default in parameters.items()
        if default is inspect.Parameter.empty and p not in (*shape, growth, *known)
    ]
    if unknown:
        msg = (
            f"fit_budget: {name} has parameters that are not known: {', '.join(unknown)}. Known "
            f"are {_known_text()}; pass a value for the others, fit_budget(..., {unknown[0]}=...)"
        )
        raise SpecError(msg)
    question = Question(function, known, in_features, out_features, legs, shape, growth)
    _check_given(question)
    return question


def _parameters(
    function: Topology, given: Mapping[str, Any], others: Sequence[str]
) -> dict[str, Any]:
    """Default values by name of the parameters that can be passed by name."""
    name = name_of(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        msg = f"fit_budget: the parameters of {name} cannot be read ({error}); pass a function"
        raise SpecError(msg) from error
    parameters = signature.parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    by_name = {p.name: p.default for p in parameters if p.kind in named}
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters)
    stray = next((key for key in given if key not in by_name), None)
    if stray is not None and not takes_all:
        near = did_you_mean(stray, others) or suggest(stray, by_name)
        msg = f"fit_budget: {name} has no parameter {stray!r}{near}"
        raise SpecError(msg)
    return by_name


def _shape_parameters(
    name: str, parameters: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[str, ...]:
    """The parameters that say the shape of the ports; none where all that it needs is given."""
    for names in SHAPE_PARAMETERS:
        if all(parameter in parameters for parameter in names):
            return names
    if given and all(
        default is not inspect.Parameter.empty or parameter in (*given, *GROWTH_PARAMETERS)
        for parameter, default in parameters.items()
    ):
        return ()
    msg = (
        f"fit_budget: {name} takes ({', '.join(parameters)}), none of which say the shape of the "
        f"ports; expected {_known_text()}. Or pass a value for each, fit_budget(..., "
        f"{next(iter(parameters), 'rank')}=...)"
    )
    raise SpecError(msg)


def _known_text() -> str:
    shapes = "; ".join(" and ".join(names) for names in SHAPE_PARAMETERS)
    return f"for the ports {shapes}, for the size {', '.join(GROWTH_PARAMETERS)}"


def _check_given(question: Question) -> None:
    """Refuse shapes, sizes and numbers of legs that no port can have."""
    for name in ("in_shape", "out_shape"):
        shape = question.given.get(name, (1,))
        if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
            msg = f"fit_budget: {name}={shape!r}, expected a sequence of leg sizes, not empty"
            raise SpecError(msg)
    for name in ("dim", "rows", "columns"):
        if name in question.shape and check_whole(question.given.get(name, 1), name) < 1:
            msg = f"fit_budget: {name}={question.given[name]}, expected a whole number from 1 up"
            raise SpecError(msg)
    legs = question.legs
    if legs is None:
        return
    most = _most_legs(question)
    if "dim" not in question.shape and "in_shape" not in question.shape:
        msg = (
            f"fit_budget: legs={shown(legs)}, but {question.name} has no legs to choose; leave it "
            "out"
        )
        raise SpecError(msg)
    if not 1 <= check_whole(legs, "fit_budget: legs") <= most:
        msg = (
            f"fit_budget: legs={shown(legs)}, expected 1 to {most}: "
            f"{max(question.in_features, question.out_features)} features have no more legs of 2"
        )
        raise SpecError(msg)


def _most_legs(question: Question) -> int:
    return max(2, max(question.in_features, question.out_features).bit_length() - 1)


# -- which shapes to try -----------------------------------------------------------------------


def candidates(question: Question) -> list[Candidate]:
    """All choices of port shapes that suit the topology.

    Raises:
        SpecError: no shape suits the topology, or a given shape has too few features.
    """
    makers = {
        "in_shape": _pairs_of_shapes,
        "legs": _uniform,
        "rows": _grids,
        "in_features": _matrix,
        "features": _square,
    }
    error: SpecError | None = None
    found: list[Candidate] = []
    make = makers[question.shape[0]] if question.shape else _as_given
    for arguments in make(question):
        candidate = Candidate(question, {**question.given, **arguments})
        try:
            found.append(_covering(candidate))
        except SpecError as problem:
            # A family may need more legs, or another number of features: others are tried.
            error = problem
            continue
        if question.shape == ("features",):
            break
    if not found and error is not None and error.__cause__ is not None:
        msg = (
            f"fit_budget: no shape of {question.name} could be made; the last: {error}. A topology "
            f"takes {_known_text()}, returns a tn.Network, and raises tn.SpecError for what it "
            "cannot do"
        )
        raise SpecError(msg) from error.__cause__
    if not found:
        msg = f"fit_budget: {question.name} has no shape that suits"
        raise error or SpecError(msg)
    return found


def _covering(candidate: Candidate) -> Candidate:
    """The candidate with dim raised until both ports have enough features."""
    question = candidate.question
    wanted = (question.in_features, question.out_features)
    while True:
        graph = candidate.build()
        if len(graph.inputs) != 1:
            msg = f"fit_budget: {question.name} has {len(graph.inputs)} inputs; expected one"
            raise SpecError(msg)
        features = (graph.in_features, graph.out_features)
        if features[0] >= wanted[0] and features[1] >= wanted[1]:
            return candidate
        if "dim" not in question.shape or "dim" in question.given:
            msg = (
                f"fit_budget: {question.name} with {dict(candidate.arguments)} has {features[0]} "
                f"-> {features[1]} features, fewer than {wanted[0]} -> {wanted[1]}; raise them"
            )
            raise SpecError(msg)
        dim = candidate.arguments["dim"]
        # Pinned legs may leave y fewer features: from the ratio most of the way in one step.
        missing = max(w / f for w, f in zip(wanted, features, strict=True))
        more = max(dim + 1, int(dim * missing ** (1 / max(1, len(graph.output)))))
        candidate = replace(candidate, arguments={**candidate.arguments, "dim": more})


def _leg_counts(question: Question) -> Sequence[int]:
    if question.legs is not None:
        return (question.legs,)
    return range(2, min(_MOST_LEGS, _most_legs(question)) + 1)


def _pairs_of_shapes(question: Question) -> Iterator[dict[str, Any]]:
    """Shapes of both ports; large legs of x stand beside small ones of y."""
    given = question.given
    lengths = [len(given[name]) for name in ("in_shape", "out_shape") if name in given]
    for legs in lengths[:1] or _leg_counts(question):
        in_shape = given.get("in_shape") or padded_shape(question.in_features, legs)
        out_shape = given.get("out_shape") or padded_shape(question.out_features, legs)[::-1]
        yield {"in_shape": tuple(in_shape), "out_shape": tuple(out_shape)}
        sized = question.growth is not None or any(p in given for p in GROWTH_PARAMETERS)
        if not sized and legs == 2 and not lengths:
            yield from _block_shapes(in_shape, out_shape)


def _block_shapes(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Other splits, for topologies without a rank: the numbers of blocks are their size."""
    pairs = [
        {"in_shape": first, "out_shape": second}
        for first in splits(math.prod(in_shape))
        for second in splits(math.prod(out_shape))
    ]
    if len(pairs) <= _MOST_SPLITS:
        yield from pairs


def _uniform(question: Question) -> Iterator[dict[str, Any]]:
    """All legs of one size."""
    features = max(question.in_features, question.out_features)
    dim = question.given.get("dim")
    if dim is not None and question.legs is None:
        legs = 2
        while dim > 1 and dim**legs < features:
            legs += 1
        # Where outputs are pinned, y needs more legs than x.
        for more in range(legs, 2 * legs + 1):
            yield {"legs": more, "dim": dim}
        return
    for legs in _leg_counts(question):
        # The ports may differ: what the larger one needs is found from the smaller one up.
        start = ceiling_root(features, legs) if dim is None else dim
        yield {"legs": legs, "dim": start}


def _grids(question: Question) -> Iterator[dict[str, Any]]:
    """Grids as square as the number of legs allows; chains only where nothing else is left."""
    given = question.given
    features = max(question.in_features, question.out_features)
    grids = [_grid(legs, given) for legs in _leg_counts(question)]
    wide = [grid for grid in grids if grid is not None and min(grid) > 1]
    for rows, columns in wide or [grid for grid in grids if grid is not None]:
        dim = given.get("dim") or ceiling_root(features, rows * columns)
        yield {"rows": rows, "columns": columns, "dim": dim}


def _grid(legs: int, given: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns with this number of sites, as given or as equal as possible."""
    grids = [(rows, legs // rows) for rows in range(1, legs + 1) if legs % rows == 0]
    suited = [
        (rows, columns)
        for rows, columns in grids
        if given.get("rows", rows) == rows and given.get("columns", columns) == columns
    ]
    return min(suited, key=lambda grid: (abs(grid[0] - grid[1]), grid[0]), default=None)


def _as_given(_: Question) -> Iterator[dict[str, Any]]:
    """The shape is said by arguments that are given, whatever they are called."""
    yield {}


def _matrix(question: Question) -> Iterator[dict[str, Any]]:
    """No legs: the features themselves."""
    yield {"in_features": question.in_features, "out_features": question.out_features}


def _square(question: Question) -> Iterator[dict[str, Any]]:
    """One size for both ports: the larger, and the next power of two if that is refused."""
    features = max(question.in_features, question.out_features)
    yield {"features": features}
    yield {"features": max(2, 1 << (features - 1).bit_length())}


def worst_imbalance(graph: Graph) -> float:
    """Largest leg of a port over the geometric mean of its legs, of both ports the larger."""
    shapes = port_shapes(graph)
    return max((imbalance(shape) for shape in shapes if shape), default=1.0)


def port_shapes(graph: Graph) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of the open legs of x and of y."""
    port = graph.inputs[0]
    return (
        graph.shape_of(graph.open_legs(port.legs)),
        graph.shape_of(graph.open_legs(graph.output)),
    )
