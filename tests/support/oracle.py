"""The oracle: dense contraction and its gradient by numpy.einsum over integer labels.

It shares no code with the package: it reads the plain fields of a frozen Graph (legs, sizes, fixed
legs, sharing, conj, ports) and works the rest out again, in float64 or complex128. Slow and plain
on purpose.

A network is multilinear, so its gradient with respect to one operand is the contraction of all
other operands with the gradient of y. That needs no automatic differentiation at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tnlayer.graph.graph import Graph, Port, TensorNode

Array = np.ndarray[Any, np.dtype[Any]]
Term = tuple[Array, tuple[int, ...]]

# Above these a single call of numpy.einsum is too slow, or has too many labels or operands.
WHOLE_LOOP_SPACE = 60_000
WHOLE_LABELS = 26
WHOLE_OPERANDS = 12
LARGEST = 2**26

BATCH = 0


@dataclass(frozen=True)
class Operand:
    """One factor of the product term, and where its entries lie in the array that stores them.

    Arguments:
        source: "input" or "tensor", and the name of the port or parameter.
        array: the entries as they enter the product.
        labels: one integer an axis of the array.
        place: index of these entries in the stored array (an input: batch first, legs apart).
        conj: whether the array is the conjugate of what is stored.
    """

    source: tuple[str, str]
    array: Array
    labels: tuple[int, ...]
    place: tuple[int | slice, ...]
    conj: bool = False


# -- the contraction ---------------------------------------------------------------------------


def contract(
    terms: Sequence[Term],
    output: Sequence[int],
    sizes: Mapping[int, int],
    whole: bool | None = None,
) -> Array:
    """Sum the product of the terms over every label that is not in the output.

    Arguments:
        terms: arrays with one label an axis; a label may repeat within a term.
        output: labels of the result, each once.
        sizes: size of each label.
        whole: one call of numpy.einsum, or one pair after another, each time with the joined term
            that leaves the smallest result; None chooses by size.
    """
    covered = {label for _, labels in terms for label in labels}
    bare = [(np.ones(sizes[label]), (label,)) for label in output if label not in covered]
    todo: list[Term] = [*terms, *bare] or [(np.ones(()), ())]
    if whole is None:
        used = covered | set(output)
        space = math.prod(sizes[label] for label in used)
        small = len(used) <= WHOLE_LABELS and len(todo) <= WHOLE_OPERANDS
        whole = small and space <= WHOLE_LOOP_SPACE
    if whole:
        return _einsum(todo, output)
    result = todo.pop(0)
    ends = Counter([*output, *(label for _, labels in todo for label in set(labels))])
    while todo:
        kept = [_kept(result, term, ends) for term in todo]
        entries = [math.prod(sizes[label] for label in labels) for labels in kept]
        apart = [not (set(result[1]) - {BATCH}) & set(labels) for _, labels in todo]
        best = min(range(len(todo)), key=lambda k: (apart[k], entries[k]))
        assert entries[best] <= LARGEST, f"the oracle would need {entries[best]} entries"
        following = todo.pop(best)
        ends.subtract(set(following[1]))
        result = (_einsum([result, following], kept[best]), tuple(kept[best]))
    return _einsum([result], output)


def _kept(first: Term, second: Term, ends: Mapping[int, int]) -> list[int]:
    """Labels of the product of two terms that stand elsewhere too, by the ends beside the first."""
    mine = set(second[1])
    return [e for e in dict.fromkeys(first[1] + second[1]) if ends.get(e, 0) > (e in mine)]


def _einsum(terms: Sequence[Term], output: Sequence[int]) -> Array:
    """Call numpy.einsum in its sublist format, with labels counted from 0."""
    compact: dict[int, int] = {}
    arguments: list[Any] = []
    for array, labels in terms:
        arguments += [array, [compact.setdefault(label, len(compact)) for label in labels]]
    arguments.append([compact[label] for label in output])
    return np.array(np.einsum(*arguments, optimize=False))


# -- reading a graph ---------------------------------------------------------------------------


def stored_pins(graph: Graph) -> dict[str, tuple[int | None, ...]]:
    """Per parameter and axis the index at which every user pins it, or None: the axis is stored."""
    fixed = dict(graph.fixed)
    users: dict[str, list[TensorNode]] = {}
    for tensor in graph.tensors:
        users.setdefault(tensor.share or tensor.name, []).append(tensor)
    pins: dict[str, tuple[int | None, ...]] = {}
    for name, tensors in users.items():
        columns = zip(*(tensor.legs for tensor in tensors), strict=True)
        indices = [{fixed.get(leg) for leg in column} for column in columns]
        pins[name] = tuple(i.pop() if len(i) == 1 else None for i in indices)
    return pins


def stored_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shape of each stored array by the owner's name."""
    sizes = dict(graph.leg_sizes)
    pins = stored_pins(graph)
    return {
        t.name: tuple(
            sizes[leg] for leg, pin in zip(t.legs, pins[t.name], strict=True) if pin is None
        )
        for t in graph.tensors
        if t.share is None
    }


