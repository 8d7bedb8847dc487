"""Which network a word of the command line names: a topology, a function, a file or stdin."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import topologies
from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.as_graph import as_sum, is_sum
from ..graph.graph import Graph
from ..graph.network import Network
from ..graph.sum_of_networks import SumOfNetworks
from ..graph.topology_names import hint, missing
from ..support.wording import counted

WAYS = (
    'a topology, "mera(12, bond=3)"; a JSON file; MODULE:FUNCTION, also with arguments; or - for '
    "JSON on stdin"
)
_CALL = re.compile(r"([\w.]+(?::[\w.]+)?)\s*(?:\((.*)\))?", re.DOTALL)
_TOPOLOGIES = "tnlayer.topologies"


def load_network(text: str) -> Network:
    """The one network that a word of the command line names.

    Arguments:
        text: as for :func:`load_networks`.

    Raises:
        SpecError: as there, or it is a sum of networks.

    >>> load_network("mera").parameter_count
    304
    >>> load_network("tensor_train((4, 4), (4, 4), rank=2)").parameter_count
    64
    >>> load_network("tnlayer.topologies:mera(6)").parameter_count
    128
    """
    found = load_networks(text)
    if isinstance(found, SumOfNetworks):
        msg = (
            f"{shown(text)} gives a sum of {counted(len(found), 'network')}, and this command "
            "takes one network: return one of them, such as the_sum[0]; show, draw, plan, cost, "
            "compare, code and report take the whole sum"
        )
        raise SpecError(msg)
    return found


def load_networks(text: str) -> Network | SumOfNetworks:
    """The network that a word of the command line names, or the sum of networks.

    Arguments:
        text: a topology with its arguments; MODULE:FUNCTION, with arguments or without; the name of
            a JSON file; or "-", for JSON on stdin. Arguments are Python's literals. A sum is what a
            function returns, ``net1 + net2``, ``tn.energy(...)`` or a list of networks.

    Raises:
        SpecError: it names nothing that is there, or what is there gives no network.
    """
    if text == "-":
        return _from_json(sys.stdin.buffer.read(), "stdin")
    if Path(text).exists():
        return _from_file(text)
    call = _CALL.fullmatch(text.strip())
    is_file = "/" in text or text.endswith(".json")
    if call is None or (is_file and ":" not in text):
        return _from_file(text)
    name, given = call[1], call[2]
    function, told = _function(name)
    return _made(function, told if given is None else text, given or "")


def topology(name: str) -> Callable[..., Network]:
    """The topology of a name, as ``fit`` takes it; or the function that MODULE:FUNCTION names.

    Raises:
        SpecError: there is none.
    """
    return _function(name)[0]


def _from_file(text: str) -> Network:
    try:
        content = Path(text).read_bytes()
    except OSError as error:
        msg = f"{shown(text)} cannot be read ({error.strerror}); pass {WAYS}"
        raise SpecError(msg) from error
    return _from_json(content, text)


def _from_json(content: bytes, where: str) -> Network:
    try:
        return Network.from_json(content)
    except SpecError as error:
        msg = f"{where!r}: {error}"
        raise SpecError(msg) from error


def _function(name: str) -> tuple[Any, str]:
    """A topology, or what MODULE:FUNCTION names; and the name as a user knows it."""
    module_name, colon, function_name = name.partition(":")
    if not colon:
        if name in topologies.__all__:
            return getattr(topologies, name), name
        msg = (
            f"there is no topology and no file {shown(name)}{hint(name, topologies.__all__)}; pass "
            f"{WAYS}"
        )
        raise SpecError(msg)
    if "" not in sys.path:
        sys.path.insert(0, "")
    if module_name == _TOPOLOGIES and function_name not in topologies.__all__:
        raise SpecError(missing(function_name, topologies.__all__))
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except ModuleNotFoundError as error:
        missing_one = error.name or ""
        msg = (
            f"{name!r}: there is no module {missing_one!r}: looked in the current folder, "
            f"{Path.cwd()}, on PYTHONPATH and in what is installed; expected MODULE:FUNCTION"
        )
        raise SpecError(msg) from error
    # Whatever the user's module raises while it is loaded.
    except Exception as error:
        msg = f"{name!r}: {type(error).__name__}: {error}; expected MODULE:FUNCTION"
        raise SpecError(msg) from error
    return found, name


def _made(function: Any, text: str, given: str) -> Network | SumOfNetworks:
    """The network, or the sum of networks, that a function returns."""
    made = called(function, text, given)
    if is_sum(made):
        return as_sum(made)
    if isinstance(made, Graph):
        return Network.from_graph(made)
    if not isinstance(made, Network):
        msg = (
            f"{text!r} returned {type(made).__name__}; expected a tnlayer.Network, or a sum of "
            "them, net1 + net2"
        )
        raise SpecError(msg)
    return made


def named(text: str) -> tuple[Any, str | None]:
    """What MODULE:NAME names, and the arguments behind it as text; None where there are none.

    Arguments:
        text: MODULE:NAME, with arguments in brackets or without.

    Raises:
        SpecError: it has another form, or there is nothing of that name.
    """
    call = _CALL.fullmatch(text.strip())
    if call is None or ":" not in call[1]:
        msg = f"{shown(text)}: expected MODULE:FUNCTION, with arguments or without"
        raise SpecError(msg)
    return _function(call[1])[0], call[2]


def called(function: Any, text: str, given: str) -> Any:
    """What a function returns; whatever the user's code raises is a SpecError.

    Arguments:
        function: to call.
        text: as the user wrote it.
        given: the arguments, as they stand between brackets.

    Raises:
        SpecError: the arguments do not fit, or the function raised.
    """
    positional, keywords = _arguments(given, text)
    try:
        signature = inspect.signature(function)
        signature.bind(*positional, **keywords)
    except (TypeError, ValueError) as error:
        wanted = ""
        if callable(function):
            wanted = (
                f'; write its arguments behind it: "{text.partition("(")[0]}{_shape(function)}"'
            )
        msg = f"{text!r}: {error}{wanted}"
        raise SpecError(msg) from error
    try:
        return function(*positional, **keywords)
    except SpecError:
        raise
    except Exception as error:
        msg = f"{text!r} raised {type(error).__name__}: {error}"
        raise SpecError(msg) from error


def _shape(function: Callable[..., Any]) -> str:
    """The parameters of a function, as they are written in a call."""
    found = inspect.signature(function).parameters.values()
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found]
    return str(inspect.Signature(bare))


def _arguments(given: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as they stand between brackets; nothing in them is run."""
    try:
        call = ast.parse(f"f({given})", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("no call")
        positional = [ast.literal_eval(one) for one in call.args]
        named = {one.arg or "": ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        msg = (
            f"{shown(text)}: the arguments must be numbers, texts, and sequences of them, as in "
            '"tensor_train((4, 4), (4, 4), rank=2)"'
        )
        raise SpecError(msg) from error
    return positional, named
