"""A Program of several regions: each runs on the backend that is foreseen to be fastest for it.

The forward runs the regions in order, the backward in reverse; each is a Program of its own. What
passes from one to the next is written to memory, and kept where a backward reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from ..graph.graph import Graph
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import Mask
from ..passes.partition import region_masks
from ..runtime.generated_functions import Kernels, Shape
from ..runtime.program import Program, joined
from ..targets.backend import Build, backend_of
from ..targets.lowered import Lowered
from .cuda_resources import Resources


class MixedProgram(Program):
    """A compiled network whose plan has several regions, or one that torch does though kernels were
    asked for.

    Under torch.func, torch.compile, forward-mode and double backward the generated torch code of
    the whole plan runs instead, as for every program.

    Arguments:
        graph, plan, tensor_names, limit, device: as for every program.
        arch: what CUDA kernels are built for; None: the device that the arrays lie on.
        lowered: as for every program.
    """

    backend = "mixed"

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        tensor_names: Mapping[str, str],
        *,
        limit: int | None = None,
        device: str = "cpu",
        arch: str | None = None,
        lowered: Lowered | None = None,
    ) -> None:
        super().__init__(graph, plan, tensor_names, limit=limit, device=device, lowered=lowered)
        self.arch = arch
        build = Build(limit, device, arch)
        self.regions: tuple[Program, ...] = tuple(
            backend_of(span.backend).program(graph, span, tensor_names, build)
            for span in self._spans(lowered)
        )

    def _spans(self, lowered: Lowered | None) -> Sequence[Lowered]:
        """The regions as they were lowered; each apart, even where neighbours have one backend."""
        if lowered is None:
            mask, target = self.training_mask(), self.target()
            lowered = backend_of(self.backend).lower(self.plan, mask, target)
        return lowered.spans

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether the kernels of each region can read these arrays."""
        return all(region.can_take(arrays) for region in self.regions)

    def can_take_gradient(self, gradient: torch.Tensor) -> bool:
        """The same for the gradient of y, from which those between the regions are made."""
        return all(region.can_take_gradient(gradient) for region in self.regions)

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        if not self.can_take(arrays):
            return self.reference(*arrays)
        return self.kernels(self.nothing).forward(*arrays)

    def is_stored(self, mask: Mask) -> bool:
        """Whether those of all regions are."""
        pairs = zip(self.regions, self.region_masks(mask), strict=True)
        return all(region.is_stored(own) for region, own in pairs)

    def has_built(self, mask: Mask) -> bool:
        """Whether those of all regions are there."""
        pairs = zip(self.regions, self.region_masks(mask), strict=True)
        return all(region.has_built(own) for region, own in pairs)

    def prepare_backward(self, mask: Mask) -> None:
        """Build the backward of each region."""
        for region, own in zip(self.regions, self.region_masks(mask), strict=True):
            region.prepare_backward(own)

    def source(self, mask: Mask | None = None) -> str:
        """The generated code of each region, in order."""
        parts = self._parts(self.asked_mask(mask))
        return "\n\n".join(part.region.source(part.mask) for part in parts)

    def sources(self, mask: Mask | None = None) -> Mapping[str, str]:
        """The same in parts, each region by region."""
        parts = self._parts(self.asked_mask(mask))
        return joined([part.region.sources(part.mask) for part in parts])

    @property
    def binary(self) -> Mapping[str, bytes]:
        """The cubins of a training step, with the numbers of their regions: "forward_1"; nothing
        where torch does all.

        Raises:
            BuildError: they cannot be built.
        """
        found: dict[str, bytes] = {}
        for number, units in enumerate(self._units(), 1):
            found |= {f"{name}_{number}": unit.built().cubin.binary for name, unit in units.items()}
        return MappingProxyType(found)

    @property
    def resources(self) -> tuple[Resources, ...]:
        """What each CUDA kernel of a training step takes, forward and backward region by region.

        Raises:
            BuildError: they cannot be built.
        """
        built = [unit.built() for units in self._units() for unit in units.values()]
        return tuple(one for unit in built for one in unit.resources())

    def _units(self) -> list[Mapping[str, Any]]:
        """The CUDA units of a training step, of the regions that have any."""
        pairs = zip(self.regions, self.region_masks(self.training_mask()), strict=True)
        return [units for region, own in pairs if (units := region.units(own))]

    def __getstate__(self) -> dict[str, Any]:
        """As for every program, with the architecture that was asked for."""
        return {**super().__getstate__(), "arch": self.arch}

    def build(self, mask: Mask) -> Kernels:
        """Compose the kernels of the regions for a mask of wanted gradients."""
        parts = self._parts(mask)
        needed = sorted({index for part in parts for index in part.read if index is not None})
        composed = _Composed(parts, tuple(needed), mask)
        shapes = tuple(shape for part in parts for shape in part.saved_shapes)
        saved = sum(part.kernels.saved + (None in part.read) for part in parts)
        origins = tuple(sorted(_origins(parts).difference(needed)))
        return Kernels(
            composed.forward,
            composed.backward,
            composed.needed,
            "",
            saved,
            origins=origins,
            saved_shapes=shapes,
        )

    def region_masks(self, mask: Mask) -> tuple[Mask, ...]:
        """The mask of each region."""
        return region_masks(self.plan, [region.plan for region in self.regions], mask)

    def _sources(self) -> list[tuple[int | None, ...]]:
        """For each input of each region its index among those of the whole; None: a cut."""
        places = {value.name: index for index, value in enumerate(self.plan.inputs)}
        return [tuple(places.get(v.name) for v in r.plan.inputs) for r in self.regions]

    def _parts(self, mask: Mask) -> tuple[_Part, ...]:
        return tuple(
            _Part(region, own, sources, region.kernels(own))
            for region, own, sources in zip(
                self.regions, self.region_masks(mask), self._sources(), strict=True
            )
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """A region for one mask.

    Arguments:
        region: its program.
        mask: which of its inputs want a gradient.
        sources: for each of its inputs the index among those of the whole; None: what comes from
            the region before.
        kernels: its functions for the mask.
    """

    region: Program
    mask: Mask
    sources: tuple[int | None, ...]
    kernels: Kernels

    @property
    def read(self) -> tuple[int | None, ...]:
        """Those that its backward reads."""
        return tuple(self.sources[index] for index in self.kernels.needed)

    @property
    def saved_shapes(self) -> tuple[Shape, ...]:
        """Shapes of what is kept of it: the value at its cut, if its backward reads that, and its
        own."""
        own = self.kernels.saved_shapes
        if None not in self.read:
            return own
        cut = self.region.plan.inputs[self.sources.index(None)]
        return (self.region.expected[cut.name].shape, *own)

    @property
    def wanted(self) -> tuple[int | None, ...]:
        """Those whose gradients it gives, in order."""
        pairs = zip(self.sources, self.mask, strict=True)
        return tuple(source for source, asked in pairs if asked)


def _origins(parts: Sequence[_Part]) -> set[int]:
    """Indices of the inputs of which something that is saved was made. A value at a cut is made of
    all that the parts before it take."""
    found: set[int] = set()
    before: set[int] = set()
    for part in parts:
        made_of = {part.sources[index] for index in part.kernels.origins}
        if None in made_of or None in part.read:
            found |= before
        found.update(index for index in made_of if index is not None)
        before.update(index for index in part.sources if index is not None)
    return found


@dataclass(frozen=True, slots=True)
class _Composed:
    """Forward and backward of all parts for one mask."""

    parts: tuple[_Part, ...]
    needed: tuple[int, ...]
    mask: Mask

    def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """y, then for each part the value at its cut if its backward reads it, and its own."""
        state: torch.Tensor | None = None
        saved: list[torch.Tensor] = []
        for part in self.parts:
            inputs = [state if index is None else arrays[index] for index in part.sources]
            result, *kept = part.kernels.forward(*inputs)
            if None in part.read:
                assert state is not None, "the first region starts from the ports"
                saved.append(state)
            saved += kept
            state = result
        assert state is not None, "there is a region"
        return (state, *saved)

    def backward(self, gradient: torch.Tensor, *kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The parts in reverse; gradients of what two parts use are added."""
        count = len(self.needed)
        arrays: dict[int, torch.Tensor] = dict(zip(self.needed, kept[:count], strict=True))
        saved = list(kept[count:])
        found: dict[int, torch.Tensor] = {}
        for part in reversed(self.parts):
            if not any(part.mask):
                break  # none before it wants one either
            own = [saved.pop() for _ in range(part.kernels.saved)][::-1]
            state = saved.pop() if None in part.read else gradient
            inputs = [state if index is None else arrays[index] for index in part.read]
            results = part.kernels.backward(gradient, *inputs, *own)
            for index, result in zip(part.wanted, results, strict=True):
                if index is None:
                    gradient = result
                else:
                    known = found.get(index)
                    found[index] = result if known is None else known + result
        return tuple(found[index] for index, asked in enumerate(self.mask) if asked)
