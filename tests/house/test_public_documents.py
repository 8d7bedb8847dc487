"""What help() tells: every public member has its arguments, what it raises, and an example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pytest

import tnlayer as tn
from docs.pages_from_code.reference import OF_BACKENDS, OF_LAYERS


def function_of(member: Any) -> Callable[..., Any] | None:
    """The function behind a method or a property; None for anything else."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, cached_property):
        return member.func
    if isinstance(member, classmethod | staticmethod):
        return member.__func__
    return member if inspect.isfunction(member) else None


def members(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public methods and properties of a class that are ours, by name; without those that it has
    from another public class, or has in another way than that: what they are is said there."""
    seen: set[str] = set()
    above = {getattr(tn, name) for name in tn.__all__} - {cls}
    of_others = {name for owner in cls.__mro__ if owner in above for name in dir(owner)}
    for owner in cls.__mro__:
        if not owner.__module__.startswith("tnlayer"):
            continue
        for name, member in vars(owner).items():
            function = function_of(member)
            if name.startswith("_") or name in seen or function is None:
                continue
            seen.add(name)
            internal = OF_BACKENDS if cls is tn.Program else OF_LAYERS
            if name not in internal and name not in of_others:
                yield name, function


def public() -> dict[str, tuple[Callable[..., Any], str]]:
    """Each public function and member by its name, with the text of its class."""
    found: dict[str, tuple[Callable[..., Any], str]] = {}
    for name in tn.__all__:
        thing = getattr(tn, name)
        if inspect.isclass(thing):
            text = inspect.getdoc(thing) or ""
            found |= {f"{name}.{m}": (function, text) for m, function in members(thing)}
        elif inspect.isfunction(thing):
            found[name] = (thing, "")
    found |= {f"topologies.{n}": (getattr(tn.topologies, n), "") for n in tn.topologies.__all__}
    return found


PUBLIC = public()


def lacks(name: str, function: Callable[..., Any], of_class: str) -> list[str]:
    """What the text of a member does not have."""
    text = inspect.getdoc(function) or ""
    takes = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    found: list[str] = []
    if not text:
        found.append("a text")
    if takes and "Arguments:" not in text:
        found.append("Arguments:")
    found += [f"{one} in its text" for one in takes if not re.search(rf"\b{one}\b", text)]
    if re.search(r"^\s+raise ", inspect.getsource(function), re.MULTILINE) and "Raises" not in text:
        found.append("Raises:")
    # Members of a value are shown together, in the example of its class.
    short = name.rpartition(".")[2]
    if ">>>" not in text and not re.search(rf">>> .*\.{short}\b", of_class):
        found.append("an example")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_member_is_documented(name: str) -> None:
    """Arguments where it takes some, each by its name, Raises where it raises, and an example, its
    own or in that of its class; all examples run as doctests."""
    assert lacks(name, *PUBLIC[name]) == []


def test_there_are_members() -> None:
    """The list has the functions, the methods, the properties and the topologies."""
    assert len(PUBLIC) > 110
    assert {"plan", "Network.tensor", "Layer.weight", "Graph.sizes", "topologies.mera"} <= set(
        PUBLIC
    )


@pytest.mark.parametrize("name", tn.__all__)
def test_every_class_has_an_example(name: str) -> None:
    """Errors as well."""
    thing = getattr(tn, name)
    if inspect.isclass(thing):
        assert ">>>" in (inspect.getdoc(thing) or "")
