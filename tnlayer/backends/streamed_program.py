"""A Program whose dense map is made in tiles: calls of torch make two factors, kernels do the rest.

Arguments of 16 bits become float32 once a call; y and the gradients are rounded once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import prod

import torch

from ..codegen.cpp.streamed.source import streamed_source
from ..codegen.torch import print_torch
from ..errors import SpecError
from ..ir.backend_names import STREAMED
from ..ir.steps import BATCH
from ..lowering.calls.training_schedules import Mask
from ..lowering.streamed.factor_plans import FactorSchedules
from ..lowering.streamed.product_form import Legs, ProductForm
from ..lowering.streamed.tile_sizes import tile_sizes
from ..runtime import scratch
from ..runtime.array_checks import check_storage
from ..runtime.generated_functions import Kernels
from ..runtime.kernel_arrays import Held
from ..runtime.load_python import REUSING, load_source
from ..runtime.program import GRADIENT, PARTS
from ..support.dtypes import DTYPES
from ..support.told import told
from .cpp_program import LoadedEntry
from .cpu_program import CpuProgram, dense
from .lowered_streamed import LoweredStreamed
from .toolchains.cpp_build import library_key, load_library, open_library
from .toolchains.kernel_store import EntryPoint

# Its address says that a gradient is not wanted.
_NONE = torch.empty(0, device="cpu")
_FORWARD = EntryPoint((("z", False), ("x", True), ("left", False), ("right", False)), ("y",))
_BACKWARD = EntryPoint(
    (("z", False), ("g", True), ("x", True), ("left", False), ("right", False)),
    ("d_x", "d_left", "d_right"),
)


class StreamedProgram(CpuProgram):
    """A compiled network that multiplies with W and never stores it; "auto" makes it where torch's
    calls would rebuild W.

    Between forward and backward nothing is kept but the inputs: the two factors, which are small
    beside W, are made again. Under torch.func, torch.compile, forward-mode and double backward the
    generated torch code runs instead, as for every program.
    """

    backend = STREAMED
    checks_addresses = True
    may_use_torch = True

    def streamed(self, mask: Mask) -> LoweredStreamed:
        """The plan as a product, in the dtype of its arithmetic."""
        lowered = self.lowered_for(mask)
        if not isinstance(lowered, LoweredStreamed):
            # A span of a plan has no regions, by which others know what runs it.
            lowered = LoweredStreamed(self.backend, self.plan, mask, self.target())
        return lowered.in_arithmetic

    @cached_property
    def library_source(self) -> str:
        """The C++ of the product; sizes are its arguments, so all layers share it."""
        arithmetic = DTYPES[self.plan.dtype].arithmetic
        sizes = tile_sizes(self.cpu).constants
        return streamed_source(arithmetic, self.cpu.vector_bytes, sizes)

    def load(self) -> ctypes.CDLL:
        """The library, from the store or built now.

        Raises:
            BuildError: no compiler, or it failed.
        """
        with told("compiling the product with a matrix in tiles, once on this machine"):
            return load_library(self.library_source)

    def is_stored(self, mask: Mask) -> bool:
        """Whether the store has the library."""
        del mask
        return open_library(library_key(self.library_source)) is not None

    def has_built(self, mask: Mask) -> bool:
        """Whether it is loaded, or in the store."""
        return bool(self.failure) or mask in self._kernels or self.is_stored(mask)

    def sources(self, mask: Mask | None = None) -> Mapping[str, str]:
        """The generated code in parts: calls that make the factors, and the product behind the
        first."""
        around = self.streamed(self.asked_mask(mask)).calls_around
        forward = f"{print_torch(around.forward, 'factors')}\n\n{self.library_source}"
        back = around.backward
        return dict(
            zip(PARTS, (forward, print_torch(back, "gradients") if back else ""), strict=True)
        )

    def workspace_bytes(self, mask: Mask, batch: int) -> int:
        """The same of the kernels and of the calls around them."""
        room = self.lowered_for(mask).room(batch)
        return room.standing + room.at_once

    def source(self, mask: Mask | None = None) -> str:
        """The generated code."""
        return "\n\n".join(part for part in self.sources(mask).values() if part)

    def build(self, mask: Mask) -> Kernels:
        """The functions for a mask of wanted gradients."""
        self.check_limit(mask)
        lowered = self.streamed(mask)
        product = _Product(lowered.form, lowered.calls_around, self.load(), self)
        if not any(mask):
            return Kernels(product.forward, _no_backward, (), "")
        names = [value.name for value in self.plan.inputs]
        x = lowered.form.x.name
        needed = tuple(k for k, name in enumerate(names) if name != x or product.reads_x)
        backward = _Backward(product, [names[place] for place in needed], mask)
        return Kernels(product.forward, backward, needed, "")


class _Product:
    """Forward and backward for one mask: arrays are moved into the order of the kernels."""

    def __init__(
        self,
        form: ProductForm,
        around: FactorSchedules,
        library: ctypes.CDLL,
        owner: StreamedProgram,
    ) -> None:
        self.form, self.around, self.plan, self.owner = form, around, owner.plan, owner
        self.sizes = self.plan.sizes
        self.dtype: torch.dtype = getattr(torch, around.forward.plan.dtype)
        label = f"tnlayer::streamed {owner.graph.label}"
        self.ahead = LoadedEntry("forward", _FORWARD, library, label)
        self.back = LoadedEntry("backward", _BACKWARD, library, label)
        self.make = _loaded(print_torch(around.forward, "factors"), "factors")
        self.made_of = [array.name for array in around.forward.inputs]
        self.pass_on: Callable[..., tuple[torch.Tensor, ...]] | None = None
        if around.backward is not None:
            self.pass_on = _loaded(print_torch(around.backward, "gradients"), "gradients")
        self.reads_x = around.wants_left or around.wants_right
        self.table = _table(form, self.sizes)
        self.names = [value.name for value in self.plan.inputs]
        self.held = _held(owner, self.names)

    def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """y."""
        form, output = self.form, self.plan.outputs[0]
        _check(self.held, arrays)
        wide = (dense(array, self.dtype) for array in arrays)
        inputs = dict(zip(self.names, wide, strict=True))
        left, right, *_ = self._factors(inputs)
        x = self._stored(inputs[form.x.name], form.x.legs, form.x_legs)
        y = x.new_empty(self._shape(form.y_legs, self._batch(x, form.x_legs)))
        self._run(self.ahead, (self.table, x, left, right, y), x.numel(), form.x_legs)
        y = self._stored(y, form.y_legs, output.legs)
        return (self._leaving(y, output.axes),)

    def backward(
        self, gradient: torch.Tensor, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Gradients by the names of their inputs; the factors are made again."""
        around, form, plan = self.around, self.form, self.plan
        inputs = {name: dense(array, self.dtype) for name, array in inputs.items()}
        left, right, *kept = self._factors(inputs)
        outer = self._stored(dense(gradient, self.dtype), plan.outputs[0].legs, form.y_legs)
        x = _NONE
        if self.reads_x:
            x = self._stored(inputs[form.x.name], form.x.legs, form.x_legs)
        to_x = to_left = to_right = _NONE
        if around.wants_x:
            to_x = outer.new_empty(self._shape(form.x_legs, self._batch(outer, form.y_legs)))
        if around.wants_left:
            to_left = scratch.empty_like(left)
        if around.wants_right:
            to_right = scratch.empty_like(right)
        arrays = (self.table, outer, x, left, right, to_x, to_left, to_right)
        self._run(self.back, arrays, outer.numel(), form.y_legs)
        found: dict[str, torch.Tensor] = {}
        if around.wants_x:
            d_x = self._stored(to_x, form.x_legs, form.x.legs)
            found[form.x.name] = self._leaving(d_x, plan.axes_of(form.x))
        if self.pass_on is not None:
            assert around.backward is not None, "there is a function of it"
            wanted = (around.wants_left, around.wants_right)
            given = [
                array for array, asked in zip((to_left, to_right), wanted, strict=True) if asked
            ]
            back = around.backward.plan
            parameters = [inputs[value.name] for value in back.parameters]
            results = self.pass_on(*given, *parameters, *kept)
            rounded = (result.to(self.owner.dtype) for result in results)
            found |= dict(zip(around.gives, rounded, strict=True))
        return found

    # -- pieces ----------------------------------------------------------------------------

    def _factors(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Left and right as kernels read them, and what else the backward reads."""
        return self.make(*(inputs[name] for name in self.made_of))

    def _leaving(self, array: torch.Tensor, axes: Sequence[Legs]) -> torch.Tensor:
        """A result with the axes that it has outside, rounded once."""
        batch = self._batch(array, [leg for axis in axes for leg in axis])
        sizes = (batch if size is None else size for size in map(self.plan.axis_size, axes))
        return array.view(*sizes).to(self.owner.dtype)

    def _batch(self, array: torch.Tensor, legs: Sequence[str]) -> int:
        """Samples of an array with these legs."""
        return array.numel() // prod(self.sizes[leg] for leg in legs if leg != BATCH)

    def _shape(self, legs: Sequence[str], batch: int) -> list[int]:
        return [batch if leg == BATCH else self.sizes[leg] for leg in legs]

    def _stored(self, array: torch.Tensor, legs: Legs, wanted: Legs) -> torch.Tensor:
        """An array in a row, its legs in another order, one axis a leg."""
        array = array.reshape(self._shape(legs, self._batch(array, legs)))
        if legs != wanted:
            array = array.permute([legs.index(leg) for leg in wanted])
        return array.contiguous()

    def _run(
        self, entry: LoadedEntry, arrays: Sequence[torch.Tensor], entries: int, legs: Legs
    ) -> None:
        """Run a kernel on the rows of an array with so many entries."""
        inner = (self.sizes[leg] for leg in legs if leg not in self.form.rows)
        if not entry.run(arrays, entries // prod(inner)):
            msg = f"{entry.label}: an array was given back before its kernel ran"
            raise SpecError(msg)


class _Backward:
    """The backward, for inputs that are as the plan has them."""

    def __init__(self, product: _Product, names: Sequence[str], mask: Mask) -> None:
        self.product, self.names = product, list(names)
        self.held = _held(product.owner, (GRADIENT, *names))
        inputs = product.owner.plan.inputs
        self.wanted = [value.name for value, asked in zip(inputs, mask, strict=True) if asked]

    def __call__(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        _check(self.held, arrays)
        inputs = dict(zip(self.names, arrays[1:], strict=True))
        found = self.product.backward(arrays[0], inputs)
        return tuple(found[name] for name in self.wanted)


def _held(owner: StreamedProgram, names: Sequence[str]) -> Held:
    """Holds arrays by their canonical names against the plan."""
    return Held(f"program of {owner.graph.label!r}", [owner.expected[name] for name in names])


def _check(held: Held, arrays: Sequence[torch.Tensor]) -> None:
    """Refuse arrays that are not as the plan has them, and any without memory."""
    held.check(arrays)
    check_storage(held.where, held.expected[0].name, arrays[0])


def _loaded(source: str, name: str) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A printed function; intermediates lie in memory that calls reuse."""
    return load_source(source, REUSING)[name]


def _table(form: ProductForm, sizes: Mapping[str, int]) -> torch.Tensor:
    """Sizes, then the place in left of each index of a1, and of each of b1."""
    stride, strides = 1, dict[str, int]()
    for leg in reversed(form.left_legs):
        strides[leg] = stride
        stride *= sizes[leg]
    places: list[int] = []
    for legs in (form.a1, form.b1):
        found = [0]
        for leg in legs:
            found = [one + strides[leg] * index for one in found for index in range(sizes[leg])]
        places += found
    return torch.tensor([*form.sizes, *places], dtype=torch.int64, device="cpu")


def _no_backward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Stands where no gradient is wanted."""
    msg = "this program was built without a backward"
    raise SpecError(msg)
