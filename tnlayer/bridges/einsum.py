"""Einsum equations in: each letter a leg, each operand an input or a tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tnlayer.checks import (
    IDENTIFIER,
    check_name,
    check_size,
    check_tensor_name,
    check_whole,
    shown,
)
from tnlayer.errors import SpecError
from tnlayer.graph import MAX_LEGS, MAX_NODES, Graph, Port, TensorNode
from tnlayer.validate import validate


def graph_from_einsum(
    equation: str,
    sizes: Mapping[str, int],
    inputs: Sequence[int] = (0,),
    names: Sequence[str] | None = None,
) -> Graph:
    """The graph of an einsum equation without a letter for the batch.

    Arguments:
        equation: such as "ij,jk->ik"; blanks do not count; without an arrow the output is made
            of the letters that stand once, in alphabetical order, as in numpy.
        sizes: size by letter; letters that the equation lacks are passed over.
        inputs: positions of the operands that are inputs, in the order of forward's arguments.
        names: a name an operand; by default x (or x0, x1, ...) and T with the position.

    Raises SpecError for an ellipsis, missing sizes, wrong positions and wrong names.
    """
    operands, output = parse_equation(equation)
    positions = _check_positions(inputs, len(operands))
    letters = list(dict.fromkeys(letter for operand in operands for letter in operand))
    missing = [letter for letter in letters if letter not in sizes]
    if missing:
        msg = (
            f"einsum {shown(equation)}: no size for {', '.join(map(repr, missing[:8]))}; "
            "give one in sizes= for each letter"
        )
        raise SpecError(msg)
    legs = {letter: _leg_name(letter) for letter in letters}
    named = _names(names, len(operands), positions)
    ends = Counter(letter for operand in [*operands, output] for letter in operand)
    graph = Graph(
        label=equation if len(equation) <= 80 else f"{equation[:77]}...",
        leg_sizes=tuple(
            (legs[letter], check_size(sizes[letter], f"letter {letter!r}")) for letter in letters
        ),
        inputs=tuple(
            Port(check_name(named[p], "input port"), tuple(map(legs.__getitem__, operands[p])))
            for p in positions
        ),
        output=tuple(legs[letter] for letter in output),
        tensors=tuple(
            TensorNode(check_tensor_name(named[p]), tuple(map(legs.__getitem__, operand)))
            for p, operand in enumerate(operands)
            if p not in positions
        ),
        summed=frozenset(legs[letter] for letter in letters if ends[letter] == 1),
    )
    validate(graph)
    return graph


def parse_equation(equation: str) -> tuple[tuple[str, ...], str]:
    """The operands' letters and the output's letters.

    >>> parse_equation("ij, jk")
    (('ij', 'jk'), 'ik')
    """
    if not isinstance(equation, str) or len(equation) > 4 * MAX_LEGS + 2 * MAX_NODES:
        msg = f"einsum equation must be a string of reasonable length, got {shown(equation)}"
        raise SpecError(msg)
    if "..." in equation or "." in equation:
        msg = (
            f"einsum {shown(equation)}: an ellipsis is not supported; leave the batch out (the "
            "layer adds it) and write a letter for each other dimension"
        )
        raise SpecError(msg)
    terms, arrow, output = "".join(equation.split()).partition("->")
    operands = tuple(terms.split(","))
    for mark in "->":
        if mark in terms or mark in output or "," in output:
            msg = f"einsum {shown(equation)}: expected operands, one '->' and one output"
            raise SpecError(msg)
    if len(operands) > MAX_NODES:
        msg = f"einsum equation has {len(operands)} operands, at most {MAX_NODES} are allowed"
        raise SpecError(msg)
    counts = Counter(terms.replace(",", ""))
    if not arrow:
        return operands, "".join(sorted(letter for letter, n in counts.items() if n == 1))
    for letter, count in Counter(output).items():
        if letter not in counts or count > 1:
            what = "stands twice in the output" if count > 1 else "of the output is in no operand"
            msg = f"einsum {shown(equation)}: letter {letter!r} {what}"
            raise SpecError(msg)
    return operands, output


def _check_positions(inputs: Sequence[int], count: int) -> tuple[int, ...]:
    positions = tuple(check_whole(p, "from_einsum: a position in inputs") for p in inputs)
    for position in positions:
        if not 0 <= position < count or positions.count(position) > 1:
            msg = (
                f"from_einsum: inputs must be different positions from 0 to {count - 1} (there "
                f"are {count} operands), got {shown(positions)}"
            )
            raise SpecError(msg)
    return positions


def _names(names: Sequence[str] | None, count: int, positions: tuple[int, ...]) -> tuple[str, ...]:
    """A name an operand, made up where none are given."""
    if names is None:
        ports = ["x"] if len(positions) == 1 else [f"x{k}" for k in range(len(positions))]
        by_position = dict(zip(positions, ports, strict=True))
        return tuple(by_position.get(p, f"T{p}") for p in range(count))
    if isinstance(names, str) or len(names) != count:
        msg = f"from_einsum: expected {count} names, one an operand, got {shown(names)}"
        raise SpecError(msg)
    return tuple(names)


def _leg_name(letter: str) -> str:
    """The letter itself, or a fresh name where it cannot be a user's name."""
    return letter if IDENTIFIER.fullmatch(letter) else f"u.{ord(letter):x}"
