"""The builder's table of legs: sizes, who declared them, and which wire went where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..errors import SpecError
from .argument_checks import check_name, check_size, shown, take_bounded
from .graph import MAX_LEGS, Graph
from .validate import ends_of


@dataclass(slots=True)
class _Leg:
    """What is known of a leg; a wire is a fresh leg, which has one producer and one consumer."""

    size: int
    declared: str
    is_bond: bool = False
    is_wire: bool = False
    is_copied: bool = False
    consumer: str | None = None


class LegTable:
    """The legs of a network that is being built; each change happens as a whole or not at all."""

    def __init__(self) -> None:
        self._legs: dict[str, _Leg] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._legs

    def __iter__(self) -> Iterator[str]:
        return iter(self._legs)

    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Size of each leg, in the order of declaration."""
        return tuple((name, leg.size) for name, leg in self._legs.items())

    def copy(self) -> LegTable:
        """An independent table with the same content."""
        other = LegTable()
        other._legs = {name: replace(leg) for name, leg in self._legs.items()}
        return other

    @classmethod
    def of(cls, graph: Graph) -> LegTable:
        """The table of a finished graph, where each wire has found its consumer."""
        table = cls()
        ports = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
        for name, size in graph.leg_sizes:
            said = f"{'port' if name in ports else 'bond'} ({name}={size})"
            table._legs[name] = _Leg(size, said, name not in ports, is_wire="." in name)
        produced: set[str] = set()
        for node, legs in ends_of(graph):
            for name in legs:
                leg = table._legs[name]
                # The first end makes a wire, the second consumes it, a third makes it a copy.
                leg.is_copied = leg.consumer is not None
                if name in produced:
                    leg.consumer = node
                produced.add(name)
        return table

    def declare(
        self, dims: Mapping[str, int], what: str, *, is_bond: bool = False
    ) -> tuple[str, ...]:
        """Add named legs; the legs of ports may be declared again at their size."""
        take_bounded(dims, what)
        legs: dict[str, _Leg] = {}
        for name, given in dims.items():
            check_name(name, f"{what}: leg")
            size = check_size(given, f"{what}, leg {name!r}")
            legs[name] = _Leg(size, f"{what} ({name}={size})", is_bond)
            if name in self._legs:
                _check_again(name, self._legs[name], legs[name])
        self._check_room(len(legs), what)
        for name, leg in legs.items():
            self._legs.setdefault(name, leg)
        return tuple(legs)

    def make_wires(self, base: str, first: int, dims: object, what: str) -> tuple[str, ...]:
        """Add fresh legs, named after their node and axis."""
        if not isinstance(dims, Iterable) or isinstance(dims, str | Mapping):
            msg = f"{what}: expected a sequence of sizes such as (2, 3), got {shown(dims)}"
            raise SpecError(msg)
        sizes = [
            check_size(size, f"{what}, leg {axis}")
            for axis, size in enumerate(take_bounded(dims, what), start=first)
        ]
        self._check_room(len(sizes), what)
        names: list[str] = []
        for axis, size in enumerate(sizes, start=first):
            name = f"{base}.{axis}"
            # A port and a tensor may have one name; the second one's wires are told apart.
            while name in self._legs:
                name += ".0"
            self._legs[name] = _Leg(size, f"a wire of {what} (size {size})", is_wire=True)
            names.append(name)
        return tuple(names)

    def allow_copies(self, name: str) -> None:
        """Let a wire be consumed any number of times."""
        self._legs[name].is_copied = True

    def check_wires(self, legs: tuple[str, ...], consumer: str) -> None:
        """Refuse a wire's second consumer: a forgotten rebinding is no copy tensor."""
        seen: set[str] = set()
        for name in legs:
            leg = self._legs.get(name)
            if leg is None or not leg.is_wire or leg.is_copied:
                continue
            first = consumer if name in seen else leg.consumer
            if first is not None:
                msg = (
                    f"wire {name!r} is consumed twice: by {first} and by {consumer}; use the wire "
                    f"that the first one returned, or call net.copy_leg({name!r}) before if a "
                    "copy tensor is meant"
                )
                raise SpecError(msg)
            seen.add(name)

    def mark_wires(self, legs: tuple[str, ...], consumer: str) -> None:
        """Remember who consumed these wires."""
        for name in legs:
            if name in self._legs:
                self._legs[name].consumer = consumer

    def _check_room(self, count: int, what: str) -> None:
        if len(self._legs) + count > MAX_LEGS:
            msg = (
                f"{what} adds {count} legs to {len(self._legs)}, at most {MAX_LEGS} are allowed; "
                "use fewer, larger legs"
            )
            raise SpecError(msg)


def _check_again(name: str, known: _Leg, again: _Leg) -> None:
    """A leg that is declared a second time: by ports and at the same size."""
    if known.size != again.size:
        msg = (
            f"size clash on leg {name!r}: {known.declared} and {again.declared}; "
            "use one size, or two names"
        )
        raise SpecError(msg)
    if again.is_bond or known.is_bond:
        msg = (
            f"leg {name!r} is declared twice: {known.declared} and {again.declared}; "
            "a bond is declared once and is no leg of a port: use another name"
        )
        raise SpecError(msg)
