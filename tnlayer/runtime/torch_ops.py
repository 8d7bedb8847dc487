"""A layer's kernels as operations of torch, which torch.compile keeps as they are.

Few operations serve all layers. Each is called with a key, which stands for the programs of a
network for all batch sizes: what runs is chosen when it is called, as in eager mode. ``contract``
is the one to call; gradients, vmap and autocast are its rules, in torch_op_rules.py. The others
stand for it in graphs, one Python call each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch.utils.flop_counter import register_flop_formula

from ..errors import BuildError, SpecError
from ..lowering.calls.training_schedules import Mask
from .array_checks import Expected, check_array
from .autograd import Runnable, functorch_is_active, jit_state
from .generated_functions import Kernels

# The library is one for the process; torch drops its operations with it.
LIBRARY = torch.library.Library("tnlayer", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define("contract(str key, Tensor[] arrays) -> Tensor", tags=_TAGS)
LIBRARY.define("contract_alone(str key, Tensor[] arrays) -> Tensor", tags=_TAGS)
LIBRARY.define(
    "contract_saving(str key, int planned, bool[] mask, Tensor[] arrays) -> Tensor[]", tags=_TAGS
)
LIBRARY.define(
    "contract_backward(str key, int planned, bool[] mask, int[] places, Tensor gradient, "
    "Tensor[] arrays, Tensor[] saved) -> Tensor[]",
    tags=_TAGS,
)
contract: Any = torch.ops.tnlayer.contract.default
contract_alone: Any = torch.ops.tnlayer.contract_alone.default
contract_saving: Any = torch.ops.tnlayer.contract_saving.default
contract_backward: Any = torch.ops.tnlayer.contract_backward.default


_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]
_autocast_is_on = torch._C._is_any_autocast_enabled  # pyright: ignore
_no_autocast = torch._C._DisableAutocast  # pyright: ignore


class Contractions(Protocol):
    """What a key stands for: programs by batch size, called with the ports, the parameters in one
    order for all sizes, and perhaps a bias. Whether there is one, the number of arrays tells.
    """

    @property
    def where(self) -> str:
        """Whose they are, for errors."""
        ...

    @property
    def expected(self) -> Sequence[Expected]:
        """Names and shapes of the arrays, the bias at the end."""
        ...

    @property
    def out_features(self) -> int:
        """Features of y."""
        ...

    @property
    def batched(self) -> int | None:
        """Which of the arrays has the batch; None: none has."""
        ...

    def at(self, like: torch.Tensor, count: int, batch: int, *, trains: bool) -> Runnable:
        """The program for so many arrays of a dtype and device, and a batch size."""
        ...

    def flops(self, like: torch.Tensor, batch: int) -> int:
        """FLOPs of a forward without the bias."""
        ...


# What a key stands for lives as long as a layer has it, and once it is in a graph for ever: what
# torch compiled for one layer serves all equal ones.
_known: WeakValueDictionary[str, Contractions] = WeakValueDictionary()
_in_graphs: dict[str, Contractions] = {}


def register(key: str, found: Contractions) -> Contractions:
    """Let a key stand for programs; equal ones have equal keys.

    Returns:
        what it stands for: the first ones. Hold them: they are known as long as somebody does.
    """
    return _known.setdefault(key, found)


def find(key: str) -> Contractions:
    """What a key stands for.

    Raises:
        SpecError: no layer of this process has it.
    """
    found = _in_graphs.get(key)
    if found is None:
        found = _known.get(key)
    if found is None:
        msg = (
            f"tnlayer: a compiled graph asks for network {key!r}, which this process has not "
            "built: make the layer, or load it, before the graph runs"
        )
        raise SpecError(msg)
    return found


def batch_of(found: Contractions, arrays: Sequence[torch.Tensor]) -> int:
    """Samples of a call; 1 where no input is batched."""
    place = found.batched
    return 1 if place is None else arrays[place].shape[0]


# -- what runs -----------------------------------------------------------------------------------


def chosen(
    found: Contractions, like: torch.Tensor, batch: int, planned: int, mask: Mask
) -> tuple[Runnable, Kernels]:
    """The program for a batch size and its functions; where those save other arrays than the ones
    that a graph was made for do, these.

    Arguments:
        found: the programs.
        like: an array of the call.
        batch: samples of the call.
        planned: the batch size that the graph was made for.
        mask: wanted gradients.
    """
    count = len(mask)
    program = found.at(like, count, batch, trains=True)
    kernels = program.kernels(mask)
    if planned != batch:
        model = found.at(like, count, planned, trains=True)
        if model is not program and not program.saves_like(model, mask):
            return model, model.kernels(mask)
    return program, kernels


def without_autocast(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with autocast off: programs compute in their own dtype."""
    if not _autocast_is_on():
        return function(*arguments)
    with _no_autocast():
        return function(*arguments)


