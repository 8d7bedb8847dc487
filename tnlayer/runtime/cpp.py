"""A Program whose kernels are compiled C++: forward and backward, each one call for the batch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
import torch

from tnlayer.errors import BuildError, SpecError
from tnlayer.kernels import loops
from tnlayer.kernels.cpp_printer import print_cpp
from tnlayer.kernels.cpu import ARITHMETIC, Cpu, backward_program, forward_program
from tnlayer.kernels.pair import Mask
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH, Value
from tnlayer.runtime.build import find_compiler, load_library
from tnlayer.runtime.program import Kernels, Program


def this_cpu() -> Cpu:
    """What the compiler of this machine makes of its CPU."""
    compiler = find_compiler()
    return Cpu(compiler.vector_bytes, compiler.registers)


class CppProgram(Program):
    """A compiled network whose kernels are C++; made by ``tnlayer.compile(..., backend="cpp")``.

    Nothing of the size of the batch is kept between forward and backward but the inputs: the
    backward makes each sample's states again. Under torch.func, torch.compile, forward-mode and
    double backward the generated torch code runs instead, as for every program.
    """

    backend = "cpp"
    # Put before the names of entry points, so that several programs may stand in one unit.
    prefix = ""

    def load(self, program: loops.Program) -> ctypes.CDLL:
        """Build a loop program."""
        return load_library(print_cpp(program))

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        if not _is_plain(arrays):
            return self.reference(*arrays)
        return self.kernels(_nothing(self.plan)).forward(*arrays)

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether arrays are memory of this process, which compiled code can read."""
        return _is_plain(arrays)

    def programs(self, mask: Mask | None = None) -> tuple[loops.Program, ...]:
        """The loop programs for a mask of wanted gradients: forward and, if any is wanted,
        backward."""
        mask = self.training_mask() if mask is None else mask
        cpu = this_cpu()
        forward = forward_program(self.plan, cpu, f"{self.prefix}forward")
        return (forward, self._backward(mask, cpu)) if any(mask) else (forward,)

    def _backward(self, mask: Mask, cpu: Cpu) -> loops.Program:
        return backward_program(self.plan, self.wanted(mask), cpu, f"{self.prefix}backward")

    def wanted(self, mask: Mask) -> list[str]:
        """Names of the inputs whose gradients a mask asks for."""
        return [v.name for v, asked in zip(self.plan.inputs, mask, strict=True) if asked]

    def source(self, mask: Mask | None = None) -> str:
        """The generated code: forward, and the backward of a training step."""
        return "\n".join(map(print_cpp, self.programs(mask)))

    def build(self, mask: Mask) -> Kernels:
        """The compiled forward; the backward is compiled when it is first called."""
        cpu = this_cpu()
        forward = self.kernels(_nothing(self.plan)).forward if any(mask) else self._forward(cpu)
        if not any(mask):
            return Kernels(forward, _no_backward, (), "")
        program = self._backward(mask, cpu)
        names = [value.name for value in self.plan.inputs]
        inputs = [buffer.name for buffer in program.of("input")]
        needed = tuple(names.index(name) for name in inputs if name != "g")
        return Kernels(forward, _Backward(self, program, mask), needed, "")

    def _forward(self, cpu: Cpu) -> Callable[..., tuple[torch.Tensor, ...]]:
        program = forward_program(self.plan, cpu, f"{self.prefix}forward")
        call = _Call(program, self.load(program))
        y = self.plan.outputs[0]
        sizes = [self.plan.axis_size(axis) for axis in y.axes]
        names = [value.name for value in self.plan.inputs]
        order = [names.index(buffer.name) for buffer in program.of("input")]
        batched = next((k for k, v in enumerate(self.plan.inputs) if BATCH in v.legs), None)
        dtype = _arithmetic(self.plan)

        def forward(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            batch = 0 if batched is None else arrays[batched].shape[0]
            shape = [batch if size is None else size for size in sizes]
            result = torch.empty(shape, dtype=dtype)
            call([arrays[k] for k in order], [result], batch, dtype)
            return (result.to(self.dtype),)

        return forward


class _Backward:
    """The compiled backward for one mask of wanted gradients, built when first called."""

    def __init__(self, owner: CppProgram, program: loops.Program, mask: Mask) -> None:
        self.owner, self.program, self.dtype = owner, program, _arithmetic(owner.plan)
        self.outer_dtype = owner.dtype
        plan = owner.plan
        wanted = {v.name for v, asked in zip(plan.inputs, mask, strict=True) if asked}
        self.values: list[Value] = [v for v in plan.inputs if v.name in wanted]
        self.plan = plan
        self.call: _Call | None = None
        inputs = [buffer.name for buffer in program.of("input")]
        self.takes_gradient = "g" in inputs
        self.batched = BATCH in plan.outputs[0].operand.legs

    def __call__(
        self, gradient: torch.Tensor, *saved: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        if self.call is None:
            self.call = _Call(self.program, self.owner.load(self.program))
        batch = gradient.shape[0] if self.batched else 0
        results: dict[str, torch.Tensor] = {}
        for value in self.values:
            sizes = [self.plan.axis_size(axis) for axis in self.plan.axes_of(value)]
            shape = [batch if size is None else size for size in sizes]
            results[value.name] = torch.empty(shape, dtype=self.dtype)
        order = [buffer.name for buffer in self.program.of("output")]
        arrays = [results[name.removeprefix("out_d_")] for name in order]
        inputs = [gradient, *saved] if self.takes_gradient else list(saved)
        self.call(inputs, arrays, batch, self.dtype)
        return tuple(results[value.name].to(self.outer_dtype) for value in self.values)


class _Call:
    """A loaded entry point: torch arrays in, torch arrays filled."""

    def __init__(self, program: loops.Program, library: ctypes.CDLL) -> None:
        self.library = library  # keeps it loaded
        self.function = getattr(library, program.name)
        self.function.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_int)
        self.function.restype = ctypes.c_int
        self.pointers = ctypes.c_void_p * len(program.of("input", "output"))

    def __call__(
        self,
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        batch: int,
        dtype: torch.dtype,
    ) -> None:
        """Run the kernel; the interpreter's lock is released meanwhile."""
        ready = [_ready(array, dtype) for array in inputs]
        pointers = self.pointers(*[array.data_ptr() for array in (*ready, *outputs)])
        if self.function(pointers, batch, torch.get_num_threads()):
            msg = f"no memory left for the workspace of a kernel at batch {batch}"
            raise MemoryError(msg)


def _ready(array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Entries in a row, as they are meant: no lazy conjugate or negative."""
    if array.dtype is not dtype:
        array = array.to(dtype)
    if dtype.is_complex:
        array = array.resolve_conj()
    return array.resolve_neg().contiguous()


def _arithmetic(plan: Plan) -> torch.dtype:
    return getattr(torch, ARITHMETIC.get(plan.dtype, plan.dtype))


def _nothing(plan: Plan) -> Mask:
    return (False,) * len(plan.inputs)


def _is_plain(arrays: Sequence[torch.Tensor]) -> bool:
    """Whether arrays are torch's own, on the CPU, and no mode wants to see each call."""
    if torch._C._len_torch_dispatch_stack():  # pyright: ignore[reportPrivateUsage]
        return False
    for array in arrays:
        if type(array) not in (torch.Tensor, torch.nn.Parameter):
            return False
        kind = array.device.type
        if kind == "meta":
            return False
        if kind != "cpu":
            msg = (
                f"backend='cpp' runs on the CPU, got an array on {array.device}; move it with "
                "x.cpu(), or make the layer with backend='torch'"
            )
            raise BuildError(msg)
    return True


def _no_backward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Stands where no gradient is wanted."""
    msg = "this program was built without a backward"
    raise SpecError(msg)
