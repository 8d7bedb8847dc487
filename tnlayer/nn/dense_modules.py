"""Modules of torch that are a matrix: what stands in their place, and what stands in the way.

Linear, Conv2d and Embedding of torch and Conv1D of transformers, which is told by where its class
comes from, so that transformers is never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..runtime.module_arrays import has_no_entries, homes_of, parametrization_of
from ..support.dtypes import DTYPES

LINEAR, CONV1D, CONV2D, EMBEDDING = "Linear", "Conv1D", "Conv2d", "Embedding"


@dataclass(frozen=True, slots=True)
class DenseModule:
    """A module that is a matrix, and perhaps a bias.

    Arguments:
        kind: "Linear", "Conv1D", "Conv2d" or "Embedding".
        in_features, out_features: of the matrix. Of a convolution those of a patch and of a
            position, of an embedding its rows and their size.
        has_bias: whether a vector is added.
        options: what a factorized module of the kind needs beside the network.
        weight: the array.
        matrix: gives the matrix, (out_features, in_features), as a view where that can be.
    """

    kind: str
    in_features: int
    out_features: int
    has_bias: bool
    options: Mapping[str, Any]
    weight: torch.Tensor
    matrix: Callable[[], torch.Tensor]

    @property
    def parameters(self) -> int:
        """Entries of the matrix and of the bias."""
        return self.in_features * self.out_features + (self.out_features if self.has_bias else 0)


def as_dense(module: nn.Module) -> DenseModule | None:
    """What a module is as a matrix; None: it is of another class, also where that derives from one
    of these, for it may do something else, or be read by its owner instead of called."""
    kind = type(module)
    if kind is nn.Linear:
        return _linear(module)
    if kind is nn.Conv2d:
        return _conv2d(module)
    if kind is nn.Embedding:
        return _embedding(module)
    is_conv1d = kind.__qualname__ == CONV1D and kind.__module__.partition(".")[0] == "transformers"
    return _conv1d(module) if is_conv1d else None


def obstacle(module: nn.Module) -> str | None:
    """Why a module that is like a matrix cannot be replaced, in words; None: it is not like one, or
    it can."""
    found = as_dense(module)
    if found is None:
        for kind in (nn.Linear, nn.Conv2d, nn.Embedding):
            if isinstance(module, kind):
                return f"{_why_derived(module)} of nn.{kind.__name__}"
        return None
    weight = found.weight
    if not isinstance(homes_of(module)[0].get("weight"), nn.Parameter):
        return "its weight is made from others (pruned or normalised): make it permanent first"
    if type(weight.data) is not torch.Tensor:
        return f"its weight is a {type(weight.data).__name__}, no plain tensor: convert it first"
    if weight.layout is not torch.strided or weight.is_quantized:
        return "its weight is sparse or quantised: make it dense first"
    if str(weight.dtype).removeprefix("torch.") not in DTYPES:
        return f"its weight has dtype {weight.dtype}: convert it first"
    if has_no_entries(weight):
        return "its weight is on the meta device: load it first"
    if _hooks(module):
        return "it has hooks, which would be lost: remove them, compress, and add them again"
    return _odd_option(module)


def _why_derived(module: nn.Module) -> str:
    lists = module.__dict__["_modules"].get("parametrizations")
    if lists is not None and any(parametrization_of(module, name) is not None for name in lists):
        return "it is parametrized: remove_parametrizations first; a subclass"
    return f"its class is {type(module).__name__}, which may do something else; a subclass"


def _hooks(module: nn.Module) -> bool:
    names = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    )
    # A forward that was put on the object itself, as accelerate does, is a hook as well.
    has_own = any(module.__dict__.get(name) for name in names) or "forward" in module.__dict__
    return has_own or any(map(_array_hooks, homes_of(module)[0].values()))


def _array_hooks(array: Any) -> bool:
    """Whether something is called with the gradients of an array."""
    return array is not None and bool(array._backward_hooks or array._post_accumulate_grad_hooks)


def _odd_option(module: nn.Module) -> str | None:
    """An option that a factorized module has not."""
    if isinstance(module, nn.Embedding):
        for name in ("max_norm", "scale_grad_by_freq", "sparse"):
            if getattr(module, name):
                return f"it has {name}={getattr(module, name)}, which tn.Embedding has not"
        row = module.padding_idx
        if row is not None and bool(module.weight.detach()[row].any()):
            return (
                f"its row padding_idx={row} is not zero, as that of tn.Embedding is: set it to "
                "zero, or padding_idx to None, first"
            )
    return None


# -- the kinds -------------------------------------------------------------------------------------


def _linear(module: Any) -> DenseModule:
    return DenseModule(
        LINEAR,
        module.in_features,
        module.out_features,
        module.bias is not None,
        {"bias": module.bias is not None},
        module.weight,
        lambda: module.weight.detach(),
    )


def _conv1d(module: Any) -> DenseModule:
    """transformers' Conv1D, a Linear whose weight is transposed."""
    features, outputs = module.weight.shape
    return DenseModule(
        CONV1D,
        features,
        outputs,
        module.bias is not None,
        {"bias": module.bias is not None},
        module.weight,
        lambda: module.weight.detach().mT,
    )


def _conv2d(module: Any) -> DenseModule:
    area = module.kernel_size[0] * module.kernel_size[1]
    return DenseModule(
        CONV2D,
        module.in_channels // module.groups * area,
        module.out_channels,
        module.bias is not None,
        {
            "bias": module.bias is not None,
            "kernel_size": tuple(module.kernel_size),
            "in_channels": module.in_channels,
            "out_channels": module.out_channels,
            "stride": tuple(module.stride),
            "padding": module.padding if isinstance(module.padding, str) else tuple(module.padding),
            "dilation": tuple(module.dilation),
            "groups": module.groups,
            "padding_mode": module.padding_mode,
        },
        module.weight,
        lambda: module.weight.detach().reshape(module.out_channels, -1),
    )


def _embedding(module: Any) -> DenseModule:
    return DenseModule(
        EMBEDDING,
        module.num_embeddings,
        module.embedding_dim,
        False,
        {
            "num_embeddings": module.num_embeddings,
            "embedding_dim": module.embedding_dim,
            "padding_idx": module.padding_idx,
        },
        module.weight,
        lambda: module.weight.detach().mT,
    )


# -- the tree of modules ---------------------------------------------------------------------------


def parents_of(root: nn.Module, module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Each place in a tree of modules at which a module stands: its parent, and its name there."""
    for parent in root.modules():
        for name, child in parent.__dict__["_modules"].items():
            if child is module:
                yield parent, name


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in the place of another, wherever it stands; returns the root, which is the new
    module if the old one was."""
    if root is old:
        return new
    for parent, name in list(parents_of(root, old)):
        parent.__dict__["_modules"][name] = new
    return root


def follow_gradients(new: nn.Module, old: nn.Module) -> None:
    """Let a layer's arrays want gradients as those of the module that it stands for: the bias as
    its bias, the tensors as its weight, or what that is made from. What a network freezes stays so.

    Arguments:
        new: the layer; changed in place.
        old: the module.
    """
    flags = {name: array.requires_grad for name, array in old.named_parameters()}
    of_bias = flags.pop("bias", None)
    of_weight = any(flags.values())
    for name, array in new.named_parameters():
        wants = of_bias if name == "bias" and of_bias is not None else of_weight
        array.requires_grad_(array.requires_grad and wants)


def unwrapped(module: nn.Module) -> nn.Module:
    """The model within torch.compile's wrapper and those of data parallelism."""
    while True:
        inner = module.__dict__["_modules"].get("_orig_mod")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner
