"""From generated Python source to functions, with tracebacks that show the source."""

from __future__ import annotations

import hashlib
import linecache
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..errors import BuildError
from ..support.debug import debug
from . import scratch, wide_products

Pins = tuple[tuple[int, int], ...]


def put_diagonal(
    source: torch.Tensor, result: torch.Tensor, pairs: tuple[tuple[int, int], ...]
) -> torch.Tensor:
    """Zeros in the result, with the source on the diagonals of pairs of axes taken in turn."""
    result.zero_()
    diagonal = result
    for first, second in pairs:
        diagonal = diagonal.diagonal(0, first, second)
    diagonal.copy_(source)
    return result


def place(parts: Sequence[tuple[torch.Tensor, Pins]], result: torch.Tensor) -> torch.Tensor:
    """Zeros in the result, with each part added at its pinned (axis, index) positions."""
    result.zero_()
    for part, pins in parts:
        target = result
        for axis, index in sorted(pins, reverse=True):
            target = target.select(axis, index)
        target.add_(part)
    return result


def _copy(source: torch.Tensor) -> torch.Tensor:
    return source.clone(memory_format=torch.contiguous_format)


def _mul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.mul(left, right).contiguous()


class _Shown:
    """A source in linecache: its functions hold this."""

    __slots__ = ("__weakref__",)


_shown: weakref.WeakValueDictionary[str, _Shown] = weakref.WeakValueDictionary()


def _show(filename: str, source: str) -> _Shown:
    """Register a source, until what is returned is collected."""
    shown = _shown.get(filename)
    if shown is None:
        shown = _shown[filename] = _Shown()
        weakref.finalize(shown, _hide, filename).atexit = False
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return shown


def _hide(filename: str) -> None:
    # Meanwhile the same source may have been loaded again.
    if filename not in _shown:
        linecache.cache.pop(filename, None)


# All that generated source may name beside its own variables: what torch can differentiate and
# trace, what allocates each array once, and what takes memory that calls reuse.
TRACEABLE: Mapping[str, Any] = {
    "torch": torch,
    "contiguous": torch.contiguous_format,
    "put_diagonal": put_diagonal,
    "place": place,
    "mm": torch.mm,
    "bmm": torch.bmm,
    "mul": _mul,
    "new_mul": _mul,
    "copy": _copy,
    "wide_product": wide_products.product,
    "add_wide_product": wide_products.add_product,
}
FRESH: Mapping[str, Any] = {
    **TRACEABLE,
    "mul": scratch.new_mul,
    "new_mul": scratch.new_mul,
    "wide_product": wide_products.product_reusing,
}
REUSING: Mapping[str, Any] = {
    **FRESH,
    "mm": scratch.mm,
    "bmm": scratch.bmm,
    "mul": scratch.mul,
    "copy": scratch.copy,
}


def load_source(
    source: str, known: Mapping[str, Any] = TRACEABLE
) -> dict[str, Callable[..., tuple[torch.Tensor, ...]]]:
    """Compile generated source and return its functions by name.

    The source is registered in linecache under a name made from its content, so that tracebacks,
    pdb and inspect show the generated line; as long as one of its functions lives.

    Arguments:
        source: what a printer gave.
        known: what the source may name; all but the default are for calls that torch neither
            differentiates nor traces.

    Raises:
        BuildError: the source does not compile (a fault of the generator).
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    filename = f"<tnlayer {digest}>"
    debug(4, f"{filename}\n{source}")
    try:
        code = compile(source, filename, "exec")
    except SyntaxError as error:
        msg = f"generated source {filename} does not compile: {error}; please report it"
        raise BuildError(msg) from error
    namespace: dict[str, Any] = {**known, "__shown__": _show(filename, source)}
    exec(code, namespace)
    return {
        name: value
        for name, value in namespace.items()
        if name not in known and not name.startswith("__")
    }
