"""load: a layer from a file, or the layers and tensors of a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import listed, shown, suggest
from ..graph.told_calls import told
from ..nn.dense_modules import CONV1D, as_dense, follow_gradients, replace_module, unwrapped
from ..nn.layer import Layer
from ..nn.layer_inputs import device_of
from ..support.dtypes import DTYPES
from ..support.wording import counted
from .document import ModelDocument, read_document
from .module_records import ModuleRecord
from .safetensors_file import Header, as_path, read_header, read_tensors
from .state import as_stored, check_equal_ties, materialise

# Kinds of modules of torch that a layer of a kind takes the place of.
_IN_PLACE_OF = {
    "Layer": ("Linear", CONV1D),
    "Padded": ("Linear", CONV1D),
    "Conv2d": ("Conv2d",),
    "Embedding": ("Embedding",),
}

Shapes = Mapping[str, tuple[int, ...]]


@told("tn.load('model.safetensors', into=model), of a freshly made model")
def load(
    path: str | os.PathLike[str],
    *,
    into: nn.Module | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> nn.Module:
    """Read what :func:`tnlayer.save` wrote.

    No code and no pickle of the file is run: it has tensors and descriptions of networks, and all
    of it is checked before anything is allocated.

    Arguments:
        path: of the file.
        into: a freshly made model of the class that was saved, dense or compressed. Its modules are
            swapped for the layers that the file describes, and all tensors are loaded, strictly:
            names and shapes must be the model's. If anything is wrong the model stays as it was.
            All take
            the dtype that the model has there. Without it the file must be a layer's.
        device: for the arrays: of a layer, by default the CPU; of a model, for those that are on
            the meta device.
        options: of the layers that shall not be as they were saved, such as backend="auto".

    Returns:
        the layer; or the model, which is ``into`` itself unless that was swapped as a whole.

    Raises:
        SpecError: the file is damaged, hostile, not written by tn.save, or does not fit the model.
        OSError: the file cannot be read.

    >>> import tempfile, torch, tnlayer as tn
    >>> layer = tn.Layer(tn.topologies.low_rank(8, 6, rank=2), backend="torch")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tn.save(layer, f"{folder}/layer.safetensors")
    ...     again = tn.load(f"{folder}/layer.safetensors")
    >>> bool(torch.equal(again.weight, layer.weight))
    True
    """
    file = as_path(path, "tn.load('model.safetensors', into=model)")
    header = read_header(file)
    document = read_document(header.metadata, shown(str(file)))
    if into is None:
        return _load_layer(header, document, device_of(device), options)
    if not isinstance(into, nn.Module):
        msg = f"load: into={shown(into)}, expected a torch.nn.Module"
        raise SpecError(msg)
    return _load_model(header, document, into, device, options)


# -- a layer ---------------------------------------------------------------------------------------


def _load_layer(
    header: Header, document: ModelDocument, device: torch.device, options: Mapping[str, Any]
) -> Layer:
    where = shown(str(header.path))
    if list(document.modules) != [""]:
        msg = (
            f"{where} has a model with {counted(len(document.modules), 'layer')}, and no code to "
            "make it; make the model as before it was compressed, and pass it: tn.load(..., "
            "into=model)"
        )
        raise SpecError(msg)
    _check_sizes(document.modules[""], "", header, document)
    layer = document.modules[""].build(**options)
    _check_fits(_shapes_of(layer), header, document)
    materialise(layer, device)
    layer.load_state_dict(_state(header, document))
    return layer


# -- a model ---------------------------------------------------------------------------------------


def _load_model(
    header: Header,
    document: ModelDocument,
    model: nn.Module,
    device: torch.device | str | None,
    options: Mapping[str, Any],
) -> nn.Module:
    inner = unwrapped(model)
    if inner is not model and "" in document.modules:
        msg = "load: the file has a layer, and the model is wrapped; pass what is within"
        raise SpecError(msg)
    swaps = [
        (old, _layer_for(name, record, old, header, document, options))
        for name, record in document.modules.items()
        for old in (_module(inner, name),)
    ]
    root, done = inner, list[tuple[nn.Module, nn.Module]]()
    try:
        for old, new in swaps:
            root = replace_module(root, old, new)
            done.append((old, new))
        _check_fits(_shapes_of(root), header, document)
        state = _state(header, document)
        check_equal_ties(root, state)
        for old, new in swaps:
            materialise(new, _device_beside(old, device))
        materialise(root, device_of(device))
        _load_state(root, state)
    except BaseException:
        for old, new in reversed(done):
            replace_module(root, new, old)
        raise
    return model if root is inner else root


def _load_state(root: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    try:
        root.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:  # a hook of the model's that changes names
        msg = f"load: the model does not take the file's tensors: {error}"
        raise SpecError(msg) from error


def _module(model: nn.Module, name: str) -> nn.Module:
    """The module of a model under a name."""
    found = dict(model.named_modules(remove_duplicate=False))
    if name not in found:
        msg = (
            f"load: the model has no module {shown(name)}{suggest(name, found)}; make it as it was "
            "made before it was compressed"
        )
        raise SpecError(msg)
    return found[name]


def _layer_for(
    name: str,
    record: ModuleRecord,
    old: nn.Module,
    header: Header,
    document: ModelDocument,
    options: Mapping[str, Any],
) -> Layer:
    """The layer that takes the place of a module, on the meta device."""
    _check_sizes(record, name, header, document)
    layer = record.build(**{**dtype_beside(old, record), **options})
    check_place(name, record, layer, old)
    layer.train(old.training)
    follow_gradients(layer, old)
    return layer


def check_place(name: str, record: ModuleRecord, layer: Layer, old: nn.Module) -> None:
    """Refuse a layer that cannot stand where a module stands.

    Raises:
        SpecError: kinds, features or biases differ.
    """
    dense = as_dense(old)
    if dense is not None:
        has_bias = getattr(layer, "bias", None) is not None
        fits = dense.kind in _IN_PLACE_OF[record.kind] and has_bias == dense.has_bias
        sizes = (dense.in_features, dense.out_features)
    else:
        fits = isinstance(old, Layer)
        sizes = (old.in_features, old.out_features) if isinstance(old, Layer) else (0, 0)
    if not fits or sizes != (layer.in_features, layer.out_features):
        msg = (
            f"load: the file has a {record.kind} from {layer.in_features} to {layer.out_features} "
            f"features for {shown(name)}, where the model has {type(old).__name__} from {sizes[0]} "
            f"to {sizes[1]}; make the model as it was made before it was compressed"
        )
        raise SpecError(msg)


def dtype_beside(old: nn.Module, record: ModuleRecord) -> dict[str, torch.dtype]:
    """The dtype of a module that is replaced, which its neighbours have as well."""
    dtypes = {array.dtype for array in old.parameters()}
    if len(dtypes) != 1 or DTYPES[record.dtype].is_complex:
        return {}
    dtype = dtypes.pop()
    known = DTYPES.get(str(dtype).removeprefix("torch."))
    return {} if known is None or known.is_complex else {"dtype": dtype}


def _device_beside(old: nn.Module, device: torch.device | str | None) -> torch.device:
    """Where a module lies that is replaced; from the meta device, where it was asked for."""
    first = next(old.parameters(), None)
    return device_of(device) if first is None or first.is_meta else first.device


# -- checks ----------------------------------------------------------------------------------------


def _check_sizes(record: ModuleRecord, name: str, header: Header, document: ModelDocument) -> None:
    """Tensors of a record's networks are in the file with their shapes: so a network that is too
    large for anything costs nothing, for nothing is made of it before."""
    for graph in record.networks:
        for parameter in graph.parameters:
            key = f"{name}.{parameter.name}" if name else parameter.name
            owner = document.tied.get(key, key)
            entry = header.entries.get(owner)
            shape = None if entry is None else _shape(owner, entry.shape, document)
            if shape != parameter.shape:
                msg = (
                    f"{shown(str(header.path))}: the network of {shown(name)} has a tensor "
                    f"{shown(parameter.name)} of shape {parameter.shape}, the file has "
                    f"{'none' if shape is None else shape}; it is damaged"
                )
                raise SpecError(msg)


def _check_fits(wanted: Shapes, header: Header, document: ModelDocument) -> None:
    """The tensors of a file are those of a module, no more and no fewer."""
    where = shown(str(header.path))
    found = {name: _shape(name, one.shape, document) for name, one in header.entries.items()}
    for name, owner in document.tied.items():
        if owner not in found or name in header.entries:
            msg = f"{where}: {shown(name)} is said to be {shown(owner)}, which is wrong"
            raise SpecError(msg)
        found[name] = found[owner]
    for what, names in (
        ("lacks", [name for name in wanted if name not in found]),
        ("has unknown", [name for name in found if name not in wanted]),
        (
            "has other shapes of",
            [name for name in wanted if name in found and found[name] != wanted[name]],
        ),
    ):
        if names:
            first = names[0]
            msg = (
                f"{where} {what} {listed([shown(name) for name in names], ', ')}: the file has "
                f"{found.get(first, 'nothing')}, expected {wanted.get(first, 'nothing')}"
            )
            raise SpecError(msg)


def _shape(name: str, shape: tuple[int, ...], document: ModelDocument) -> tuple[int, ...]:
    """The shape as the module has it: pairs are complex numbers."""
    return shape[:-1] if name in document.complex_names else shape


def _shapes_of(module: nn.Module) -> Shapes:
    state = module.state_dict()
    strange = [name for name, array in state.items() if not isinstance(array, torch.Tensor)]
    if strange:
        msg = f"load: the model's state has {listed(strange, ', ')}, which are no tensors"
        raise SpecError(msg)
    return {name: tuple(array.shape) for name, array in state.items()}


def _state(header: Header, document: ModelDocument) -> dict[str, torch.Tensor]:
    """All tensors of a file by the names of the model."""
    names: Iterable[str] = header.entries
    state = {
        name: as_stored(name, array, document.complex_names)
        for name, array in read_tensors(header, iter(names))
    }
    return {**state, **{name: state[owner] for name, owner in document.tied.items()}}