def _contract(key: str, arrays: list[torch.Tensor]) -> torch.Tensor:
    found = find(key)
    program = found.at(arrays[0], len(arrays), batch_of(found, arrays), trains=False)
    if _is_watched():
        (y,) = without_autocast(program.infer, *arrays)
    else:  # plain arrays: nothing else comes so far
        forward = program.kernels((False,) * len(arrays)).forward
        (y,) = without_autocast(forward, *arrays)
    return y if program.owns_results else _fresh([y], arrays)[0]


def _contract_saving(
    key: str, planned: int, mask: list[bool], arrays: list[torch.Tensor]
) -> list[torch.Tensor]:
    found = find(key)
    like, batch = arrays[0], batch_of(found, arrays)
    program, kernels = chosen(found, like, batch, planned, tuple(mask))
    y, *saved = without_autocast(kernels.forward, *arrays)
    if program.owns_results:
        return [y]
    shaped = zip(saved, kernels.saved_shapes, strict=True)
    return _fresh([y, *(array.reshape(_sized(shape, batch)) for array, shape in shaped)], arrays)


def _contract_backward(
    key: str,
    planned: int,
    mask: list[bool],
    places: list[int],
    gradient: torch.Tensor,
    arrays: list[torch.Tensor],
    saved: list[torch.Tensor],
) -> list[torch.Tensor]:
    found = find(key)
    batched = found.batched
    batch = 1 if batched is None else gradient.shape[0]
    program, kernels = chosen(found, gradient, batch, planned, tuple(mask))
    quick = kernels.quick if program.owns_results else None
    # Nearly always the graph keeps what these functions need, and nothing else.
    keeps = len(saved) == kernels.saved and tuple(places) == kernels.needed
    if quick is not None and keeps and not (_is_watched() or _autocast_is_on()):
        at_once = quick(gradient, (*arrays, *saved))
        if at_once is not None:
            return [*at_once]
    given = dict(zip(places, arrays, strict=True))
    kept = saved
    if len(saved) != kernels.saved or not given.keys() >= set(kernels.needed):
        # Another program serves this batch size now than did when the graph was made: it makes
        # again what it needs.
        full = [given[place] for place in range(len(mask))]
        _, *kept = without_autocast(kernels.forward, *full)
    needed = [given[place] for place in kernels.needed]
    try:
        results = without_autocast(kernels.backward, gradient, *needed, *kept)
    except BuildError as error:  # compiled at the first backward
        program.use_torch(tuple(mask), error)
        return _contract_backward(key, planned, mask, places, gradient, arrays, [])
    return [*results] if program.owns_results else _fresh(results, [gradient, *arrays, *saved])


def _is_watched() -> bool:
    """Whether modes or transforms want to see each call."""
    return bool(_mode_count()) or functorch_is_active() or jit_state() is not None


def _sized(shape: Sequence[int | None], batch: int) -> list[int]:
    return [batch if size is None else size for size in shape]


