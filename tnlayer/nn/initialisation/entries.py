"""How the entries of a tensor start: drawn, given, isometric, or by a registered initialiser."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ...errors import SpecError
from ...graph.graph import SCALED, Graph, Parameter
from ...graph.near_identity import IDENTITY, NearIdentity
from ...runtime.array_checks import PLAIN
from ...support.dtypes import DTYPES
from ..layer_inputs import dtype_name
from .near_identity import near_identity_entries

Initialiser = Callable[[torch.Tensor], object]

# Drawn in the dtype of the arithmetic, and rounded once.
STORED_ONLY = tuple(getattr(torch, dtype.name) for dtype in DTYPES.values() if dtype.is_stored_only)


def orthogonal_(tensor: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
    """Fill with a Haar-random isometry of the matricised tensor.

    Arguments:
        tensor: any shape.
        rows: axes of one side of the matrix; the smaller side becomes orthonormal.

    Source: F. Mezzadri, How to generate random matrices from the classical compact groups (2007):
    the QR decomposition of a Gaussian matrix, with the phases of R's diagonal taken out.
    """
    columns = tuple(axis for axis in range(tensor.dim()) if axis not in rows)
    row_size = math.prod(tensor.shape[axis] for axis in rows)
    column_size = math.prod(tensor.shape[axis] for axis in columns)
    tall, short = max(row_size, column_size), min(row_size, column_size)
    work = torch.complex128 if tensor.is_complex() else torch.float64
    q, r = torch.linalg.qr(torch.randn(tall, short, dtype=work, device="cpu"))
    diagonal = r.diagonal()
    q = q * (diagonal / diagonal.abs())
    matrix = q if row_size >= column_size else q.mT
    shape = [tensor.shape[axis] for axis in (*rows, *columns)]
    back = torch.argsort(torch.tensor((*rows, *columns), device="cpu")).tolist()
    return tensor.copy_(matrix.reshape(shape).permute(back))


def _eye_(tensor: torch.Tensor) -> torch.Tensor:
    """Ones where all indices are equal, zeros elsewhere."""
    tensor.zero_()
    if tensor.dim() == 0:
        return tensor.fill_(1)
    index = torch.arange(min(tensor.shape), device=tensor.device)
    tensor[(index,) * tensor.dim()] = 1
    return tensor


def _unit_uniform_(tensor: torch.Tensor) -> torch.Tensor:
    """Uniform with variance 1; half of it in each part of a complex entry."""
    if tensor.is_complex():
        bound = math.sqrt(1.5)
        torch.view_as_real(tensor).uniform_(-bound, bound)
        return tensor
    return tensor.uniform_(-math.sqrt(3), math.sqrt(3))


def _orthogonal_halves_(tensor: torch.Tensor) -> torch.Tensor:
    """A Haar isometry between the first half of the axes and the second."""
    return orthogonal_(tensor, tuple(range(tensor.dim() // 2)))


# "normal" and "uniform" have unit variance here and are scaled by the rule above.
_SCALED: dict[str, Initialiser] = {"normal": lambda t: t.normal_(), "uniform": _unit_uniform_}
_REGISTERED: dict[str, Initialiser] = {
    "zeros": lambda t: t.zero_(),
    "ones": lambda t: t.fill_(1),
    "eye": _eye_,
    "orthogonal": _orthogonal_halves_,
}


def register_initialiser(name: str, initialiser: Initialiser) -> None:
    """Make ``init=name`` fill tensors with a function that works in place, at full shape.

    These names are there without it: "normal" and "uniform", which are drawn and scaled so that
    Var(y) = Var(x); "zeros"; "ones"; "eye", ones where all indices are equal; "orthogonal", a Haar
    isometry between the first half of the axes and the second; "identity", near which signals
    pass; and, with ``isometry=``, "scaled".

    Arguments:
        name: a Python identifier.
        initialiser: gets a tensor of the full shape, on the CPU, and fills it in place, or gives
            another one of its shape.

    Raises:
        SpecError: the name is taken.

    >>> import tnlayer as tn
    >>> tn.register_initialiser("halves", lambda tensor: tensor.fill_(0.5))
    """
    # A cell of a notebook that runs again defines its function anew.
    is_again = _same_source(_REGISTERED.get(name), initialiser)
    if name in (*_REGISTERED, *_SCALED, SCALED, IDENTITY) and not is_again:
        msg = f"an initialiser {name!r} is registered already; choose another name"
        raise SpecError(msg)
    _REGISTERED[name] = initialiser


def _same_source(known: Initialiser | None, new: Initialiser) -> bool:
    """Whether two functions have one place in the source of the user's program."""
    if known is None:
        return False
    places = [[getattr(f, key, "") for key in ("__module__", "__qualname__")] for f in (known, new)]
    return places[0] == places[1] and "<lambda>" not in places[0][1]


