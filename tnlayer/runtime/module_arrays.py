"""Where a module keeps an array of some name, looked up in one way everywhere, as torch would.

``getattr`` alone will not do: tensors are put straight into ``_parameters``, so that a tensor may
bear the name of a method. And ``_parameters`` alone will not do, for torch keeps arrays elsewhere:

- a parametrization makes the array anew at each look and has a property for it in the class;
- replicas of nn.DataParallel, pruning, the older weight_norm and spectral_norm, and sharded modules
  hold it as a plain attribute;
- a constant is a buffer;
- a module of its own may make several arrays at once (:class:`Maker`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..errors import SpecError

# The name under which a module has its Maker.
MAKER = "isometries"


class Maker(nn.Module):
    """Makes arrays of the module that has it from parameters of its own, all together."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays that are made."""
        raise NotImplementedError

    def made(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Arrays of these names, made anew."""
        raise NotImplementedError

    def empty(self, name: str) -> torch.Tensor:
        """An array of the kind that is made, without entries that mean anything: what it would be
        made from may have none yet."""
        raise NotImplementedError

    def right_inverse(self, name: str, value: torch.Tensor) -> None:
        """Set the parameters so that an array has these entries, or the nearest that it can."""
        raise NotImplementedError

    def take(self, name: str, value: torch.Tensor, state: dict[str, Any], prefix: str) -> None:
        """Put what makes a saved array into a state_dict, under this module's keys."""
        raise NotImplementedError

    def any_parameter(self) -> torch.Tensor:
        """A parameter that tells dtype and device of all arrays."""
        raise NotImplementedError


def maker_of(module: nn.Module) -> Maker | None:
    """What makes some of a module's arrays, or None."""
    found = module.__dict__["_modules"].get(MAKER)
    return found if isinstance(found, Maker) else None


def is_made(module: nn.Module, name: str) -> bool:
    """Whether an array is made anew at each look."""
    if parametrization_of(module, name) is not None:
        return True
    maker = maker_of(module)
    return maker is not None and name in maker.names


def look_up(module: nn.Module, name: str) -> torch.Tensor | None:
    """A module's array of some name, or None. What is made is made anew: look once a call."""
    return look_up_all(module, (name,))[name]


def look_up_all(module: nn.Module, names: Iterable[str]) -> dict[str, torch.Tensor | None]:
    """A module's arrays of some names, or None in their place; what can be made together is."""
    names = tuple(names)
    maker = maker_of(module)
    together: tuple[str, ...] = ()
    if maker is not None:
        together = tuple(name for name in maker.names if name in names)
    made = maker.made(together) if maker is not None and together else {}
    found: dict[str, torch.Tensor | None] = {}
    for name in names:
        if name in made:
            found[name] = made[name]
        elif parametrization_of(module, name) is not None:
            found[name] = getattr(module, name)
        else:
            home = home_of(module, name)
            found[name] = None if home is None else home[name]
    return found


def home_of(module: nn.Module, name: str) -> dict[str, Any] | None:
    """The dictionary in which an array lies that is not made; None: there is none."""
    parameters, buffers, own = homes_of(module)
    # As torch, attributes first; a flag or a setting of the module may bear a tensor's name.
    if isinstance(own.get(name), torch.Tensor):
        return own
    if parameters.get(name) is not None:
        return parameters
    return buffers if buffers.get(name) is not None else None


def homes_of(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Where arrays of a module may lie: its parameters, its buffers, its plain attributes."""
    own = module.__dict__
    return own["_parameters"], own["_buffers"], own


def frozen_names(module: nn.Module) -> frozenset[str]:
    """Names of a module's own parameters that want no gradient now."""
    parameters = homes_of(module)[0]
    return frozenset(
        name for name, array in parameters.items() if array is not None and not array.requires_grad
    )


def has_array(module: nn.Module, name: str) -> bool:
    """Whether there is one, without making it."""
    return is_made(module, name) or home_of(module, name) is not None


def add_parameter(module: nn.Module, name: str, array: nn.Parameter) -> None:
    """Give a module a parameter, as torch's hooks and others who replace ``register_parameter``
    expect; under the name of a method, or one that torch refuses, it is put there directly."""
    if hasattr(type(module), name) or name in module.__dict__ or not name or "." in name:
        homes_of(module)[0][name] = array
    else:
        module.register_parameter(name, array)


def has_no_entries(array: torch.Tensor) -> bool:
    """Whether an array has a shape only: on the meta device, or in torch's FakeTensorMode."""
    return array.is_meta or isinstance(array, FakeTensor)


def would_hide(module: nn.Module, name: str, value: object) -> bool:
    """Whether an array that becomes a plain attribute takes the place of a method, a property or a
    flag of the module's."""
    if not isinstance(value, torch.Tensor) or isinstance(value, nn.Parameter):
        return False
    if name in homes_of(module)[0] or is_made(module, name):
        return False  # torch refuses it, or sets what it is made from
    taken = module.__dict__.get(name)
    return hasattr(type(module), name) or not (taken is None or isinstance(taken, torch.Tensor))


def parametrization_of(module: nn.Module, name: str) -> ParametrizationList | None:
    """What makes an array at each look, if torch.nn.utils.parametrize was asked to."""
    lists = module.__dict__["_modules"].get("parametrizations")
    if not isinstance(lists, nn.ModuleDict) or name not in lists:
        return None
    found = lists[name]
    assert isinstance(found, ParametrizationList)
    return found


# -- arrays that are made from others ----------------------------------------------------------

_HOOKS = (BasePruningMethod, WeightNorm, SpectralNorm)


def _hook_of(module: nn.Module, name: str) -> Any:
    """What makes an array before each call from arrays of other names, or None."""
    for hook in module.__dict__["_forward_pre_hooks"].values():
        if isinstance(hook, _HOOKS):
            pruned = isinstance(hook, BasePruningMethod)
            made = vars(hook)["_tensor_name"] if pruned else hook.name
            if made == name:
                return hook
    return None


def check_can_be_set(module: nn.Module, names: Iterable[str]) -> None:
    """Refuse to set arrays whose parametrization cannot be inverted.

    Raises:
        SpecError: names the tensor and the parametrization.
    """
    for name in names:
        for one in parametrization_of(module, name) or ():
            if not hasattr(one, "right_inverse"):
                raise SpecError(_not_invertible(module, name, type(one).__name__))


def _not_invertible(module: nn.Module, name: str, kind: str) -> str:
    return (
        f"{module!r}: tensor {name!r} cannot be set: it is parametrized by {kind}, which has no "
        f"right_inverse for it; give it that method, or call torch.nn.utils.parametrize."
        f"remove_parametrizations(layer, {name!r}) first and parametrize anew"
    )


def array_to_set(module: nn.Module, name: str) -> torch.Tensor | None:
    """An array to fill in place and to hand to :func:`set_array`: the stored one, if it is the
    parameter itself, else one like it."""
    maker = maker_of(module)
    if maker is not None and name in maker.names:
        return maker.empty(name)
    array = look_up(module, name)
    if array is None:
        return None
    made = is_made(module, name) or _hook_of(module, name) is not None
    return torch.empty_like(array).detach() if made else array


@torch.no_grad()
def set_array(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Give an array other entries; where it is made from others, those are set.

    Arguments:
        module: that has it.
        name: of the array.
        value: from :func:`array_to_set`.

    Raises:
        SpecError: its parametrization has no right_inverse.
    """
    maker = maker_of(module)
    if maker is not None and name in maker.names:
        maker.right_inverse(name, value)
        return
    parametrization = parametrization_of(module, name)
    if parametrization is not None:
        check_can_be_set(module, (name,))
        try:
            parametrization.right_inverse(value)
        except NotImplementedError as error:
            kinds = ", ".join(type(one).__name__ for one in parametrization)
            raise SpecError(_not_invertible(module, name, kinds)) from error
        return
    hook = _hook_of(module, name)
    if hook is None:
        return  # it was filled in place
    if isinstance(hook, WeightNorm):
        module._parameters[f"{name}_v"].copy_(value)  # type: ignore[union-attr]
        norm = torch.norm_except_dim(value, 2, hook.dim)
        module._parameters[f"{name}_g"].copy_(norm)  # type: ignore[union-attr]
    else:
        module._parameters[f"{name}_orig"].copy_(value)  # type: ignore[union-attr]
    with torch.enable_grad():
        hook(module, ())
