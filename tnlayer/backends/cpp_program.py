"""A Program whose kernels are compiled C++: forward and backward, each one call for the batch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from struct import Struct
from typing import Any

import torch
from torch.autograd import profiler

from ..codegen.cpp.entry_point import NO_ADDRESS, RELEASE
from ..codegen.cpp.printer import print_cpp
from ..errors import BuildError, SpecError
from ..graph.graph import Graph
from ..ir import loops
from ..ir.plan import Plan
from ..ir.steps import BATCH
from ..lowering.calls.training_schedules import Mask, wanted_names
from ..lowering.cpu.supported_plans import can_fuse
from ..runtime.autograd import profiler_is_on
from ..runtime.generated_functions import Kernels
from ..runtime.kernel_arrays import Ready
from ..runtime.program import GRADIENT, PARTS
from ..support.pick_items import picker
from ..support.told import told
from ..targets.lowered import Lowered
from .cpu_program import CpuProgram, dense
from .lowered_for_cpu import LoweredForCpu, kernel_of
from .toolchains.kernel_memory import memory_of
from .toolchains.kernel_store import EntryPoint, Kernel


class CppProgram(CpuProgram):
    """A compiled network whose kernels are C++; made by ``tnlayer.compile(..., backend="cpp")``.

    Nothing of the size of the batch is kept between forward and backward but the inputs: the
    backward makes each sample's states again. Under torch.func, torch.compile, forward-mode and
    double backward the generated torch code runs instead, as for every program.
    """

    backend = "cpp"
    checks_addresses = True
    # Put before the names of entry points, so that several programs may stand in one unit.
    prefix = ""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        tensor_names: Mapping[str, str],
        *,
        limit: int | None = None,
        device: str = "cpu",
        lowered: Lowered | None = None,
    ) -> None:
        reason = can_fuse(plan, self.cpu)
        if reason:
            msg = (
                f"network {graph.label!r} cannot be built with backend='cpp': {reason}; "
                "use backend='torch'"
            )
            raise BuildError(msg)
        super().__init__(graph, plan, tensor_names, limit=limit, device=device, lowered=lowered)
        self._found: dict[Mask, Kernel] = {}

    def load(self, kernel: Kernel) -> ctypes.CDLL:
        """The library that has a kernel."""
        what = f"compiling the {kernel.name} of {self.graph.label!r}, once on this machine"
        with told(what):
            return kernel.load()

    @cached_property
    def infer_checked(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The same for arrays that were checked: the kernel itself."""
        return self.kernels(self.nothing).checked

    def programs(self, mask: Mask | None = None) -> tuple[loops.LoopProgram, ...]:
        """The loop programs for a mask of wanted gradients: forward and, if any is wanted,
        backward."""
        mask = self.asked_mask(mask)
        forward = self.forward_kernel.program
        return (forward, self.backward_kernel(mask).program) if any(mask) else (forward,)

    @property
    def forward_kernel(self) -> Kernel:
        """The kernel of the forward."""
        name, plan, cpu = f"{self.prefix}forward", self.plan, self.cpu
        kernel = kernel_of(plan, cpu)
        return Kernel(name, plan, {"cpu": asdict(cpu)}, lambda: kernel.program_named(name))

    def backward_kernel(self, mask: Mask) -> Kernel:
        """The kernel of the gradients that a mask asks for."""
        name, plan, cpu = f"{self.prefix}backward", self.plan, self.cpu
        wanted = self.wanted(mask)
        kernel = kernel_of(plan, cpu, tuple(wanted))
        made_from = {"cpu": asdict(cpu), "wanted": wanted}
        return Kernel(name, plan, made_from, lambda: kernel.program_named(name))

    def kernel(self, mask: Mask) -> Kernel:
        """The forward's kernel where a mask asks for nothing, else that of its gradients; one that
        was found in the store is not looked for twice."""
        found = self._found.pop(mask, None)
        return found or (self.backward_kernel(mask) if any(mask) else self.forward_kernel)

    def workspace_bytes(self, mask: Mask, batch: int) -> int:
        """The same of compiled kernels: nothing of it is of the size of the batch."""
        lowered = LoweredForCpu(self.backend, self.plan, mask, self.target())
        return lowered.workspace_of(torch.get_num_threads())

    def wanted(self, mask: Mask) -> list[str]:
        """Names of the inputs whose gradients a mask asks for."""
        return list(wanted_names(self.plan, mask))

    def source(self, mask: Mask | None = None) -> str:
        """The generated code: forward, and the backward of a training step."""
        return "\n".join(map(print_cpp, self.programs(mask)))

    def sources(self, mask: Mask | None = None) -> Mapping[str, str]:
        """The same in parts."""
        return dict(zip(PARTS, (*map(print_cpp, self.programs(mask)), ""), strict=False))

    def is_stored(self, mask: Mask) -> bool:
        """Whether the store has both kernels."""
        for one in dict.fromkeys((self.nothing, mask)):
            if one not in self._found:
                kernel = self.kernel(one)
                if not kernel.is_stored:
                    return False
                self._found[one] = kernel
        return True

    def has_built(self, mask: Mask) -> bool:
        """Whether both kernels are loaded, or in the store."""
        known = self._kernels.get(mask)
        backward = None if known is None else known.backward
        if known is not None and not (isinstance(backward, _Backward) and backward.call is None):
            return True
        return bool(self.failure) or self.is_stored(mask)

    def forward_source(self, name: str) -> str | None:
        """The forward's kernel under another name."""
        return print_cpp(replace(self.forward_kernel.program, name=name))

    def prepare_backward(self, mask: Mask) -> None:
        """Compile the backward."""
        backward = self.kernels(mask).backward
        if isinstance(backward, _Backward):
            backward.prepare()

    def build(self, mask: Mask) -> Kernels:
        """The compiled forward; the backward is compiled when it is first called."""
        if not any(mask):
            forward = _Forward(self)
            return Kernels(forward, _no_backward, (), "", unchecked=forward.unchecked)
        self.check_limit(mask)
        known = self.kernels(self.nothing)
        kernel = self.kernel(mask)
        names = [value.name for value in self.plan.inputs]
        needed = tuple(names.index(name) for name, _ in kernel.entry.inputs if name != GRADIENT)
        backward = _Backward(self, kernel, mask)
        # Where the backward does not read the gradient there is no quick way.
        quick = backward.quick if backward.takes_gradient else None
        return Kernels(known.forward, backward, needed, "", unchecked=known.unchecked, quick=quick)