def stored_values(graph: Graph) -> dict[str, Array]:
    """The part that is stored of each value that the user brought along."""
    pins = stored_pins(graph)
    return {
        t.name: t.value.array[tuple(slice(None) if p is None else p for p in pins[t.name])]
        for t in graph.tensors
        if t.share is None and t.value is not None
    }


def input_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shape of each input without its leading dimensions."""
    sizes, fixed = dict(graph.leg_sizes), dict(graph.fixed)
    shapes: dict[str, tuple[int, ...]] = {}
    for port in graph.inputs:
        dims = [sizes[leg] for leg in port.legs if leg not in fixed]
        shapes[port.name] = (len(dims), (dims or [1])[0]) if port.product else (math.prod(dims),)
    return shapes


def leading_shape(graph: Graph, inputs: Sequence[Array]) -> tuple[int, ...] | None:
    """Leading dimensions that all batched inputs have, None where no input is batched."""
    shapes = {
        x.shape[: x.ndim - (2 if port.product else 1)]
        for port, x in zip(graph.inputs, inputs, strict=True)
        if port.batched
    }
    assert len(shapes) <= 1, f"batched inputs disagree in their leading dimensions: {shapes}"
    return shapes.pop() if shapes else None


def _labels(graph: Graph) -> dict[str, int]:
    """An integer for each leg that is not fixed; BATCH is no leg's."""
    fixed = dict(graph.fixed)
    legs = [leg for leg, _ in graph.leg_sizes if leg not in fixed]
    return {leg: number for number, leg in enumerate(legs, start=BATCH + 1)}


def _split(graph: Graph, port: Port, x: Array, batch: int) -> Array:
    """View an input with one axis for the batch, if it has one, and one axis a leg or vector."""
    sizes, fixed = dict(graph.leg_sizes), dict(graph.fixed)
    trailing = [sizes[leg] for leg in port.legs if leg not in fixed]
    if port.product:
        trailing = [len(trailing), (trailing or [1])[0]]
    return x.reshape([batch, *trailing] if port.batched else trailing)


def _input_operands(graph: Graph, port: Port, x: Array) -> list[Operand]:
    """One operand for a dense input; one for each vector of a product input."""
    labels = _labels(graph)
    legs = [labels[leg] for leg in port.legs if leg in labels]
    source = ("input", port.name)
    lead_labels = (BATCH,) if port.batched else ()
    lead_place = (slice(None),) if port.batched else ()
    if not port.product:
        return [Operand(source, x, (*lead_labels, *legs), (slice(None),) * x.ndim)]
    operands: list[Operand] = []
    for position, leg in enumerate(legs):
        place = (*lead_place, position, slice(None))
        operands.append(Operand(source, x[place], (*lead_labels, leg), place))
    return operands


def _tensor_operand(graph: Graph, tensor: TensorNode, stored: Mapping[str, Array]) -> Operand:
    """The stored array of a node, at the slices that this node pins and its owner still has."""
    labels, fixed = _labels(graph), dict(graph.fixed)
    owner = tensor.share or tensor.name
    array = stored[owner]
    assert array.shape == stored_shapes(graph)[owner], f"{owner} has shape {array.shape}"
    kept = [
        leg for leg, pin in zip(tensor.legs, stored_pins(graph)[owner], strict=True) if pin is None
    ]
    place = tuple(fixed[leg] if leg in fixed else slice(None) for leg in kept)
    entries = array[place].conj() if tensor.conj else array[place]
    open_labels = tuple(labels[leg] for leg in kept if leg in labels)
    return Operand(("tensor", owner), np.asarray(entries), open_labels, place, tensor.conj)


def _operands(
    graph: Graph, inputs: Sequence[Array], stored: Mapping[str, Array], batch: int
) -> list[Operand]:
    """All factors of the product term."""
    operands: list[Operand] = []
    for port, x in zip(graph.inputs, inputs, strict=True):
        operands += _input_operands(graph, port, _split(graph, port, x, batch))
    operands += [_tensor_operand(graph, tensor, stored) for tensor in graph.tensors]
    return operands


def _sizes(graph: Graph, batch: int) -> dict[int, int]:
    """Size of each label."""
    labels = _labels(graph)
    return {BATCH: batch} | {labels[leg]: d for leg, d in graph.leg_sizes if leg in labels}


def _output_labels(graph: Graph, batched: bool) -> list[int]:
    """Labels of y, the batch first."""
    labels = _labels(graph)
    return [*([BATCH] if batched else []), *(labels[leg] for leg in graph.output if leg in labels)]


