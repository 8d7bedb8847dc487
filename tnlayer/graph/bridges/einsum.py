"""Graph <-> einsum equations: each letter a leg, each operand an input or a tensor."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...errors import SpecError
from ..argument_checks import (
    IDENTIFIER,
    check_mapping,
    check_name,
    check_size,
    check_tensor_name,
    check_whole,
    shown,
    take_bounded,
)
from ..graph import MAX_LEGS, MAX_NODES, Graph, Port, TensorNode
from ..validate import validate

# The batch where nobody says what it is: for a letter that could be meant there is a warning.
UNSAID = ""
# 26 small and 26 large letters come first, then other characters, as in opt_einsum.
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BEYOND = 140
_BLANKS = dict.fromkeys(map(ord, " \t\r\n"))


class Einsum(NamedTuple):
    """A network as an einsum equation; ``Network.from_einsum(**form._asdict())`` gives it back.

    Arguments:
        equation: operands, "->" and the output.
        names: a name an operand: of the input, or of the parameter (for a sharer the owner's).
        sizes: size by letter, without the batch.
        inputs: positions of the operands that are inputs.
        batch: the letter of the batch, or None: the equation has none.
    """

    equation: str
    names: tuple[str, ...]
    sizes: dict[str, int]
    inputs: tuple[int, ...]
    batch: str | None


def graph_from_einsum(
    equation: str,
    sizes: Mapping[str, int],
    inputs: Sequence[int] = (0,),
    names: Sequence[str] | None = None,
    batch: str | None = UNSAID,
) -> Graph:
    """The graph of an einsum equation.

    Arguments:
        equation: such as "ij,jk->ik"; blanks do not count; without an arrow the output is made
            of the letters that stand once, in alphabetical order, as in numpy.
        sizes: size by letter; letters that the equation lacks are passed over.
        inputs: positions of the operands that are inputs, in the order of forward's arguments.
        names: a name an operand; by default x (or x0, x1, ...) and t_ with the position.
        batch: the letters of the leading dimensions, or None: there are none.

    Raises SpecError for an ellipsis, missing sizes, wrong positions and wrong names, and for
    letters of the batch that do not stand first.
    """
    operands, output = parse_equation(equation)
    positions = _check_positions(inputs, len(operands))
    leading = _check_batch(equation, operands, output, positions, batch)
    batched = {p for p in positions if not leading or operands[p].startswith(leading)}
    operands = tuple(operand.removeprefix(leading) for operand in operands)
    output = output.removeprefix(leading)
    check_mapping(sizes, "from_einsum: sizes", "size by letter")
    letters = list(dict.fromkeys(letter for operand in operands for letter in operand))
    missing = [letter for letter in letters if letter not in sizes]
    if missing:
        msg = (
            f"einsum {shown(equation)}: no size for {', '.join(map(repr, missing[:8]))}; "
            "give one in sizes= for each letter, and say batch= where a letter is the batch"
        )
        raise SpecError(msg)
    legs = {letter: _leg_name(letter) for letter in letters}
    named = _names(names, len(operands), positions)
    taken = set(positions)
    ends = Counter(letter for operand in [*operands, output] for letter in operand)
    graph = Graph(
        label=equation if len(equation) <= 80 else f"{equation[:77]}...",
        leg_sizes=tuple(
            (legs[letter], check_size(sizes[letter], f"letter {letter!r}")) for letter in letters
        ),
        inputs=tuple(
            Port(
                check_name(named[p], "input port"),
                tuple(map(legs.__getitem__, operands[p])),
                batched=p in batched,
            )
            for p in positions
        ),
        output=tuple(legs[letter] for letter in output),
        tensors=tuple(
            TensorNode(check_tensor_name(named[p]), tuple(map(legs.__getitem__, operand)))
            for p, operand in enumerate(operands)
            if p not in taken
        ),
        summed=frozenset(legs[letter] for letter in letters if ends[letter] == 1),
    )
    validate(graph, is_state=True)
    return graph


def warn_of_batch(equation: str, inputs: Sequence[int]) -> None:
    """Warn where a letter is taken for a feature that could be meant as the batch: first in the
    output and in every input, and on no tensor."""
    operands, output = parse_equation(equation)
    letter = output[:1]
    positions = set(inputs)
    terms = [operands[position] for position in positions]
    rest = [term for position, term in enumerate(operands) if position not in positions]
    if not letter or not terms or not all(term.startswith(letter) for term in terms):
        return
    if not any(letter in term for term in rest):
        warnings.warn(
            f"einsum {shown(equation)}: {letter!r} goes straight from the input to the output and "
            "is on no tensor; it is taken as a feature that passes through. If it is the batch, "
            f"say batch={letter!r}: then x is (..., features). Else say batch=None",
            stacklevel=3,
        )


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
    # Of the characters beyond ASCII some are blanks, and letters all the same.
    terms, arrow, output = equation.translate(_BLANKS).partition("->")
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
    given = take_bounded(inputs, "from_einsum: inputs") if isinstance(inputs, Iterable) else None
    if given is None or isinstance(inputs, str):
        msg = f"from_einsum: inputs must be a sequence of positions, got {shown(inputs)}"
        raise SpecError(msg)
    positions = tuple(check_whole(p, "from_einsum: a position in inputs") for p in given)
    if len(set(positions)) < len(positions) or not all(0 <= p < count for p in positions):
        msg = (
            f"from_einsum: inputs must be different positions from 0 to {count - 1} (there "
            f"are {count} operands), got {shown(positions)}"
        )
        raise SpecError(msg)
    return positions


def _check_batch(
    equation: str,
    operands: tuple[str, ...],
    output: str,
    positions: tuple[int, ...],
    batch: str | None,
) -> str:
    """The letters of the batch, "" for none.

    Raises SpecError where they do not stand where a layer has its batch.
    """
    if batch is not None and not isinstance(batch, str):
        msg = f"from_einsum: batch must be a string of letters or None, got {shown(batch)}"
        raise SpecError(msg)
    if not batch:
        return ""
    where = f"einsum {shown(equation)}: batch={shown(batch)}"
    if not output.startswith(batch) or not any(operands[p].startswith(batch) for p in positions):
        msg = (
            f"{where}: expected these letters first in the output and in the inputs that have the "
            "batch, for example 'bi,ij->bj' with batch='b'; permute x and y where they stand "
            "elsewhere"
        )
        raise SpecError(msg)
    for position, operand in enumerate(operands):
        is_input = position in positions and operand.startswith(batch)
        if set(operand.removeprefix(batch) if is_input else operand) & set(batch):
            msg = (
                f"{where}: operand {position}, {shown(operand)}, has a letter of the batch; "
                "expected all of them first in an input, or none"
            )
            raise SpecError(msg)
    return batch


def _names(names: Sequence[str] | None, count: int, positions: tuple[int, ...]) -> tuple[str, ...]:
    """A name an operand, made up where none are given."""
    if names is None:
        ports = ["x"] if len(positions) == 1 else [f"x{k}" for k in range(len(positions))]
        by_position = dict(zip(positions, ports, strict=True))
        return tuple(by_position.get(p, f"t_{p}") for p in range(count))
    given = take_bounded(names, "from_einsum: names") if isinstance(names, Iterable) else ()
    if isinstance(names, str) or len(given) != count:
        msg = f"from_einsum: expected {count} names, one an operand, got {shown(names)}"
        raise SpecError(msg)
    return given


def _leg_name(letter: str) -> str:
    """The letter itself, or a fresh name where it cannot be a user's name."""
    return letter if IDENTIFIER.fullmatch(letter) else f"u.{ord(letter):x}"


# -- the way out ---------------------------------------------------------------------------------


def einsum_from_graph(graph: Graph, *, batch: bool = False) -> Einsum:
    """The einsum equation of a graph.

    Arguments:
        graph: without conjugated tensors, fixed legs and product ports.
        batch: whether the batch is a letter, first in each batched input and in the output.

    Raises SpecError, with the node or leg, for what an equation cannot hold.
    """
    _check_can_write(graph, batch)
    letters = _letters_of(graph)
    lead = _free_letters(set(letters.values()), 1)[0] if batch else ""
    terms = [
        *((lead if port.batched else "", port.legs) for port in graph.inputs),
        *(("", tensor.legs) for tensor in graph.tensors),
    ]
    written = [first + "".join(map(letters.__getitem__, legs)) for first, legs in terms]
    output = lead + "".join(map(letters.__getitem__, graph.output))
    return Einsum(
        equation=f"{','.join(written)}->{output}",
        names=(
            *(port.name for port in graph.inputs),
            *(tensor.share or tensor.name for tensor in graph.tensors),
        ),
        sizes={letters[leg]: size for leg, size in graph.leg_sizes},
        inputs=tuple(range(len(graph.inputs))),
        batch=lead or None,
    )


def _check_can_write(graph: Graph, batch: bool) -> None:
    """Refuse what an equation has no sign for."""
    if not isinstance(batch, bool):
        msg = f"to_einsum: batch must be True or False, got {shown(batch)}"
        raise SpecError(msg)
    why = ""
    if not graph.inputs and not graph.tensors:
        why = "the network has no node, and an equation needs an operand"
    elif batch and not any(port.batched for port in graph.inputs):
        why = "no input has a batch; leave batch=True out"
    for leg, index in graph.fixed:
        why = why or f"leg {leg!r} is fixed at index {index}; slice the tensors and leave it out"
    for port in graph.inputs:
        if port.product:
            why = why or f"input {port.name!r} is a product port, which is many operands"
    for tensor in graph.tensors:
        if tensor.conj:
            why = why or f"tensor {tensor.name!r} is conjugated; keep the network as JSON"
    if why:
        msg = f"to_einsum: an einsum equation cannot hold this network: {why}"
        raise SpecError(msg)


def _letters_of(graph: Graph) -> dict[str, str]:
    """A letter a leg: the one that it is named after, or the next free one."""
    own = {leg: letter for leg, _ in graph.leg_sizes if (letter := _own_letter(leg))}
    rest = [leg for leg, _ in graph.leg_sizes if leg not in own]
    free = _free_letters(set(own.values()), len(rest))
    return own | dict(zip(rest, free, strict=True))


def _own_letter(leg: str) -> str:
    """The letter from which from_einsum would make this name, or ""."""
    if len(leg) == 1:
        return leg
    mark, _, code = leg.partition(".")
    is_code = mark == "u" and 0 < len(code) <= 6 and set(code) <= set("0123456789abcdef")
    letter = chr(int(code, 16)) if is_code and int(code, 16) < 0x110000 else ""
    return letter if letter and _leg_name(letter) == leg and letter not in " \t\r\n,.->" else ""


def _free_letters(taken: set[str], count: int) -> list[str]:
    found: list[str] = []
    number = 0
    while len(found) < count:
        letter = _LETTERS[number] if number < len(_LETTERS) else chr(number + _BEYOND)
        if letter not in taken:
            found.append(letter)
        number += 1
    return found
