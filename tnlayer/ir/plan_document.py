"""A Plan as a plain document and back: what the plan store writes, and how it reads it.

Nothing of the user's is in a document: the plan's names are canonical, and the table of the user's
names is left out. Reading trusts nothing: each key, type, name and amount is checked, operands must
have been made before, and no text is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field
from typing import Any, TypeVar, cast, get_args

from ..errors import PlanError
from ..support.dtypes import DTYPES
from .backend_names import region_names
from .plan import Plan
from .plan_parts import BackendSpan, Memory, Output
from .steps import (
    BATCH,
    Add,
    Contract,
    Diagonal,
    Embed,
    Expand,
    Operand,
    Origin,
    Part,
    Reduce,
    Role,
    Scatter,
    Select,
    Step,
    Value,
)

# Raised whenever a plan of the same network may come out otherwise, or is written otherwise.
PLAN_SCHEMA = 5

# No plan of a network within the bounds of validate.py comes near these.
MAX_ITEMS = 200_000
MAX_SIZE = 2**53

_UNARY: dict[str, type[Reduce | Expand | Diagonal | Embed]] = {
    "reduce": Reduce,
    "expand": Expand,
    "diagonal": Diagonal,
    "embed": Embed,
}
# Names reach generated source: none of these can be more than a variable's name.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_MINIMIZE = re.compile(r"[a-z0-9.+-]{1,40}")
_ROLES: tuple[Role, ...] = get_args(Role)
_PLAN_KEYS = (
    "leg_sizes ports parameters saved steps outputs port_axes dtype batch minimize "
    "proven_optimal aborted memory regions"
)

Document = dict[str, Any]
Legs = tuple[str, ...]
T = TypeVar("T")


class PlanDocumentError(ValueError):
    """A document that is no plan; the store takes it as a miss."""


# -- writing -----------------------------------------------------------------------------------


def document_from_plan(plan: Plan) -> Document:
    """The plain document of a plan: dicts, lists, strings, whole numbers, booleans and None.

    Arguments:
        plan: a legal plan, forward or backward; its table of user's names is not written.

    Raises:
        PlanError: a step is illegal.

    >>> import tnlayer as tn
    >>> plan = tn.plan(tn.topologies.low_rank(4, 4, rank=2))
    >>> document_from_plan(plan)["steps"][0]["kind"]
    'contract'
    >>> plan_from_document(document_from_plan(plan)) == plan
    True
    """
    plan.verify()
    return {
        "leg_sizes": [list(item) for item in plan.leg_sizes],
        "ports": _values(plan.ports),
        "parameters": _values(plan.parameters),
        "saved": _values(plan.saved),
        "steps": [_document_from_step(step) for step in plan.steps],
        "outputs": [
            {"name": output.name, "operand": _operand(output.operand), "axes": _axes(output.axes)}
            for output in plan.outputs
        ],
        "port_axes": [[port, _axes(axes)] for port, axes in plan.port_axes],
        "dtype": plan.dtype,
        "batch": plan.batch,
        "minimize": plan.minimize,
        "proven_optimal": plan.proven_optimal,
        "aborted": plan.aborted,
        "memory": {
            "recompute": list(plan.memory.recompute),
            "chunk": plan.memory.chunk,
            "slices": list(plan.memory.slices),
            "adds": plan.memory.adds,
        },
        "regions": [[region.backend, region.steps] for region in plan.regions],
    }


def _values(values: Iterable[Value]) -> list[list[Any]]:
    return [[value.name, list(value.legs)] for value in values]


def _axes(axes: Iterable[Legs]) -> list[list[str]]:
    return [list(legs) for legs in axes]


def _operand(operand: Operand) -> list[Any]:
    return [operand.value.name, operand.conj]


def _pins(pins: Iterable[tuple[int, int]]) -> list[list[int]]:
    return [list(pin) for pin in pins]


def _document_from_step(step: Step) -> Document:
    """A step by its kind; operands by name, since each value is made once."""
    document: Document = {
        "kind": type(step).__name__.lower(),
        "result": [step.result.name, list(step.result.legs)],
        "origin": None if step.origin is None else list(astuple(step.origin)),
    }
    match step:
        case Contract():
            return document | {"left": _operand(step.left), "right": _operand(step.right)}
        case Select():
            terms = [list(term) for term in step.terms]
            pins = _pins(step.pins)
            return document | {"operand": _operand(step.operand), "pins": pins, "terms": terms}
        case Add():
            return document | {"operands": [_operand(operand) for operand in step.operands]}
        case Scatter():
            parts = [[_operand(part.operand), _pins(part.pins)] for part in step.parts]
            return document | {"parts": parts}
        case _:
            return document | {"operand": _operand(step.operand)}


# -- reading -----------------------------------------------------------------------------------


def plan_from_document(document: object) -> Plan:
    """The plan of a document.

    Arguments:
        document: a parsed JSON value, from anywhere.

    Raises:
        PlanDocumentError: an unknown or missing key, a wrong type, a name that is no canonical
            name, an amount that is out of bounds, or an illegal step; names the place.
    """
    record = _record(document, "plan", _PLAN_KEYS)
    sizes = _list(record["leg_sizes"], "leg_sizes", _leg_size)
    reader = _Reader(frozenset((BATCH, *(leg for leg, _ in sizes))))
    if len(reader.legs) != len(sizes) + 1:
        raise _problem("leg_sizes", "legs that differ from each other and from the batch")
    plan = Plan(
        leg_sizes=sizes,
        ports=_list(record["ports"], "ports", reader.new_value),
        parameters=_list(record["parameters"], "parameters", reader.new_value),
        saved=_list(record["saved"], "saved", reader.new_value),
        steps=_list(record["steps"], "steps", reader.step),
        outputs=_list(record["outputs"], "outputs", reader.output),
        port_axes=_list(record["port_axes"], "port_axes", reader.port_axes),
        dtype=_text(record["dtype"], "dtype"),
        batch=_whole(record["batch"], "batch", least=1),
        minimize=_text(record["minimize"], "minimize"),
        proven_optimal=_flag(record["proven_optimal"], "proven_optimal"),
        aborted=_flag(record["aborted"], "aborted"),
        memory=reader.memory(record["memory"]),
        regions=_list(record["regions"], "regions", _region),
    )
    if plan.dtype not in DTYPES:
        raise _problem("dtype", f"one of {', '.join(DTYPES)}")
    if not _MINIMIZE.fullmatch(plan.minimize):
        raise _problem("minimize", "the name of an objective")
    try:
        return plan.verify()
    except PlanError as error:
        raise PlanDocumentError(str(error)) from None


@dataclass(slots=True)
class _Reader:
    """Reads steps in order; knows the legs, and the values made so far."""

    legs: frozenset[str]
    values: dict[str, Value] = field(default_factory=dict[str, Value])

    def new_value(self, item: object, where: str) -> Value:
        """A value under a name that is not taken yet."""
        name, legs = _pair(item, where)
        value = Value(_name(name, where), _list(legs, where, self.leg))
        if value.name in self.values:
            raise _problem(where, "a name that is not taken")
        self.values[value.name] = value
        return value

    def leg(self, item: object, where: str) -> str:
        """A leg whose size is known."""
        if not isinstance(item, str) or item not in self.legs:
            raise _problem(where, "a leg of leg_sizes, or the batch")
        return item

    def operand(self, item: object, where: str) -> Operand:
        """A use of a value that was made before."""
        name, conj = _pair(item, where)
        if not isinstance(name, str) or name not in self.values:
            raise _problem(where, "a value that was made before")
        return Operand(self.values[name], _flag(conj, where))

    def step(self, item: object, where: str) -> Step:
        """A step of any of the eight kinds."""
        if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
            raise _problem(where, "an object with a kind")
        kind, origin = cast("str", item["kind"]), _origin(item.get("origin"), where)
        if kind == "contract":
            record = _record(item, where, "kind result origin left right")
            left = self.operand(record["left"], where)
            right = self.operand(record["right"], where)
            return Contract(self.new_value(record["result"], where), left, right, origin=origin)
        if kind == "select":
            record = _record(item, where, "kind result origin operand pins terms")
            operand, pins = self.operand(record["operand"], where), record["pins"]
            result = self.new_value(record["result"], where)
            terms = _list(record["terms"], where, _read_term)
            return Select(result, operand, _read_pins(pins, where), terms, origin=origin)
        if kind == "add":
            record = _record(item, where, "kind result origin operands")
            operands = _list(record["operands"], where, self.operand)
            return Add(self.new_value(record["result"], where), operands, origin=origin)
        if kind == "scatter":
            record = _record(item, where, "kind result origin parts")
            parts = _list(record["parts"], where, self.part)
            return Scatter(self.new_value(record["result"], where), parts, origin=origin)
        if kind in _UNARY:
            record = _record(item, where, "kind result origin operand")
            operand = self.operand(record["operand"], where)
            result = self.new_value(record["result"], where)
            return _UNARY[kind](result, operand, origin=origin)
        raise _problem(f"{where}.kind", "one of the eight kinds of steps")

    def part(self, item: object, where: str) -> Part:
        """A part of a Scatter."""
        operand, pins = _pair(item, where)
        return Part(self.operand(operand, where), _read_pins(pins, where))

    def axes(self, item: object, where: str) -> tuple[Legs, ...]:
        """The legs of each axis."""
        return _list(item, where, lambda legs, place: _list(legs, place, self.leg))

    def output(self, item: object, where: str) -> Output:
        """A result of the plan."""
        record = _record(item, where, "name operand axes")
        operand = self.operand(record["operand"], where)
        return Output(_name(record["name"], where), operand, self.axes(record["axes"], where))

    def port_axes(self, item: object, where: str) -> tuple[str, tuple[Legs, ...]]:
        """The axes with which a port's input comes."""
        port, axes = _pair(item, where)
        return _name(port, where), self.axes(axes, where)

    def memory(self, item: object) -> Memory:
        """How the plan keeps to a memory limit."""
        record = _record(item, "memory", "recompute chunk slices adds")
        chunk = record["chunk"]
        return Memory(
            recompute=_list(record["recompute"], "memory.recompute", _name),
            chunk=None if chunk is None else _whole(chunk, "memory.chunk", least=1),
            slices=_list(record["slices"], "memory.slices", self.leg),
            adds=_flag(record["adds"], "memory.adds"),
        )