def _fresh(results: Sequence[torch.Tensor], arrays: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Results of which none shares memory with an argument or another, as torch demands of an
    operation: a network may pass x through."""
    seen = {array.untyped_storage()._cdata for array in arrays}  # pyright: ignore
    found: list[torch.Tensor] = []
    for result in results:
        place = result.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
        found.append(result.clone() if place in seen else result)
        seen.add(place)
    return found


for _name, _function in (
    ("contract", _contract),
    ("contract_alone", _contract),
    ("contract_saving", _contract_saving),
    ("contract_backward", _contract_backward),
):
    LIBRARY.impl(_name, _function, "CPU")
    LIBRARY.impl(_name, _function, "CUDA")


# -- shapes, without entries ---------------------------------------------------------------------


def _check(found: Contractions, arrays: Sequence[torch.Tensor]) -> None:
    """Refuse arrays that are not as the programs have them, when a graph is made.

    Raises:
        SpecError: names the array.
    """
    first, fix = arrays[0], "pass arrays of these shapes, of one dtype, on one device"
    for array, expected in zip(arrays, found.expected, strict=False):
        check_array(found.where, array, expected, fix=fix)
        check_array(found.where, array, expected, fix=fix, dtype=first.dtype, device=first.device)


def _fake_contract(key: str, arrays: list[torch.Tensor]) -> torch.Tensor:
    found = _in_graphs.setdefault(key, find(key))
    _check(found, arrays)
    place = found.batched
    batch = () if place is None else (arrays[place].shape[0],)
    return arrays[0].new_empty((*batch, found.out_features))


def _fake_contract_saving(
    key: str, planned: int, mask: list[bool], arrays: list[torch.Tensor]
) -> list[torch.Tensor]:
    found = find(key)
    shapes = saved_shapes(found, arrays[0], planned, tuple(mask))
    batch = batch_of(found, arrays)
    saved = [arrays[0].new_empty(_sized(shape, batch)) for shape in shapes]
    return [_fake_contract(key, arrays), *saved]


def saved_shapes(
    found: Contractions, like: torch.Tensor, planned: int, mask: Mask
) -> tuple[tuple[int | None, ...], ...]:
    """Shapes of what a forward keeps beside its inputs; None is the batch."""
    with outside_traces():
        return found.at(like, len(mask), planned, trains=True).kernels(mask).saved_shapes


def outside_traces() -> Any:
    """Plan and build as if nothing were traced: what is done here is no part of a graph."""
    return torch.utils._python_dispatch._disable_current_modes()  # pyright: ignore


def _fake_contract_backward(
    key: str,
    planned: int,
    mask: list[bool],
    places: list[int],
    gradient: torch.Tensor,
    arrays: list[torch.Tensor],
    saved: list[torch.Tensor],
) -> list[torch.Tensor]:
    del planned, places, arrays, saved
    found = find(key)
    batch = gradient.shape[0]
    return [
        gradient.new_empty(_sized(expected.shape, batch))
        for expected, asked in zip(found.expected, mask, strict=False)
        if asked
    ]


torch.library.register_fake("tnlayer::contract", _fake_contract, lib=LIBRARY)
torch.library.register_fake("tnlayer::contract_alone", _fake_contract, lib=LIBRARY)
torch.library.register_fake("tnlayer::contract_saving", _fake_contract_saving, lib=LIBRARY)
torch.library.register_fake("tnlayer::contract_backward", _fake_contract_backward, lib=LIBRARY)


# -- FLOPs ---------------------------------------------------------------------------------------


@register_flop_formula([torch.ops.tnlayer.contract, torch.ops.tnlayer.contract_alone], get_raw=True)
def _flops(key: str, arrays: Sequence[torch.Tensor], **_: Any) -> int:
    found = find(key)
    return found.flops(arrays[0], batch_of(found, arrays))


@register_flop_formula(torch.ops.tnlayer.contract_saving, get_raw=True)
def _flops_saving(
    key: str, planned: int, mask: Sequence[bool], arrays: Sequence[torch.Tensor], **_: Any
) -> int:
    del planned, mask
    return _flops(key, arrays)


@register_flop_formula(torch.ops.tnlayer.contract_backward, get_raw=True)
def _flops_backward(
    key: str,
    planned: int,
    mask: Sequence[bool],
    places: Sequence[int],
    gradient: torch.Tensor,
    *_: Any,
    **__: Any,
) -> int:
    """Twice the forward, as where everything is trained."""
    del planned, mask, places
    return 2 * find(key).flops(gradient, gradient.shape[0] if gradient.dim() > 1 else 1)
