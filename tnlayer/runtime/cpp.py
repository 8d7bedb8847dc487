"""A Program whose kernels are compiled C++: forward and backward, each one call for the batch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch

from tnlayer.debug import debug
from tnlayer.errors import BuildError, SpecError
from tnlayer.graph import Graph
from tnlayer.kernels import loops
from tnlayer.kernels.cpp_printer import print_cpp
from tnlayer.kernels.cpu import ARITHMETIC, Cpu, backward_program, can_fuse, forward_program
from tnlayer.kernels.loops_text import program_text
from tnlayer.kernels.pair import Mask
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH
from tnlayer.runtime.build import find_compiler, load_library
from tnlayer.runtime.program import Kernels, Program


def this_cpu() -> Cpu:
    """What the compiler of this machine makes of its CPU."""
    compiler = find_compiler()
    return Cpu(compiler.vector_bytes, compiler.registers, threads=torch.get_num_threads())


class CppProgram(Program):
    """A compiled network whose kernels are C++; made by ``tnlayer.compile(..., backend="cpp")``.

    Nothing of the size of the batch is kept between forward and backward but the inputs: the
    backward makes each sample's states again. Under torch.func, torch.compile, forward-mode and
    double backward the generated torch code runs instead, as for every program.
    """

    backend = "cpp"
    # Put before the names of entry points, so that several programs may stand in one unit.
    prefix = ""

    @cached_property
    def cpu(self) -> Cpu:
        """What the kernels are made for."""
        return this_cpu()

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        tensor_names: Mapping[str, str],
        *,
        reuse: bool = True,
    ) -> None:
        reason = can_fuse(plan)
        if reason:
            msg = (
                f"network {graph.label!r} cannot be built with backend='cpp': {reason}; "
                "use backend='torch'"
            )
            raise BuildError(msg)
        super().__init__(graph, plan, tensor_names, reuse=reuse)

    def load(self, program: loops.Program) -> ctypes.CDLL:
        """Build a loop program."""
        debug(3, program_text(program))
        return load_library(print_cpp(program))

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        if not _is_plain(arrays):
            return self.reference(*arrays)
        return self.kernels(self.nothing).forward(*arrays)

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether arrays are memory of this process, which compiled code can read."""
        return _is_plain(arrays)

    def programs(self, mask: Mask | None = None) -> tuple[loops.Program, ...]:
        """The loop programs for a mask of wanted gradients: forward and, if any is wanted,
        backward."""
        mask = self.training_mask() if mask is None else mask
        forward = forward_program(self.plan, self.cpu, f"{self.prefix}forward")
        return (forward, self._backward(mask)) if any(mask) else (forward,)

    def _backward(self, mask: Mask) -> loops.Program:
        return backward_program(self.plan, self.wanted(mask), self.cpu, f"{self.prefix}backward")

    def wanted(self, mask: Mask) -> list[str]:
        """Names of the inputs whose gradients a mask asks for."""
        return [v.name for v, asked in zip(self.plan.inputs, mask, strict=True) if asked]

    def source(self, mask: Mask | None = None) -> str:
        """The generated code: forward, and the backward of a training step."""
        return "\n".join(map(print_cpp, self.programs(mask)))

    def prepare(self) -> None:
        """Build what a training step needs now: forward and backward."""
        backward = self.kernels(self.training_mask()).backward
        if isinstance(backward, _Backward):
            backward.prepare()

    def build(self, mask: Mask) -> Kernels:
        """The compiled forward; the backward is compiled when it is first called."""
        if not any(mask):
            return Kernels(self._forward(), _no_backward, (), "")
        forward = self.kernels(self.nothing).forward
        program = self._backward(mask)
        names = [value.name for value in self.plan.inputs]
        inputs = [buffer.name for buffer in program.of("input")]
        needed = tuple(names.index(name) for name in inputs if name != "g")
        return Kernels(forward, _Backward(self, program, mask), needed, "")

    def _forward(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        program = forward_program(self.plan, self.cpu, f"{self.prefix}forward")
        assert [b.name for b in program.of("input")] == [v.name for v in self.plan.inputs]
        call = _Call(program, self.load(program), _arithmetic(self.plan))
        sizes = [self.plan.axis_size(axis) for axis in self.plan.outputs[0].axes]
        batched = next((k for k, v in enumerate(self.plan.inputs) if BATCH in v.legs), None)
        dtype, outer_dtype = call.dtype, self.dtype

        def forward(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            batch = 0 if batched is None else arrays[batched].shape[0]
            shape = [batch if size is None else size for size in sizes]
            result = torch.empty(shape, dtype=dtype)
            call(arrays, (result,), batch)
            return (result if dtype is outer_dtype else result.to(outer_dtype),)

        return forward


class _Backward:
    """The compiled backward for one mask of wanted gradients, built when first called."""

    def __init__(self, owner: CppProgram, program: loops.Program, mask: Mask) -> None:
        self.owner, self.program = owner, program
        self.dtype, self.outer_dtype = _arithmetic(owner.plan), owner.dtype
        plan = owner.plan
        values = [v for v, asked in zip(plan.inputs, mask, strict=True) if asked]
        # Shapes of the gradients in the order in which they are returned; None is the batch.
        self.shapes = [tuple(map(plan.axis_size, plan.axes_of(value))) for value in values]
        names = [f"out_d_{value.name}" for value in values]
        self.order = [names.index(buffer.name) for buffer in program.of("output")]
        self.takes_gradient = "g" in {buffer.name for buffer in program.of("input")}
        self.batched = BATCH in plan.outputs[0].operand.legs
        self.call: _Call | None = None

    def prepare(self) -> _Call:
        """Compile it."""
        if self.call is None:
            self.call = _Call(self.program, self.owner.load(self.program), self.dtype)
        return self.call

    def __call__(self, gradient: torch.Tensor, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
        call = self.call or self.prepare()
        batch = gradient.shape[0] if self.batched else 0
        results = [
            torch.empty([batch if size is None else size for size in shape], dtype=self.dtype)
            for shape in self.shapes
        ]
        inputs = (gradient, *saved) if self.takes_gradient else saved
        call(inputs, [results[k] for k in self.order], batch)
        if self.dtype is self.outer_dtype:
            return tuple(results)
        return tuple(result.to(self.outer_dtype) for result in results)


class _Call:
    """A loaded entry point: torch arrays in, torch arrays filled."""

    def __init__(self, program: loops.Program, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.library, self.dtype = library, dtype  # the library stays loaded
        self.function = getattr(library, program.name)
        self.function.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_int)
        self.function.restype = ctypes.c_int
        self.pointers = ctypes.c_void_p * len(program.of("input", "output"))

    def __call__(
        self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], batch: int
    ) -> None:
        """Run the kernel; the interpreter's lock is released meanwhile."""
        dtype = self.dtype
        ready = [
            array
            if array.dtype is dtype and array.is_contiguous() and not array.is_neg()
            and not array.is_conj()
            else _copied(array, dtype)
            for array in inputs
        ]  # fmt: skip
        addresses = [array.data_ptr() for array in ready]
        addresses += [array.data_ptr() for array in outputs]
        if self.function(self.pointers(*addresses), batch, torch.get_num_threads()):
            msg = f"no memory left for the workspace of a kernel at batch {batch}"
            raise MemoryError(msg)


def _copied(array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Entries in a row and as they are meant: no lazy conjugate or negative, no other dtype."""
    return array.to(dtype).resolve_conj().resolve_neg().contiguous()


def _arithmetic(plan: Plan) -> torch.dtype:
    return getattr(torch, ARITHMETIC.get(plan.dtype, plan.dtype))


def _is_plain(arrays: Sequence[torch.Tensor]) -> bool:
    """Whether arrays are torch's own, on the CPU, and no mode wants to see each call.

    Raises:
        BuildError: an array is on another device.
    """
    if torch._C._len_torch_dispatch_stack():  # pyright: ignore[reportPrivateUsage]
        return False
    for array in arrays:
        if type(array) not in _PLAIN:
            return False
        if not array.is_cpu:
            if array.is_meta:
                return False
            msg = (
                f"backend='cpp' runs on the CPU, got an array on {array.device}; move it with "
                "x.cpu(), or make the layer with backend='torch'"
            )
            raise BuildError(msg)
    return True


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _no_backward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Stands where no gradient is wanted."""
    msg = "this program was built without a backward"
    raise SpecError(msg)