def check_initialisers(graph: Graph) -> None:
    """Refuse a graph that names an initialiser nobody registered."""
    known = {**_SCALED, **_REGISTERED, SCALED: None, IDENTITY: None}
    for tensor in graph.tensors:
        if isinstance(tensor.init, str) and tensor.init not in known:
            msg = (
                f"tensor {tensor.name!r}: init={tensor.init!r} is not registered; expected one of "
                f"{', '.join(sorted(known))}, or call tnlayer.register_initialiser first"
            )
            raise SpecError(msg)


def is_free(parameter: Parameter) -> bool:
    """Whether the variance rule sets the scale of this array."""
    node = parameter.node
    if node.value is not None:
        return False
    if node.isometry:
        return node.init == SCALED
    return node.init is None or (isinstance(node.init, str) and node.init in _SCALED)


def unit_entries(parameter: Parameter, array: torch.Tensor) -> torch.Tensor:
    """Entries at full shape of a free tensor, with variance 1.

    Arguments:
        parameter: the tensor.
        array: that they are for. They are drawn there if that gives the same ones.
    """
    node = parameter.node
    full = array
    wide, shape = _wide(array.dtype), parameter.full_shape
    if not (type(array) in PLAIN and array.is_cpu and array.dtype is wide
            and array.shape == shape and array.is_contiguous()):  # fmt: skip
        full = torch.empty(shape, dtype=wide, device="cpu")
    if node.isometry:
        orthogonal_(full, node.isometry)
        rows = math.prod(parameter.full_shape[axis] for axis in node.isometry)
        return full.mul_(math.sqrt(max(rows, full.numel() // max(1, rows))))
    _SCALED[node.init if isinstance(node.init, str) else "normal"](full)
    return full


def given_entries(graph: Graph, parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """Entries at full shape that do not depend on the variance rule."""
    node = parameter.node
    if node.value is not None:
        return _in_range(torch.from_numpy(node.value.array.copy()), parameter, dtype)
    if node.init == IDENTITY or isinstance(node.init, NearIdentity):
        near = node.init if isinstance(node.init, NearIdentity) else NearIdentity()
        return near_identity_entries(graph, node, near.noise, _wide(dtype))
    if isinstance(node.init, str) or callable(node.init):
        own = _REGISTERED[node.init] if isinstance(node.init, str) else node.init
        return _filled(own, torch.empty(parameter.full_shape, dtype=dtype, device="cpu"), parameter)
    full = torch.empty(parameter.full_shape, dtype=_wide(dtype), device="cpu")
    if node.isometry:
        return orthogonal_(full, node.isometry)
    full = full.double() if not full.is_complex() else full.to(torch.complex128)
    return _in_range(full.normal_().mul_(float(node.init or 0.0)), parameter, dtype)


def _filled(initialiser: Initialiser, full: torch.Tensor, parameter: Parameter) -> torch.Tensor:
    """What an initialiser makes of an array: it fills it, or gives another one of its shape.

    Raises:
        SpecError: it left entries as they were, or gave something else.
    """
    where = f"tensor {parameter.name!r}: the initialiser {_name_of(initialiser)}"
    if type(full) in PLAIN:
        full.fill_(math.nan)  # what is not filled must not be what memory held
    given = initialiser(full)
    if isinstance(given, torch.Tensor) and given is not full:
        if given.shape != full.shape:
            msg = (
                f"{where} gave a tensor of shape {tuple(given.shape)}, expected "
                f"{tuple(full.shape)}; give one of the shape of its argument, or fill that in place"
            )
            raise SpecError(msg)
        with torch.no_grad():
            full.copy_(given)
    left = int(full.isnan().sum()) if type(full) in PLAIN else 0
    if left:
        msg = (
            f"{where} left {left:,} of {full.numel():,} entries unfilled, or NaN; fill its "
            "argument in place, as with tensor.normal_(), or return a tensor of that shape"
        )
        raise SpecError(msg)
    return full


def _name_of(initialiser: Initialiser) -> str:
    return repr(getattr(initialiser, "__name__", type(initialiser).__name__))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which entries are drawn: half precision is rounded once, at the end."""
    return getattr(torch, DTYPES[dtype_name(dtype)].arithmetic)


def _in_range(full: torch.Tensor, parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """The same entries, if a dtype can hold the largest of them."""
    peak = float(full.abs().amax()) if full.numel() else 0.0
    info = torch.finfo(dtype)
    if 0 < peak < info.smallest_normal * info.eps or info.max < peak < math.inf:
        what = "value" if parameter.node.value is not None else f"init={parameter.node.init}"
        msg = (
            f"tensor {parameter.name!r}: {what} has entries of up to {peak:.3g}, but {dtype} holds "
            f"{info.smallest_normal:.3g} to {info.max:.3g}; scale it, or make the layer with a "
            "dtype of a wider range"
        )
        raise SpecError(msg)
    return full


def cut(full: torch.Tensor, parameter: Parameter) -> torch.Tensor:
    """The stored slices of an array at full shape."""
    for axis, pin in reversed(list(enumerate(parameter.pins))):
        if pin is not None:
            full = full.select(axis, pin)
    return full
