"""The modules of a model that a network could replace, and why others stay."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..nn.conv2d import Conv2d
from ..nn.dense_modules import CONV2D, EMBEDDING, LINEAR, DenseModule, as_dense, obstacle
from ..nn.embedding import Embedding
from ..nn.layer import Layer
from ..runtime.module_arrays import homes_of

Filter = Callable[[nn.Module, str], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """A module that is a matrix.

    Arguments:
        name: of the module in the model; of several places the first.
        places: all names of it.
        module: itself.
        dense: what it is as a matrix.
        obstacle: why it stays, or "".
        is_layer: whether it is factorized already.
    """

    name: str
    places: tuple[str, ...]
    module: nn.Module
    dense: DenseModule
    obstacle: str
    is_layer: bool


def find_targets(model: nn.Module, filter_fn: Filter | None) -> list[Target]:
    """All modules of a model that are matrices, in their order.

    Arguments:
        model: itself may be one.
        filter_fn: takes a module and its name; what it refuses stays, and is not listed.

    Raises:
        SpecError: the model, or a module of it, is compiled, scripted or wrapped for parallel
            training.
    """
    _check_wrappers(model)
    owners = _owners(model)
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    found: list[Target] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        if isinstance(module, Layer):
            inside.update(id(inner) for inner in module.modules())
        found += _target(name, tuple(names[id(module)]), module, owners, filter_fn)
    return found


def _target(
    name: str,
    places: tuple[str, ...],
    module: nn.Module,
    owners: dict[int, list[tuple[int, str]]],
    filter_fn: Filter | None,
) -> Iterator[Target]:
    dense = as_dense(module)
    reason = obstacle(module)
    is_layer = isinstance(module, Layer)
    if is_layer:
        dense = _layer_as_dense(module)
    if dense is None and reason is None:
        return
    if filter_fn is not None and not filter_fn(module, name):
        return
    if dense is None:
        assert reason is not None
        dense = _derived(module)
        if dense is None:
            return
    tied = "" if is_layer else _tie(module, owners)
    yield Target(name, places, module, dense, reason or tied, is_layer)


def _derived(module: nn.Module) -> DenseModule | None:
    """A module of a derived class, for the report: its sizes only."""
    sizes: dict[type, tuple[str, str, str]] = {
        nn.Linear: (LINEAR, "in_features", "out_features"),
        nn.Conv2d: (CONV2D, "in_channels", "out_channels"),
        nn.Embedding: (EMBEDDING, "num_embeddings", "embedding_dim"),
    }
    weight: Any = torch.empty(0, device="meta")
    for kind, (word, first, second) in sizes.items():
        if isinstance(module, kind):
            features, outputs = getattr(module, first), getattr(module, second)
            return DenseModule(word, features, outputs, False, {}, weight, lambda: weight)
    return None


def _layer_as_dense(layer: Layer) -> DenseModule | None:
    """A layer as what it replaced, so that it can be replaced again."""
    ports = layer.graph.inputs
    if (
        len(ports) != 1
        or ports[0].product
        or not ports[0].batched
        or layer.options.get("log_scale")
    ):
        return None
    options, kind = layer.options, LINEAR
    kept = ("bias",)
    if isinstance(layer, Conv2d):
        kind = CONV2D
        kept = (
            *("bias", "kernel_size", "in_channels", "out_channels", "stride", "padding"),
            *("dilation", "groups", "padding_mode"),
        )
    elif isinstance(layer, Embedding):
        kind, kept = EMBEDDING, ("num_embeddings", "embedding_dim", "padding_idx")
    first = next(layer.parameters(), torch.empty(0, dtype=layer.dtype))
    return DenseModule(
        kind,
        layer.in_features,
        layer.out_features,
        bool(options.get("bias", False)),
        {name: options[name] for name in kept},
        first,
        lambda: layer.to_dense().detach(),
    )


def _owners(model: nn.Module) -> dict[int, list[tuple[int, str]]]:
    """The modules that hold each parameter, and under which name."""
    found: dict[int, list[tuple[int, str]]] = {}
    for name, module in model.named_modules():
        for key, array in homes_of(module)[0].items():
            if array is not None:
                path = f"{name}.{key}" if name else key
                found.setdefault(id(array), []).append((id(module), path))
    return found


def _tie(module: nn.Module, owners: dict[int, list[tuple[int, str]]]) -> str:
    """Why a module stays whose arrays are those of another, too."""
    for array in homes_of(module)[0].values():
        others = [path for owner, path in owners.get(id(array), ()) if owner != id(module)]
        if others:
            return f"its array is that of {others[0]} too: untie them first"
    return ""


def _check_wrappers(model: nn.Module) -> None:
    """Refuse what keeps a model's modules, or their parameters, elsewhere."""
    compiled: Any = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", ())
    for name, module in model.named_modules():
        where = f"module {shown(name)}" if name else "the model"
        if any(isinstance(one, UninitializedParameter) for one in homes_of(module)[0].values()):
            msg = f"{where} is lazy and has no weight yet; call the model once before"
            raise SpecError(msg)
        if isinstance(module, compiled) or module.__dict__.get("_compiled_call_impl") is not None:
            msg = f"{where} is compiled; compress the model first, and torch.compile it afterwards"
            raise SpecError(msg)
        if isinstance(module, torch.jit.ScriptModule):
            msg = f"{where} is scripted; compress the model before torch.jit"
            raise SpecError(msg)
        if isinstance(module, nn.parallel.DistributedDataParallel) or any(
            kind.__name__ in ("FullyShardedDataParallel", "FSDPModule")
            for kind in type(module).__mro__
        ):
            msg = f"{where} is wrapped for parallel training; compress the model before that"
            raise SpecError(msg)