# -- pieces of a document ----------------------------------------------------------------------


def _problem(where: str, expected: str) -> PlanDocumentError:
    return PlanDocumentError(f"{where}: expected {expected}")


def _record(item: object, where: str, keys: str) -> Document:
    """An object with these keys, none missing and none more."""
    if not isinstance(item, dict) or set(item) != set(keys.split()):
        raise _problem(where, f"an object with the keys {keys}")
    return cast("Document", item)


def _list(item: object, where: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
    """A list, each of its items read by a function."""
    if not isinstance(item, list) or len(item) > MAX_ITEMS:
        raise _problem(where, f"a list of at most {MAX_ITEMS} items")
    listed = cast("list[object]", item)
    return tuple(read(inner, f"{where}[{place}]") for place, inner in enumerate(listed))


def _pair(item: object, where: str) -> tuple[object, object]:
    """A list of two."""
    if not isinstance(item, list) or len(item) != 2:
        raise _problem(where, "a list of two items")
    first, second = cast("list[object]", item)
    return first, second


def _name(item: object, where: str) -> str:
    """A canonical name."""
    if not isinstance(item, str) or not _NAME.fullmatch(item):
        raise _problem(where, "a canonical name")
    return item


def _text(item: object, where: str) -> str:
    if not isinstance(item, str):
        raise _problem(where, "a string")
    return item


def _flag(item: object, where: str) -> bool:
    if not isinstance(item, bool):
        raise _problem(where, "true or false")
    return item


def _whole(item: object, where: str, least: int) -> int:
    """A whole number; true and false are none."""
    if isinstance(item, bool) or not isinstance(item, int) or not least <= item <= MAX_SIZE:
        raise _problem(where, f"a whole number from {least} to {MAX_SIZE}")
    return item


def _region(item: object, where: str) -> BackendSpan:
    """A backend with the number of its steps."""
    backend, steps = _pair(item, where)
    known = region_names()
    if backend not in known:
        raise _problem(where, f"one of {', '.join(known)}, and a number of steps")
    return BackendSpan(str(backend), _whole(steps, where, least=0))


def _origin(item: object, where: str) -> Origin | None:
    """Where a step of a backward comes from."""
    if item is None:
        return None
    if not isinstance(item, list) or len(cast("list[object]", item)) != 3:
        raise _problem(f"{where}.origin", "a role, a step and a value")
    role, step, value = cast("list[object]", item)
    if role not in _ROLES:
        raise _problem(f"{where}.origin", f"one of {', '.join(_ROLES)}")
    named = "" if step == "" else _name(step, f"{where}.origin")
    return Origin(role, named, _name(value, f"{where}.origin"))


def _leg_size(item: object, where: str) -> tuple[str, int]:
    """A leg with its size."""
    leg, size = _pair(item, where)
    return _name(leg, where), _whole(size, where, least=1)


def _read_pins(item: object, where: str) -> tuple[tuple[int, int], ...]:
    """(axis, index) pairs."""

    def pin(inner: object, place: str) -> tuple[int, int]:
        axis, index = _pair(inner, place)
        return _whole(axis, place, least=0), _whole(index, place, least=0)

    return _list(item, where, pin)


def _read_term(item: object, where: str) -> tuple[str, bool]:
    """The name of a term, and whether its conjugate is meant."""
    name, conj = _pair(item, where)
    return _name(name, where), _flag(conj, where)
