"""Networks whose results a layer adds, and its bias, as one program: what is added is added in
place, so that beside y and the gradients one array of their size is alive at most; with a memory
limit torch's calls add a chunk of samples at a time (see dispatch/memory_shares.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.utils._python_dispatch import (
    _get_current_dispatch_mode_stack,  # pyright: ignore[reportPrivateUsage]
)
from torch.utils.checkpoint import (
    _CachedTorchDispatchMode,  # pyright: ignore[reportPrivateUsage]
    _CachingTorchDispatchMode,  # pyright: ignore[reportPrivateUsage]
)

from ..errors import BuildError
from ..graph.graph import Graph
from ..lowering.calls.training_schedules import Mask
from ..runtime.array_checks import Expected, check_array
from ..runtime.autograd import Runnable
from ..runtime.generated_functions import Kernels, Quick
from ..runtime.program import Program
from ..support.debug import debug
from ..support.pick_items import picker
from .programs_by_batch import RangedProgram

BIAS = "bias"
_mode_count = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]
_KEEPING = (_CachingTorchDispatchMode, _CachedTorchDispatchMode)


class SummedProgram:
    """Programs with equal ports whose results are added, with a bias or without.

    It is called as each of them is: the inputs, then all parameters, each once, then the bias.

    Arguments:
        programs: at least one.
        has_bias: whether a vector is added to the sum.
    """

    def __init__(self, programs: Sequence[Program], *, has_bias: bool) -> None:
        self.programs = tuple(programs)
        self.has_bias = has_bias
        first = self.programs[0]
        self.dtype, ports = first.dtype, len(first.plan.ports)
        names = dict.fromkeys(name for p in self.programs for name in p.parameter_order)
        self.parameter_order = (*names, BIAS) if has_bias else tuple(names)
        places = {name: ports + number for number, name in enumerate(names)}
        self.places = tuple(
            (*range(ports), *(places[name] for name in program.parameter_order))
            for program in self.programs
        )
        self.picks = tuple(map(picker, self.places))
        # Whether a program adds what it has to what those before it gave.
        self.adds = (False, *(program.plan.memory.adds for program in self.programs[1:]))
        self._kernels: dict[Mask, Kernels] = {}
        self._owns_results = all(program.owns_results for program in self.programs)
        # Whether each refuses an array without memory.
        self.checks_addresses = all(program.checks_addresses for program in self.programs)
        # Of one network all arrays but the bias are its own, in order: nothing has to be picked.
        self._is_alone = len(self.programs) == 1

    def reference(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What torch can trace and differentiate."""
        pairs = zip(self.programs, self.picks, strict=True)
        total, *others = (program.reference(*pick(arrays))[0] for program, pick in pairs)
        for other in others:
            total = total + other
        return (total + arrays[-1] if self.has_bias else total,)

    def traced(self, *arrays: torch.Tensor) -> torch.Tensor:
        """y as torch's own calls, for a compiler that looks."""
        pairs = zip(self.programs, self.picks, strict=True)
        total, *others = (program.traced(*pick(arrays)) for program, pick in pairs)
        for other in others:
            total = total + other
        return total + arrays[-1] if self.has_bias else total

    @cached_property
    def stand_in(self) -> SummedProgram | None:
        """Keeps the memory limit where the kernels cannot take the arrays."""
        # What kernels give is another array, but these calls add to what there is already; and none
        # keeps a value, for the backwards of the others stand between.
        alone = len(self.programs) == 1
        others = [p.as_calls(adds=n > 0, keeps=alone) for n, p in enumerate(self.programs)]
        if not any(others):
            return None
        pairs = zip(self.programs, others, strict=True)
        return SummedProgram([other or program for program, other in pairs],
                             has_bias=self.has_bias)  # fmt: skip

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        pairs = zip(self.programs, self.adds, strict=True)
        return self._added([p.infer_adding if adds else p.infer for p, adds in pairs], arrays)

    @cached_property
    def infer_checked(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The same for arrays that were checked."""
        functions = [
            program.adding_kernels(program.nothing).checked if adds else program.infer_checked
            for program, adds in zip(self.programs, self.adds, strict=True)
        ]
        return self._adding(functions)

    def _adding(
        self, functions: Sequence[Callable[..., Any]]
    ) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The sum of what forwards give; of one network without a detour: it runs at each call."""
        if not self._is_alone:
            return lambda *arrays: self._added(functions, arrays)
        (function,) = functions
        return _with_bias(function) if self.has_bias else function

    @property
    def graph(self) -> Graph:
        """The first network."""
        return self.programs[0].graph

    @property
    def is_for_compilers(self) -> bool:
        """Whether a compiler shall see torch's own calls of all of them."""
        return all(program.is_for_compilers for program in self.programs)

    @property
    def keeps_limit(self) -> bool:
        """Whether there is a memory limit."""
        return any(program.keeps_limit for program in self.programs)

    @property
    def owns_results(self) -> bool:
        """Whether results surely share no memory with arguments or each other."""
        return self._owns_results

    def saves_like(self, other: Runnable, mask: Mask) -> bool:
        """Whether a backward of another sum can read what this forward saves."""
        assert isinstance(other, SummedProgram), "sums of the same networks"
        pairs = zip(self.programs, other.programs, self.places, strict=True)
        return all(
            one.saves_like(two, tuple(mask[place] for place in places))
            for one, two, places in pairs
        )

    def check_inputs(
        self,
        where: str,
        arrays: Sequence[torch.Tensor],
        fix: str,
        gradient: torch.Tensor | None = None,
    ) -> None:
        """Refuse arrays of other shapes than the plans have."""
        for program, pick in zip(self.programs, self.picks, strict=True):
            program.check_inputs(where, pick(arrays), fix, gradient)
        if self.has_bias:
            expected = Expected(BIAS, (self.graph.out_features,))
            check_array(where, arrays[-1], expected, fix=fix, device=arrays[0].device)

    @property
    def input_shapes(self) -> Sequence[Sequence[int | None]]:
        """Shapes of all inputs; None is the batch."""
        found: dict[int, Sequence[int | None]] = {}
        for program, places in zip(self.programs, self.places, strict=True):
            found.update(zip(places, program.input_shapes, strict=True))
        shapes = [found[place] for place in sorted(found)]
        return [*shapes, (self.graph.out_features,)] if self.has_bias else shapes

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether the kernels of each can read these arrays."""
        return all(program.can_take(arrays) for program in self.programs)

    def can_take_gradient(self, gradient: torch.Tensor) -> bool:
        """The same for the gradient of y."""
        return all(program.can_take_gradient(gradient) for program in self.programs)

    def kernels(self, mask: Mask) -> Kernels:
        """The functions for a mask of wanted gradients."""
        kernels = self._kernels.get(mask)
        if kernels is None:
            kernels = self._kernels.setdefault(mask, self._composed(mask))
        return kernels

    def use_torch(self, mask: Mask, error: BuildError) -> None:
        """Let torch run, from now on, each network whose kernels cannot be built.

        Arguments:
            mask: the wanted gradients of the call.
            error: why those of one of them cannot.

        Raises:
            BuildError: that of a network for which kernels were asked for.
        """
        debug(1, f"a sum of {len(self.programs)} networks: {error}")
        for program, places in zip(self.programs, self.places, strict=True):
            program.prepare(tuple(mask[place] for place in places))
        self._kernels.clear()

    def _composed(self, mask: Mask) -> Kernels:
        parts: list[_Part] = []
        for program, places, adds in zip(self.programs, self.places, self.adds, strict=True):
            own = tuple(mask[place] for place in places)
            kernels = program.adding_kernels(own) if adds else program.kernels(own)
            parts.append(_Part(kernels, own, places, len(program.plan.ports) if adds else 0))
        needed = tuple(sorted({place for part in parts for place in part.read}))
        saved = sum(part.kernels.saved for part in parts)
        summed = _Backward(tuple(parts), needed, mask, has_bias=self.has_bias)
        alone = self._is_alone and needed == tuple(parts[0].read) and any(parts[0].mask)
        wants_bias = self.has_bias and mask[-1]
        backward = _backward_of_one(parts[0], with_bias=wants_bias) if alone else summed
        quick = _quick_of_one(parts[0], with_bias=wants_bias) if alone else None
        forwards = [part.kernels.forward for part in parts]
        checked = [part.kernels.checked for part in parts]
        return Kernels(
            self._adding(forwards),
            backward,
            needed,
            "",
            saved,
            self._adding(checked),
            tuple(sorted({place for part in parts for place in part.origins}.difference(needed))),
            tuple(shape for part in parts for shape in part.kernels.saved_shapes),
            quick=quick,
        )

    def _added(
        self, functions: Sequence[Callable[..., Any]], arrays: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        """y, and behind it what each forward gives for its backward."""
        total, *saved = functions[0](*self.picks[0](arrays))
        following = zip(functions[1:], self.picks[1:], self.adds[1:], strict=True)
        for function, pick, adds in following:
            if adds:
                saved += function(*pick(arrays), total)
                continue
            y, *kept = function(*pick(arrays))
            total = _plus(total, y)
            del y  # before the next one is made
            saved += kept
        if self.has_bias:
            total = _plus(total, arrays[-1])
        return (total, *saved)


def _is_kept() -> bool:
    """Whether selective checkpoints keep what is made, and refuse what was changed since."""
    return _mode_count() > 0 and any(
        isinstance(mode, _KEEPING) for mode in _get_current_dispatch_mode_stack()
    )


def _plus(total: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The sum, in place where that may be."""
    return total + other if _is_kept() else total.add_(other)


def _with_bias(function: Callable[..., Any]) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A forward of all arrays but the last, which is added to y."""

    def call(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = function(*arrays[:-1])
        if _is_kept():
            return (results[0] + arrays[-1], *results[1:])
        results[0].add_(arrays[-1])
        return results

    return call


def _backward_of_one(part: _Part, *, with_bias: bool) -> Callable[..., tuple[torch.Tensor, ...]]:
    """The backward of one network, with the gradient of a bias or without."""
    own = part.kernels.backward
    if not with_bias:
        return own

    def call(gradient: torch.Tensor, *kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*own(gradient, *kept), _bias_gradient(gradient))

    return call


def _quick_of_one(part: _Part, *, with_bias: bool) -> Quick | None:
    """The same for arrays that are like those of the call before."""
    own = part.kernels.quick
    if own is None or not with_bias:
        return own

    def call(
        gradient: torch.Tensor, kept: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        # Of one sample it is the bias's gradient, too, if nobody else has it.
        is_ours = (
            gradient.layout is torch.strided
            and gradient.dim() > 1
            and gradient.size(0) == 1
            and not gradient.is_contiguous()
        )
        if is_ours:
            gradient = gradient.contiguous()
        found = own(gradient, kept)
        if found is None:
            return None
        return (*found, gradient.view(-1) if is_ours else _bias_gradient(gradient))

    return call


def _bias_gradient(gradient: torch.Tensor) -> torch.Tensor:
    # A copy, where y has no batch: autograd may hand the gradient itself to others.
    return gradient.sum(0) if gradient.dim() > 1 else gradient.clone()


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the networks for one mask.

    Arguments:
        kernels: its functions.
        mask: which of its inputs want a gradient.
        places: for each of its inputs the place among those of all.
        added: how many of its inputs, the first ones, have gradients that it adds to those which
            there are.
    """

    kernels: Kernels
    mask: Mask
    places: tuple[int, ...]
    added: int = 0

    @property
    def read(self) -> tuple[int, ...]:
        """Those that its backward reads."""
        return tuple(self.places[index] for index in self.kernels.needed)

    @property
    def origins(self) -> tuple[int, ...]:
        """Those of which its forward keeps something."""
        return tuple(self.places[index] for index in self.kernels.origins)

    @property
    def wanted(self) -> tuple[int, ...]:
        """Those whose gradients it gives, in order."""
        pairs = zip(self.places[self.added :], self.mask[self.added :], strict=True)
        return tuple(place for place, asked in pairs if asked)

    @property
    def adds_to(self) -> tuple[int, ...]:
        """Those to whose gradients it adds, in order."""
        pairs = zip(self.places[: self.added], self.mask[: self.added], strict=True)
        return tuple(place for place, asked in pairs if asked)


class _Backward:
    """The backward of a sum: one after the other, what two of them give is added in place."""

    def __init__(
        self, parts: tuple[_Part, ...], needed: tuple[int, ...], mask: Mask, *, has_bias: bool
    ) -> None:
        self.parts, self.needed, self.mask = parts, needed, mask
        self.bias = len(mask) - 1 if has_bias and mask[-1] else None

    def __call__(self, gradient: torch.Tensor, *kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        count = len(self.needed)
        arrays = dict(zip(self.needed, kept[:count], strict=True))
        start = count
        found: dict[int, torch.Tensor] = {}
        for part in self.parts:
            saved = kept[start : start + part.kernels.saved]
            start += part.kernels.saved
            if any(part.mask):
                read = (arrays[place] for place in part.read)
                known = (found[place] for place in part.adds_to)
                backward = part.kernels.backward
                # No name for what it gives: it would be alive beside what the next one gives.
                self._add(found, part.wanted, backward(gradient, *read, *saved, *known))
        if self.bias is not None:
            found[self.bias] = _bias_gradient(gradient)
        return tuple(found[place] for place, asked in enumerate(self.mask) if asked)

    @staticmethod
    def _add(
        found: dict[int, torch.Tensor], places: Sequence[int], results: Sequence[torch.Tensor]
    ) -> None:
        for place, result in zip(places, results, strict=True):
            known = found.get(place)
            if known is None:
                found[place] = result
            else:
                known.add_(result)


class SummedRanges:
    """The programs of a layer for all batch sizes, as one.

    Arguments:
        ranged: those of the networks that are added.
        has_bias: whether the layer adds a bias.
    """

    def __init__(self, ranged: Sequence[RangedProgram], has_bias: bool) -> None:
        self.ranged, self.has_bias = tuple(ranged), has_bias
        self._known: dict[tuple[Program, ...], SummedProgram] = {}
        self._last: SummedProgram | None = None

    def at(self, batch: int) -> SummedProgram:
        """The program for a batch size."""
        if len(self.ranged) == 1:
            return self._sum_of_one(self.ranged[0].at(batch))
        programs = tuple(ranged.at(batch) for ranged in self.ranged)
        if any(p is ranged.first_tier for p, ranged in zip(programs, self.ranged, strict=True)):
            # All of a call is of one tier.
            programs = tuple(
                ranged.first_tier or p for p, ranged in zip(programs, self.ranged, strict=True)
            )
        return self._sum_of(programs)

    def settled(self, batch: int) -> SummedProgram:
        """The program that stays for a batch size; it is planned now if need be."""
        if len(self.ranged) == 1:
            return self._sum_of_one(self.ranged[0].settled(batch))
        return self._sum_of(tuple(ranged.settled(batch) for ranged in self.ranged))

    def _sum_of_one(self, program: Program) -> SummedProgram:
        last = self._last
        if last is None or last.programs[0] is not program:
            self._last = last = self._sum_of((program,))
        return last

    def _sum_of(self, programs: tuple[Program, ...]) -> SummedProgram:
        known = self._known.get(programs)
        if known is None:
            made = SummedProgram(programs, has_bias=self.has_bias)
            known = self._known.setdefault(programs, made)
        return known

    @property
    def known(self) -> SummedProgram:
        """A program that is there: with the parameters and the dtype of all others."""
        return SummedProgram([ranged.known for ranged in self.ranged], has_bias=self.has_bias)

    @property
    def main(self) -> SummedProgram:
        """What torch traces, exports and transforms."""
        return SummedProgram([ranged.main for ranged in self.ranged], has_bias=self.has_bias)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has its own programs."""
        return SummedRanges, (self.ranged, self.has_bias)