# -- what tests call ---------------------------------------------------------------------------


def evaluate(
    graph: Graph,
    inputs: Sequence[Array],
    stored: Mapping[str, Array],
    whole: bool | None = None,
) -> Array:
    """The value of y, of shape (leading..., out_features).

    Arguments:
        graph: the frozen network.
        inputs: one array a port, in the order of the ports, as ``forward`` takes them.
        stored: one array a parameter, at its stored shape, by the name of its owner.
        whole: as in ``contract``.
    """
    lead = leading_shape(graph, inputs)
    batch = math.prod(lead or ())
    terms = [(o.array, o.labels) for o in _operands(graph, inputs, stored, batch)]
    sizes = _sizes(graph, batch)
    output = _output_labels(graph, lead is not None)
    y = contract(terms, output, sizes, whole)
    features = math.prod(sizes[label] for label in output if label != BATCH)
    return y.reshape((*(lead or ()), features))


def gradients(
    graph: Graph, inputs: Sequence[Array], stored: Mapping[str, Array], grad_y: Array
) -> tuple[list[Array], dict[str, Array]]:
    """Gradients of Re(sum(conj(grad_y) * y)) in torch's convention, that is J^H grad_y.

    Arguments:
        graph, inputs, stored: as for ``evaluate``.
        grad_y: gradient of y, of y's shape.

    Returns the gradients of the inputs, in order, and of the parameters, by name; a real array
    gets a real gradient.
    """
    lead = leading_shape(graph, inputs)
    batch = math.prod(lead or ())
    sizes = _sizes(graph, batch)
    output = _output_labels(graph, lead is not None)
    seed = (grad_y.conj().reshape([sizes[label] for label in output]), tuple(output))
    arrays = {
        ("input", port.name): _split(graph, port, x, batch)
        for port, x in zip(graph.inputs, inputs, strict=True)
    } | {("tensor", name): array for name, array in stored.items()}
    totals = {key: np.zeros(array.shape, np.complex128) for key, array in arrays.items()}
    operands = _operands(graph, inputs, stored, batch)
    for number, operand in enumerate(operands):
        others = [(o.array, o.labels) for o in operands[:number] + operands[number + 1 :]]
        slope = _spread(contract_onto(operand, [seed, *others], sizes), operand)
        # y = J w gives the gradient J^H g; y = J conj(w) gives its conjugate, J^T conj(g).
        totals[operand.source][operand.place] += slope if operand.conj else slope.conj()
    real = {key: t if np.iscomplexobj(arrays[key]) else t.real for key, t in totals.items()}
    by_port: list[Array] = [
        real["input", port.name].reshape(x.shape)
        for port, x in zip(graph.inputs, inputs, strict=True)
    ]
    return by_port, {name: real["tensor", name] for name in stored}


def contract_onto(operand: Operand, terms: Sequence[Term], sizes: Mapping[int, int]) -> Array:
    """Contract the terms to the labels of an operand that was left out, each label once."""
    return contract(terms, list(dict.fromkeys(operand.labels)), sizes)


def _spread(slope: Array, operand: Operand) -> Array:
    """Give a repeated label its axes back: the gradient lies on the diagonal, else it is zero."""
    unique = list(dict.fromkeys(operand.labels))
    if len(unique) == len(operand.labels):
        return slope
    full = np.zeros(operand.array.shape, slope.dtype)
    compact = {label: number for number, label in enumerate(unique)}
    diagonal = np.einsum(full, [compact[label] for label in operand.labels], list(compact.values()))
    diagonal[...] = slope
    return full


def loop_space(graph: Graph) -> int:
    """Number of terms in the whole sum, for one sample."""
    return math.prod(_sizes(graph, 1).values())


# -- comparing ---------------------------------------------------------------------------------


def assert_close(
    actual: Array, expected: Array, magnitude: Array, what: str, rtol: float = 1e-10
) -> None:
    """Compare entry by entry, with errors measured against the sum of the terms' absolute values.

    Rounding errors of a sum scale with that magnitude and not with the sum, which may cancel.

    Arguments:
        actual, expected: arrays of equal shapes.
        magnitude: the same contraction of the absolute values.
        what: name of the compared array, for the message.
        rtol: allowed error as a part of the magnitude.
    """
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, not {expected.shape}"
    error = np.abs(actual - expected)
    excess = error > rtol * magnitude
    if np.any(excess) or not np.all(np.isfinite(actual)):
        worst = float(np.max(error / np.maximum(magnitude, np.finfo(float).tiny)))
        msg = f"{what}: {np.count_nonzero(excess)} of {error.size} wrong, worst {worst:.3g}"
        raise AssertionError(f"{msg}\nactual\n{actual}\nexpected\n{expected}")
