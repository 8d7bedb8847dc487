"""A Program whose kernels are CUDA C++: forward and backward, each a few launches for the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from ..codegen.cuda.source import CudaSource
from ..errors import BuildError, SpecError
from ..graph.graph import Graph
from ..hardware.gpu import Gpu, gpu_of
from ..ir.loops import Precision
from ..ir.loops_text import program_text
from ..ir.plan import Plan
from ..ir.steps import BATCH
from ..lowering.calls.training_schedules import Mask, wanted_names
from ..lowering.gpu.tensor_cores.matrices import OLDEST, PRECISIONS
from ..passes.rematerialise import backward_without_saved
from ..runtime import cuda_devices
from ..runtime.array_checks import PLAIN
from ..runtime.autograd import are_plain, stands_for_many
from ..runtime.generated_functions import Kernels
from ..runtime.kernel_arrays import Ready
from ..runtime.program import GRADIENT, PARTS, Program
from ..support.debug import debug
from ..targets.lowered import Lowered
from . import cuda_source
from .cuda_resources import Resources
from .cuda_unit import Unit, dense
from .lowered_for_gpu import kernel_of
from .toolchains.nvrtc import check_arch


class CudaProgram(Program):
    """A compiled network whose kernels are CUDA C++; made by ``tnlayer.compile(backend="cuda")``.

    It builds without a GPU where ``arch`` names one. Kernels run in torch's current stream, and
    all memory is torch's, so CUDA graphs can be captured once the kernels are loaded. Nothing of
    the size of the batch is kept between forward and backward but the inputs. Under torch.func,
    torch.compile, forward-mode and double backward the generated torch code runs instead, as for
    every program.

    Arguments:
        graph, plan, tensor_names, limit, device: as for every program.
        arch: what the kernels are built for; None: the device that the arrays lie on.
        tensor_cores: precision of products on tensor cores; None: none are used.

    Raises:
        PlanError: no step can use tensor cores.
    """

    backend = "cuda"
    checks_addresses = True
    makes_results = True

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        tensor_names: Mapping[str, str],
        *,
        limit: int | None = None,
        device: str = "cuda",
        arch: str | None = None,
        tensor_cores: str | None = None,
        lowered: Lowered | None = None,
    ) -> None:
        super().__init__(graph, plan, tensor_names, limit=limit, device=device, lowered=lowered)
        self.arch = None if arch is None else check_arch(arch)
        self.tensor_cores: Precision | None = None
        if tensor_cores is not None:
            self.tensor_cores = next(p for p in PRECISIONS if p == tensor_cores)
            # Refused here, not at the first call.
            _ = kernel_of(self.plan, self._for(gpu_of(self.arch or OLDEST))).scheduled
        self._units: dict[Mask | None, Unit] = {}

    # -- what is built ---------------------------------------------------------------------

    def units(self, mask: Mask | None = None) -> Mapping[str, Unit]:
        """The units for a mask of wanted gradients: "forward" and, if any is wanted, "backward"."""
        mask = self.asked_mask(mask)
        found = {"forward": self._unit(None)}
        if any(mask):
            found["backward"] = self._unit(mask)
        return MappingProxyType(found)

    def _unit(self, mask: Mask | None) -> Unit:
        """The forward for None, else the backward for a mask."""
        with self._lock:
            if mask not in self._units:
                names = self._names_of(mask)
                self._units[mask] = Unit(lambda device: self._make(mask, device), self.arch, names)
            return self._units[mask]

    def _names_of(self, mask: Mask | None) -> list[str]:
        """Names of the arrays of a unit as its calls give them: inputs, then results."""
        names = [value.name for value in self.plan.inputs]
        if mask is None:
            return [*names, *(f"out_{output.name}" for output in self.plan.outputs)]
        read = [names[k] for k in self.needed(mask)]
        results = [f"out_d_{n}" for n, asked in zip(names, mask, strict=True) if asked]
        return [GRADIENT, *read, *results]

    def needed(self, mask: Mask) -> tuple[int, ...]:
        """Indices of the inputs that a backward reads: the same for every GPU."""
        read = {value.name for value in backward_without_saved(self.plan, self.wanted(mask)).inputs}
        return tuple(k for k, value in enumerate(self.plan.inputs) if value.name in read)

    def _for(self, device: Gpu) -> Gpu:
        """The GPU as kernels are made for it."""
        return replace(device, tensor_cores=self.tensor_cores)

    def _make(self, mask: Mask | None, device: Gpu) -> CudaSource:
        device = self._for(device)
        wanted = None if mask is None else wanted_names(self.plan, mask)
        made = cuda_source.printed(kernel_of(self.plan, device, wanted).scheduled)
        debug(3, program_text(made.program))
        return made

    def wanted(self, mask: Mask) -> list[str]:
        """Names of the inputs whose gradients a mask asks for."""
        return list(wanted_names(self.plan, mask))

    def source(self, mask: Mask | None = None) -> str:
        """The generated code: forward, and the backward of a training step."""
        return "\n".join(unit.source().text for unit in self.units(mask).values())

    def sources(self, mask: Mask | None = None) -> Mapping[str, str]:
        """The same in parts."""
        found = {name: unit.source().text for name, unit in self.units(mask).items()}
        return {part: found.get(part, "") for part in PARTS}

    @property
    def binary(self) -> Mapping[str, bytes]:
        """The cubins of a training step, "forward" and "backward"; as files cuobjdump reads them.

        Raises:
            BuildError: they cannot be built.
        """
        built = {name: unit.built().cubin.binary for name, unit in self.units().items()}
        return MappingProxyType(built)

    @property
    def resources(self) -> tuple[Resources, ...]:
        """What each kernel of a training step takes, in order of launch.

        Raises:
            BuildError: they cannot be built.
        """
        return tuple(r for unit in self.units().values() for r in unit.built().resources())

    # -- how it runs -----------------------------------------------------------------------

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        if not self.can_take(arrays):
            return self.reference(*arrays)
        return self.kernels(self.nothing).forward(*arrays)

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether arrays are torch's own on one GPU, and no mode wants to see each call.

        Raises:
            BuildError: an array is on another device.
        """
        if torch._C._len_torch_dispatch_stack():  # pyright: ignore[reportPrivateUsage]
            return False
        first: torch.device | None = None
        for array in arrays:
            if type(array) not in PLAIN or array.is_meta:
                return False
            if not cuda_devices.is_on_gpu(array):
                raise BuildError(_not_on_gpu(array))
            first = array.device if first is None else first
            if array.device != first:
                msg = f"arrays lie on {first} and on {array.device}; move all to one CUDA device"
                raise BuildError(msg)
        return True

    def can_take_gradient(self, gradient: torch.Tensor) -> bool:
        """Whether the gradient of y is an array of torch's own, and one."""
        return are_plain((gradient,)) and not stands_for_many(gradient)

    def prepare(self, mask: Mask | None = None) -> None:
        """Build what a training step needs now; load it, where there is a GPU."""
        self.prepare_backward(self.training_mask() if mask is None else mask)

    def has_built(self, mask: Mask) -> bool:
        """Whether both units are built."""
        return all(unit.is_built for unit in self.units(mask).values())

    def prepare_backward(self, mask: Mask) -> None:
        """Build both ways for a mask of wanted gradients, and load it where there is a GPU."""
        for unit in self.units(mask).values():
            if cuda_devices.has_gpu():
                unit.load(cuda_devices.current_gpu())
            else:
                unit.built()

    @cached_property
    def infer_checked(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The forward for arrays that were checked: ``can_take`` has seen others like them."""
        return self.kernels(self.nothing).checked

    def build(self, mask: Mask) -> Kernels:
        """The functions for a mask; kernels are compiled when they are first called."""
        if not any(mask):
            unchecked = self._forward(are_dense=True)
            return Kernels(self._forward(), _no_backward, (), "", 0, unchecked)
        forward = self.kernels(self.nothing)
        backward = _Backward(self, mask)
        needed = self.needed(mask)
        return Kernels(forward.forward, backward, needed, "", 0, forward.unchecked)

    def _forward(self, *, are_dense: bool = False) -> Callable[..., tuple[torch.Tensor, ...]]:
        unit, dtype = self._unit(None), self.dtype
        ready = self.ready([value.name for value in self.plan.inputs])
        (output,) = self.plan.outputs
        sizes = [self.plan.axis_size(axis) for axis in output.axes]
        batched = next((k for k, v in enumerate(self.plan.inputs) if BATCH in v.legs), None)

        def forward(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            inputs = arrays if are_dense else ready(arrays)
            batch = 0 if batched is None else inputs[batched].shape[0]
            y = _empty(sizes, batch, dtype, inputs[0])
            while not unit((*inputs, y), batch):
                inputs = ready.with_memory(inputs)
            return (y,)

        return forward

    def ready(self, names: Sequence[str]) -> Ready:
        """What holds the arrays of a unit against the plan.

        Arguments:
            names: canonical names of its inputs, in the order of a call.
        """
        return Ready(
            f"program of {self.graph.label!r}",
            [self.expected[name] for name in names],
            lambda array: dense(array, self.dtype),
            lambda array: cuda_devices.is_on_gpu(array),
        )

    def __getstate__(self) -> dict[str, Any]:
        """As for every program, with the architecture that was asked for."""
        return {**super().__getstate__(), "arch": self.arch, "tensor_cores": self.tensor_cores}


class _Backward:
    """The backward for one mask of wanted gradients."""

    def __init__(self, owner: CudaProgram, mask: Mask) -> None:
        self.unit, self.dtype = owner.units(mask)["backward"], owner.dtype
        self.ready = owner.ready(self.unit.names[: 1 + len(owner.needed(mask))])
        plan = owner.plan
        values = [v for v, asked in zip(plan.inputs, mask, strict=True) if asked]
        # In the order in which they are returned; in a shape None is the batch.
        self.shapes = [tuple(map(plan.axis_size, plan.axes_of(value))) for value in values]
        self.batched = BATCH in plan.outputs[0].operand.legs

    def __call__(self, gradient: torch.Tensor, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inputs = self.ready((gradient, *saved))
        batch = gradient.shape[0] if self.batched else 0
        results = tuple(_empty(shape, batch, self.dtype, gradient) for shape in self.shapes)
        while not self.unit((*inputs, *results), batch):
            inputs = self.ready.with_memory(inputs)
        return results


def _empty(
    shape: Sequence[int | None], batch: int, dtype: torch.dtype, like: torch.Tensor
) -> torch.Tensor:
    """An array for results; None in its shape is the batch."""
    sizes = [batch if size is None else size for size in shape]
    return torch.empty(sizes, dtype=dtype, device=like.device)


def _not_on_gpu(array: torch.Tensor) -> str:
    seen = "" if cuda_devices.has_gpu() else f"; torch {torch.__version__} sees no CUDA device here"
    return (
        f"backend='cuda' runs on a CUDA device, got an array on {array.device}{seen}: move layer "
        "and inputs there with .to('cuda'), or use backend='torch' or 'cpp'"
    )


def _no_backward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Stands where no gradient is wanted."""
    msg = "this program was built without a backward"
    raise SpecError(msg)
