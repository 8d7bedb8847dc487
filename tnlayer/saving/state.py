"""The arrays of a module as a file holds them: each once, real, dense; and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..runtime.module_arrays import has_no_entries, homes_of

Tensors = dict[str, torch.Tensor]


def plain_state(module: nn.Module) -> tuple[Tensors, dict[str, str], tuple[str, ...]]:
    """The state_dict of a module as plain real tensors.

    Returns:
        the tensors; names of those that are one with another, with its name; and names of those
        that are complex and stand as pairs of real numbers.

    Raises:
        SpecError: an entry is no plain tensor, or has no entries.
    """
    tensors: Tensors = {}
    tied: dict[str, str] = {}
    complex_names: list[str] = []
    owners = _Owners()
    for name, value in sorted(module.state_dict().items()):
        array = _checked(name, value)
        owner = owners.of(name, array)
        if owner != name:
            tied[name] = owner
            continue
        if array.is_complex():
            complex_names.append(name)
            array = torch.view_as_real(array.resolve_conj())
        tensors[name] = array.resolve_neg()
    return tensors, tied, tuple(complex_names)


def _checked(name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        msg = (
            f"state_dict has {shown(name)}: {shown(value)}, which is no tensor; tn.save writes "
            "tensors only: remove get_extra_state, or save it apart"
        )
        raise SpecError(msg)
    plain = value.data if isinstance(value, nn.Parameter) else value
    if type(plain) is not torch.Tensor or plain.layout is not torch.strided or plain.is_quantized:
        msg = (
            f"{shown(name)} is a {type(plain).__name__} of layout {plain.layout}, not a plain "
            "dense tensor; gather or convert it before saving"
        )
        raise SpecError(msg)
    if has_no_entries(plain):
        msg = f"{shown(name)} is on the meta device and has no entries; load or fill it first"
        raise SpecError(msg)
    return plain


class _Owners:
    """The tensors seen so far, to find those that are one."""

    def __init__(self) -> None:
        self._alike: dict[tuple[Any, ...], list[tuple[str, torch.Tensor]]] = {}

    def of(self, name: str, array: torch.Tensor) -> str:
        """The first name of a tensor; its own, if it is new or has no entries."""
        if not array.numel():
            return name
        kind = (array.dtype, array.device, tuple(array.shape), array.stride())
        alike = self._alike.setdefault((*kind, array.storage_offset()), [])
        for owner, other in alike:
            if array.is_set_to(other):
                return owner
        alike.append((name, array))
        return name


def as_stored(name: str, array: torch.Tensor, complex_names: Iterable[str]) -> torch.Tensor:
    """A tensor as the module has it, from one as the file has it.

    Raises:
        SpecError: it is said to be complex, and has no pairs.
    """
    if name not in complex_names:
        return array
    if array.dtype not in (torch.float16, torch.float32, torch.float64) or array.shape[-1:] != (2,):
        msg = f"{shown(name)}: expected pairs of real numbers, got {array.dtype} {array.shape}"
        raise SpecError(msg)
    return torch.view_as_complex(array)


def check_equal_ties(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Refuse a state that has two values for what is one array in a module.

    Raises:
        SpecError: names both.
    """
    owners = _Owners()
    for name, array in module.state_dict().items():
        if not isinstance(array, torch.Tensor) or has_no_entries(array):
            continue
        owner = owners.of(name, array)
        if owner != name and name in state and not torch.equal(state[name], state[owner]):
            msg = (
                f"{shown(name)} and {shown(owner)} are one array in the model, but differ in the "
                "file; untie them in the model"
            )
            raise SpecError(msg)


@torch.no_grad()
def materialise(module: nn.Module, device: torch.device) -> None:
    """Give arrays on the meta device memory; what is one array stays one.

    Raises:
        SpecError: a buffer on the meta device is in no state_dict, so that nothing could fill it.
    """
    made: dict[int, torch.Tensor] = {}

    def real(array: torch.Tensor) -> torch.Tensor:
        if id(array) not in made:
            empty = torch.empty_like(array, device=device)
            is_parameter = isinstance(array, nn.Parameter)
            made[id(array)] = nn.Parameter(empty, array.requires_grad) if is_parameter else empty
        return made[id(array)]

    for name, one in module.named_modules():
        kept_out = vars(one)["_non_persistent_buffers_set"]
        for key, array in homes_of(one)[1].items():
            if array is not None and array.is_meta and key in kept_out:
                msg = (
                    f"buffer {shown(f'{name}.{key}'.lstrip('.'))} is on the meta device and in no "
                    "state_dict, so that no file fills it; make the model on a real device"
                )
                raise SpecError(msg)
    for one in module.modules():
        for home in homes_of(one)[:2]:
            for key, array in home.items():
                if array is not None and array.is_meta:
                    home[key] = real(array)