class _Forward:
    """The compiled forward."""

    def __init__(self, owner: CppProgram) -> None:
        plan, kernel = owner.plan, owner.kernel(owner.nothing)
        library = owner.load(kernel)
        assert [name for name, _ in kernel.entry.inputs] == [v.name for v in plan.inputs]
        self.call = _Call(owner, kernel, library)
        self.dtype = owner.dtype
        self.sizes = tuple(plan.axis_size(axis) for axis in plan.outputs[0].axes)
        # The input that has the batch; None: y has none either.
        self.batched = next((k for k, v in enumerate(plan.inputs) if BATCH in v.legs), None)
        # The input that y has the shape of: a fresh array like another one takes half as long.
        shapes = [tuple(map(plan.axis_size, plan.axes_of(value))) for value in plan.inputs]
        self.like = shapes.index(self.sizes) if self.sizes in shapes else None
        self.unchecked = self._direct()

    def __call__(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """y of any arrays."""
        if self.call.ready.is_known(arrays):
            return self.unchecked(*arrays)
        return self._unchecked(*self.call.ready(arrays))

    def _direct(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The same as ``_unchecked`` in one function: it runs at each call of a layer."""
        call, like, batched = self.call, self.like, self.batched
        if like is None or batched is None:
            return self._unchecked
        pack, function = call.pack, call.function

        def unchecked(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            if profiler_is_on():
                return self._unchecked(*arrays)
            result = torch.empty_like(arrays[like])
            addresses = pack(*map(_address, arrays), _address(result))
            if function(addresses, arrays[batched].size(0), _threads()):
                return self._unchecked(*arrays)  # which says what is wrong
            return (result,)

        return unchecked

    def _unchecked(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """y of contiguous arrays of the plan's dtype."""
        batch = 0 if self.batched is None else arrays[self.batched].shape[0]
        if self.like is None:
            shape = [batch if size is None else size for size in self.sizes]
            result = torch.empty(shape, dtype=self.dtype, device="cpu")
        else:
            result = torch.empty_like(arrays[self.like])
        if not self.call.run((*arrays, result), batch):
            return self._unchecked(*self.call.ready.with_memory(arrays))
        return (result,)


class _Backward:
    """The compiled backward for one mask of wanted gradients, built when first called."""

    def __init__(self, owner: CppProgram, kernel: Kernel, mask: Mask) -> None:
        self.owner, self.kernel = owner, kernel
        self.dtype = owner.dtype
        plan = owner.plan
        values = [v for v, asked in zip(plan.inputs, mask, strict=True) if asked]
        # Shapes of the gradients in the order in which they are returned; None is the batch.
        self.shapes = [tuple(map(plan.axis_size, plan.axes_of(value))) for value in values]
        names = [f"out_d_{value.name}" for value in values]
        self.ordered = picker([names.index(name) for name in kernel.entry.outputs])
        inputs = [name for name, _ in kernel.entry.inputs]
        self.takes_gradient = GRADIENT in inputs
        # The input that a gradient has the shape of, if the backward reads it: a fresh array like
        # another one takes half as long.
        self.like = [inputs.index(v.name) if v.name in inputs else -1 for v in values]
        # Nearly always there is one for each; asking for each would take as long as the kernel.
        self.all_like = None if -1 in self.like else picker(self.like)
        self.batched = BATCH in plan.outputs[0].operand.legs
        # Inputs that have the batch, beside the gradient.
        batched = {value.name for value in plan.inputs if BATCH in value.legs}
        self.rows = [place for place, name in enumerate(inputs) if name in batched]
        self.call: _Call | None = None

    def prepare(self) -> _Call:
        """Compile it."""
        if self.call is None:
            library = self.owner.load(self.kernel)
            self.call = _Call(self.owner, self.kernel, library)
        return self.call

    def __call__(self, gradient: torch.Tensor, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
        call = self.call or self.prepare()
        batch = gradient.shape[0] if self.batched else 0
        inputs = call.ready((gradient, *saved) if self.takes_gradient else saved)
        results = self._made(inputs, batch)
        while not call.run((*inputs, *self.ordered(results)), batch):
            inputs = call.ready.with_memory(inputs)
            results = self._made(inputs, batch)
        return results

    def quick(
        self, gradient: torch.Tensor, kept: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        """The same, if the arrays are like those of the call before, but for the strides of the
        gradient: that of a sum is one number, expanded."""
        call = self.call
        if call is None or gradient.layout is not torch.strided or profiler_is_on():
            return None
        if not gradient.is_contiguous():
            gradient = gradient.contiguous()
        inputs = (gradient, *kept)
        guard = call.ready.guard
        if guard is None or not guard(*inputs):
            return None
        # Each step in a function of its own would take as long as a small kernel.
        batch = gradient.size(0) if self.batched else 0
        for place in self.rows:
            array = inputs[place]
            if array.size(0) != batch or not array.is_contiguous():
                return None
        results = self._made(inputs, batch)
        addresses = call.pack(*map(_address, inputs), *map(_address, self.ordered(results)))
        # What it has to say it says where it is called the long way.
        return None if call.function(addresses, batch, _threads()) else results

    def _made(self, inputs: Sequence[torch.Tensor], batch: int) -> tuple[torch.Tensor, ...]:
        """Fresh arrays for the gradients, of the plan's shapes: what is read was held to it."""
        if self.all_like is not None:
            return tuple(map(torch.empty_like, self.all_like(inputs)))
        return tuple(
            torch.empty_like(inputs[place])
            if place >= 0
            else torch.empty(
                [batch if size is None else size for size in shape], dtype=self.dtype, device="cpu"
            )
            for place, shape in zip(self.like, self.shapes, strict=True)
        )


class _Call:
    """A loaded entry point of a program, with what makes arrays ready for it."""

    def __init__(self, owner: CppProgram, kernel: Kernel, library: ctypes.CDLL) -> None:
        dtype = owner.dtype
        label = f"tnlayer::{kernel.name} {owner.graph.label}"
        entry = LoadedEntry(kernel.name, kernel.entry, library, label)
        self.run, self.function, self.pack = entry.run, entry.function, entry.pack
        self.ready = Ready(
            f"program of {owner.graph.label!r}",
            [owner.expected[name] for name, _ in kernel.entry.inputs],
            lambda array: dense(array, dtype),
            lambda array: array.is_cpu,
        )


class LoadedEntry:
    """An entry point of a loaded library: torch arrays in, torch arrays filled.

    Arguments:
        name: of the function.
        entry: how it is called.
        library: that has it; it stays loaded.
        label: what torch's profiler calls it.
    """

    def __init__(
        self, name: str, entry: EntryPoint, library: ctypes.CDLL, label: str = "tnlayer"
    ) -> None:
        self.label = label
        self.memory = memory_of(library, name + RELEASE)
        self.function: Any = library[name]
        self.function.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int)
        self.function.restype = ctypes.c_int
        # Filling an array of ctypes takes six times as long.
        self.pack = Struct(f"{len(entry.inputs) + len(entry.outputs)}P").pack

    def run(self, arrays: Sequence[torch.Tensor], batch: int) -> bool:
        """Run the kernel; the interpreter's lock is released meanwhile.

        Arguments:
            arrays: inputs, then outputs, all ready.
            batch: samples.

        Returns:
            False where nothing was done, for an array has no address.
        """
        addresses = self.pack(*map(_address, arrays))
        if profiler_is_on():
            with profiler.record_function(self.label):
                status = self.function(addresses, batch, torch.get_num_threads())
        else:
            status = self.function(addresses, batch, torch.get_num_threads())
        if status == NO_ADDRESS:
            return False
        if status:
            msg = f"no memory left for the workspace of a kernel at batch {batch}"
            raise MemoryError(msg)
        return True


_address = torch.Tensor.data_ptr
_threads = torch.get_num_threads


def _no_backward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Stands where no gradient is wanted."""
    msg = "this program was built without a backward"
    raise SpecError(msg)
