"""A Program: a compiled network as a differentiable function of inputs and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from ..codegen.torch import print_torch
from ..errors import BuildError, SpecError
from ..graph.argument_checks import check_mapping, shown
from ..graph.graph import Graph
from ..hardware.profile.load import op_times
from ..hardware.profile.op_times import OpTimes
from ..ir.backend_names import TORCH
from ..ir.counts import Amount
from ..ir.plan import Plan
from ..ir.plan_parts import Memory
from ..ir.steps import BATCH
from ..lowering.calls.training_schedules import Mask, TrainingSchedules
from ..planning.memory_limit import LimitError, LimitRefused, keep_limit
from ..planning.request import TRAIN
from ..support.debug import debug
from ..support.locks import Lock
from ..support.outside_graphs import do, number_of
from ..targets.backend import backend_of
from ..targets.fastest_schedules import fastest_pair
from ..targets.lowered import Lowered
from ..targets.lowered_calls import LoweredCalls
from ..targets.target import Target, target_for
from .array_checks import Expected, check_array, check_storage
from .autograd import Runnable, are_plain, is_copy, is_traced, run, traced_pair
from .available_memory import check_room, free_samples
from .generated_functions import Kernels
from .kernel_arrays import Held
from .load_python import FRESH, REUSING, TRACEABLE, load_source
from .small_arrays import batch_place, by_samples, most_samples

_address = torch.Tensor.data_ptr

# Canonical name of the gradient of y, an input of each backward.
GRADIENT = "g"


# The parts of the generated code.
PARTS = FORWARD, BACKWARD = "forward", "backward"


class Program:
    """A compiled network; made by :func:`tnlayer.compile`.

    Arguments:
        graph: the network, with the user's names.
        plan: its forward plan, with canonical names.
        tensor_names: canonical name of each parameter of the graph.
        limit: bytes of the memory limit, which each set of wanted gradients keeps for calls of at
            most ``plan.batch`` samples. Without one, intermediates lie in memory that is kept
            between calls (runtime/scratch.py).
        device: type of the device that the plan is for, "cpu" or "cuda": torch's calls follow its
            rates, though they run on others too.
        lowered: the plan as it was lowered when it was found; None: that is done when it is needed.

    A program may be called by many threads at once; kernels are built under a lock, once for each
    set of wanted gradients.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.low_rank(8, 6, rank=2)
    >>> program = tn.compile(net, batch=16, backend="torch")
    >>> arrays = {p.name: torch.ones(p.shape) for p in net.freeze().parameters}
    >>> program(torch.ones(3, 8), parameters=arrays)[0, 0]
    tensor(16.)
    >>> 3 in program.batch_range, program.resources
    (True, ())
    >>> program.prepare()  # builds what a training step needs, now
    >>> print(program.sources()["backward"].splitlines()[0])  # doctest: +ELLIPSIS
    def backward(...
    >>> program.source().startswith(program.sources()["forward"])
    True
    """

    backend = "torch"
    # Whether torch may run the plan where kernels cannot be built, and why it does.
    may_use_torch = False
    failure = ""
    # Whether a call refuses an array without memory; torch's own operations do not all.
    checks_addresses = False
    # Whether each result is an array that was made for it; torch's calls may give a view of x.
    makes_results = False

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
        self.graph = graph
        self.plan = plan
        self.limit = limit
        self.device = device
        self.tensor_names = dict(tensor_names)
        canonical = {name: user for user, name in self.tensor_names.items()}
        self.parameter_order = tuple(canonical[value.name] for value in plan.parameters)
        self._lowered: dict[Mask, Lowered] = {} if lowered is None else {lowered.mask: lowered}
        self._pairs: dict[tuple[Memory, Mask], TrainingSchedules] = {}
        self._objective = () if lowered is None else lowered.mask
        self._kernels: dict[Mask, Kernels] = {}
        self._adding: dict[Mask, Kernels] = {}
        self._traceable: dict[Mask, Kernels] = {}
        self._alike: dict[tuple[Program, Mask], bool] = {}
        self._free: dict[torch.device, int] = {}
        self._lock = Lock(reentrant=True)
        self._number = number_of(self)
        self._reference: Callable[..., tuple[torch.Tensor, ...]] | None = None
        self.dtype: torch.dtype = getattr(torch, plan.dtype)
        nothing = (False,) * len(plan.inputs)
        self.nothing = nothing

    def reference(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What torch can trace and differentiate: each array is made anew, and no limit is kept."""
        do(self._number, "make_reference")
        reference: Any = self._reference
        return reference(*arrays)

    def make_reference(self) -> None:
        """Made when it is needed: most calls never do."""
        if self._reference is None:
            free = self._pair(replace(self.plan, memory=Memory()), self.nothing)
            self._reference = load_source(print_torch(free.forward, "forward"))["forward"]

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        if torch.is_grad_enabled() and not are_plain(arrays):
            return self.reference(*arrays)
        return self.kernels(self.nothing).forward(*arrays)

    def traced(self, *arrays: torch.Tensor) -> torch.Tensor:
        """y as torch's own calls, forward and backward as planned, for a compiler that looks."""
        wanted = torch.is_grad_enabled()
        mask = tuple(wanted and array.requires_grad for array in arrays)
        if not any(mask):
            return self.reference(*arrays)[0]
        if mask not in self._traceable:
            pair = self._pair(replace(self.plan, memory=Memory()), mask)
            self._traceable[mask] = build_kernels(pair, TRACEABLE)
        return traced_pair(self._traceable[mask], mask, self.reference, arrays)

    def infer_adding(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As ``infer``, but y is added to the last array; where the plan's memory says so."""
        *own, y = arrays
        if torch.is_grad_enabled() and not are_plain(own):
            y.add_(self.reference(*own)[0])
            return ()
        return self.adding_kernels(self.nothing).forward(*arrays)

    @cached_property
    def infer_checked(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The same for arrays that were checked (see dispatch/fast_call.py); looked up once."""
        return self.infer

    @property
    def stand_in(self) -> Program | None:
        """A program for arrays that the kernels cannot take, which keeps the memory limit; None
        where there is no limit, or all can be taken."""
        return None

    def as_calls(self, *, adds: bool = False, keeps: bool = True) -> Program | None:
        """The stand-in beside other networks whose results are added; None where there is none.

        Arguments:
            adds: whether results are added to those of other networks.
            keeps: whether the forward may keep values for the backward.
        """
        del adds, keeps
        return None

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether the kernels can read these arrays; if not, torch runs the reference on them."""
        del arrays
        return True

    def can_take_gradient(self, gradient: torch.Tensor) -> bool:
        """The same for the gradient of y."""
        del gradient
        return True

    @property
    def is_for_compilers(self) -> bool:
        """Whether a compiler shall see the calls: they are torch's own, within no memory limit."""
        return self.limit is None and (type(self) is Program or bool(self.failure))

    @property
    def keeps_limit(self) -> bool:
        """Whether there is a memory limit."""
        return self.limit is not None

    @property
    def owns_results(self) -> bool:
        """Whether results surely share no memory with arguments or each other, as kernels' do."""
        return self.makes_results and not self.failure

    def saves_like(self, other: Runnable, mask: Mask) -> bool:
        """Whether a backward of another program can read what this forward saves."""
        assert isinstance(other, Program), "programs of one network"
        key = other, mask
        if key not in self._alike:
            own, others = self.kernels(mask), other.kernels(mask)
            same = own.saved_shapes == others.saved_shapes
            if same and own.saved:
                same = replace(self.plan, batch=other.plan.batch) == other.plan
            self._alike[key] = same
        return self._alike[key]

    @property
    def batch_range(self) -> range:
        """The batch sizes for which this program was chosen; it is right for every other too."""
        return range(2**63 - 1)

    def schedules(self, mask: Mask | None = None) -> TrainingSchedules:
        """The schedules for a mask of wanted gradients; by default those of a training step."""
        mask = self.training_mask() if mask is None else mask
        return self._pair(self._plan_for(mask), mask)

    @property
    def lowered(self) -> Lowered:
        """The plan as it was found: lowered for the gradients that its objective wants."""
        return self.lowered_for(self._objective or self.training_mask())

    @property
    def trained(self) -> Lowered:
        """The plan lowered for the gradients of a training step."""
        return self.lowered_for(self.training_mask())

    def lowered_for(self, mask: Mask) -> Lowered:
        """The plan lowered for a mask of wanted gradients, once for each."""
        if mask not in self._lowered:
            known = next(iter(self._lowered.values()), None)
            if known is not None and not any(mask):
                self._lowered[mask] = known.inference
            else:
                target = self.target() if known is None else known.target
                backend = backend_of(self.plan.backend)
                self._lowered[mask] = backend.lower(self.plan, mask, target)
        return self._lowered[mask]

    def target(self) -> Target:
        """What the plan is for, where no search for it tells."""
        return target_for(self.plan.dtype, self.device)

    def _pair(self, plan: Plan, mask: Mask) -> TrainingSchedules:
        """The calls of torch of the plan, or of the plan with another memory, once for each."""
        key = plan.memory, mask
        if key not in self._pairs:
            known = self.lowered_for(mask) if self._lowered else None
            if isinstance(known, LoweredCalls) and known.plan == plan:
                self._pairs[key] = known.pair
            else:
                self._pairs[key] = fastest_pair(plan, mask, self.times)
        return self._pairs[key]

    @property
    def times(self) -> OpTimes:
        """Operations of the device that the plan is for."""
        return op_times(self.plan.dtype, self.device)

    def _plan_for(self, mask: Mask) -> Plan:
        """The plan, with what keeps the memory limit where other gradients are wanted than it was
        made for.

        Raises:
            PlanError: the limit cannot be kept with these gradients.
        """
        plan, limit = self.plan, self.limit
        if limit is None or self._pair(plan, mask).workspace_bytes(plan.batch) <= limit:
            return plan
        planned = self._pair(plan, self.training_mask()).forward
        keeps = planned.saved_bytes != Amount()
        calls = LoweredCalls(TORCH, plan, mask, self.target())
        try:
            return keep_limit(calls, plan.batch, limit, keeps=keeps).plan
        except LimitRefused as error:
            raise self.refused(error) from None

    def refused(self, error: LimitRefused) -> LimitError:
        """An error about the limit with the user's names."""
        text = error.with_names(dict(self.plan.names))
        return LimitError(f"network {self.graph.label!r}: {text}", error.needed)

    def forward_source(self, name: str) -> str | None:
        """The forward in C++ that needs nothing of torch, as a function of some name; None where
        the program is none."""
        del name
        return None

    def units(self, mask: Mask | None = None) -> Mapping[str, Any]:
        """The units of code for a device that a mask of wanted gradients needs, by name; none
        where kernels run on the CPU or are torch's."""
        del mask
        return MappingProxyType({})

    @property
    def resources(self) -> tuple[Any, ...]:
        """What each kernel of a training step takes of a device, where that is known."""
        return ()

    def training_mask(self) -> Mask:
        """The gradients of a training step: of batched inputs and of trainable parameters."""
        trainable = {p.name for p in self.graph.parameters if p.node.trainable}
        ports = (not port.is_whole for port in self.graph.inputs)
        return (*ports, *(name in trainable for name in self.parameter_order))

    def asked_mask(self, mask: object) -> Mask:
        """A mask of wanted gradients that a user gave, checked; that of a training step for None.

        Raises:
            SpecError: it is none.
        """
        if mask is None:
            return self.training_mask()
        count = len(self.plan.inputs)
        is_list = isinstance(mask, Sequence) and not isinstance(mask, str)
        flags: tuple[Any, ...] = tuple(mask) if is_list else ()  # pyright: ignore
        if is_list and len(flags) == count and all(isinstance(flag, bool) for flag in flags):
            return flags
        part = "; sources()[PART] is one part of the code" if isinstance(mask, str) else ""
        msg = (
            f"{self!r}: expected a mask of {count} flags, one an input and then one a parameter, "
            f"for whether its gradient is wanted, got {shown(mask)}{part}"
        )
        raise SpecError(msg)

    def usual_masks(self, objective: str) -> tuple[Mask, ...]:
        """The gradients that calls want, as a rule: none, those of the parameters, and for training
        those of the inputs besides."""
        if objective != TRAIN:
            return (self.nothing,)
        trained = self.training_mask()
        ports = len(self.plan.ports)
        return tuple(
            dict.fromkeys((self.nothing, (*self.nothing[:ports], *trained[ports:]), trained))
        )

    def is_stored(self, mask: Mask) -> bool:
        """Whether what ``prepare`` builds for a mask is in a store, or takes no time to make."""
        del mask
        return True

    def has_built(self, mask: Mask) -> bool:
        """Whether a call that wants these gradients compiles nothing."""
        del mask
        return True

    def kernels(self, mask: Mask) -> Kernels:
        """The functions for a mask of wanted gradients, built when first needed."""
        kernels = self._kernels.get(mask)
        if kernels is None:
            with self._lock:
                if mask not in self._kernels:
                    self._kernels[mask] = self._built(mask)
                kernels = self._kernels[mask]
        return kernels

    def adding_kernels(self, mask: Mask) -> Kernels:
        """The functions of a plan that adds, built when first needed: behind the inputs the forward
        takes y, behind all else the backward takes the gradients of the ports, and what it has for
        these is added there."""
        with self._lock:
            if mask not in self._adding:
                self._adding[mask] = self._printed(mask, adds=True)
            return self._adding[mask]

    def _used(self, mask: Mask) -> Kernels:
        """The functions that a layer runs."""
        return self.adding_kernels(mask) if self.plan.memory.adds else self.kernels(mask)

    def _built(self, mask: Mask) -> Kernels:
        """The functions for a mask: the program's own, or torch's where those cannot be built."""
        if self.failure:
            return Program.build(self, mask)
        try:
            return self.build(mask)
        except BuildError as error:
            return self.use_torch(mask, error)

    def use_torch(self, mask: Mask, error: BuildError) -> Kernels:
        """Let torch run the plan from now on, if the user left the choice to us.

        Arguments:
            mask: the wanted gradients of the call.
            error: why kernels cannot be built; ``explain()`` tells it.

        Raises:
            BuildError: the error, where kernels were asked for.
        """
        if not self.may_use_torch:
            raise error
        debug(1, f"torch runs {self.graph.label!r}: {error}")
        with self._lock:
            self.failure = str(error)
            self._kernels.clear()
            self._kernels[mask] = Program.build(self, mask)
            return self._kernels[mask]

    def prepare(self, mask: Mask | None = None) -> None:
        """Build what a training step, or a mask of wanted gradients, needs now.

        Arguments:
            mask: for each input of the plan, whether its gradient is wanted.

        Raises:
            BuildError: it cannot be built.
        """
        mask = self.training_mask() if mask is None else mask
        self._used(mask)
        if not self.failure:
            try:
                self.prepare_backward(mask)
            except BuildError as error:
                self.use_torch(mask, error)

    def prepare_backward(self, mask: Mask) -> None:
        """Build what would be built at the first backward."""

    def build(self, mask: Mask) -> Kernels:
        """Make the functions for a mask of wanted gradients."""
        return self._printed(mask, adds=False)

    def _printed(self, mask: Mask, *, adds: bool) -> Kernels:
        """Calls of torch for a mask: those that add to what there is, or the usual ones."""
        plan = self._plan_for(mask)
        plan = replace(plan, memory=replace(plan.memory, adds=adds))
        pair = self._pair(plan, mask)
        kernels = build_kernels(pair, FRESH)
        place, most = batch_place(plan), most_samples(plan)
        if self.limit is None and (place is not None or most < 0):
            many = build_kernels(pair, REUSING)
            if place is None or most <= 0:
                kernels = many
            else:
                forward = by_samples(kernels.forward, many.forward, place, most)
                backward = by_samples(kernels.backward, many.backward, 0, most)
                kernels = replace(kernels, forward=forward, backward=backward)
        if not any(mask):
            return kernels
        backward = _Backward(self, kernels.backward, kernels.needed)
        return replace(kernels, backward=backward, quick=None if adds else backward.quick)

    def source(self, mask: Mask | None = None) -> str:
        """The generated code: forward, and the backward of a training step; the forward alone where
        the memory limit allows no more.

        Arguments:
            mask: for each input of the plan, whether its gradient is wanted; by default those of a
                training step.

        Raises:
            SpecError: that is no mask.
        """
        if mask is not None:
            return self._used(self.asked_mask(mask)).source
        try:
            return self._used(self.training_mask()).source
        except LimitError:
            return self._used(self.nothing).source

    def sources(self, mask: Mask | None = None) -> Mapping[str, str]:
        """The generated code in parts, "forward" and "backward"; "" where there is none.

        Arguments:
            mask: as for :meth:`source`.
        """
        if mask is None:
            try:
                found = self._used(self.training_mask()).parts
            except LimitError:
                found = self._used(self.nothing).parts
        else:
            found = self._used(self.asked_mask(mask)).parts
        return dict(zip(PARTS, (*found, "", ""), strict=False))

    def __call__(
        self, *inputs: torch.Tensor, parameters: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Contract the network with the inputs.

        Arguments:
            inputs: one a port, (batch, features); (batch, n, d) for a product port; without the
                batch axis for a port that is not batched.
            parameters: the arrays by tensor name, at their stored shapes.

        Returns:
            y of shape (batch, out_features); without the batch axis if no port is batched.

        Raises:
            SpecError: a parameter is missing or unknown, or an array has a wrong shape.
        """
        return run(self, self.checked(inputs, parameters))

    def checked(
        self, inputs: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """What a call is given, checked, in the program's order and dtype."""
        arrays = (*inputs, *self._ordered(parameters))
        self._check(arrays)
        if not is_traced() and arrays and not arrays[0].is_meta:
            self.check_room(self._batch_of(arrays), self.plan, arrays[0].device)
        return self._dense(arrays)

    def _dense(self, arrays: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The arrays in the program's dtype; where a memory limit is kept, dense as well.

        Raises:
            PlanError: what is copied for that is more than the limit allows.
        """
        cast = tuple(array.to(self.dtype) for array in arrays)
        limit = self.limit
        if limit is None or is_traced():
            return cast
        taken = tuple(array.resolve_conj().resolve_neg().contiguous() for array in cast)
        pairs = zip(arrays, taken, strict=True)
        copied = sum(b.numel() * b.itemsize for a, b in pairs if is_copy(b, a))
        if copied:
            wanted = torch.is_grad_enabled()
            mask = tuple(wanted and array.requires_grad for array in arrays)
            own = self.workspace_bytes(mask, self._batch_of(arrays))
            if own + copied > limit:
                msg = (
                    f"network {self.graph.label!r}: memory_limit={limit} bytes cannot be kept: "
                    f"copies of arrays that are no {self.dtype} in a row take {copied} bytes, the "
                    f"workspace {own}. Raise the limit to {own + copied}, or pass contiguous "
                    f"arrays of that dtype"
                )
                raise LimitError(msg, own + copied)
        return taken

    def workspace_bytes(self, mask: Mask, batch: int) -> int:
        """Bytes that a call takes beside its arrays, y and the gradients that a mask asks for."""
        return self.schedules(mask).workspace_bytes(batch)

    def _batch_of(self, arrays: Sequence[torch.Tensor]) -> int:
        """Samples of a call; 1 where no input is batched."""
        pairs = zip(self.plan.ports, arrays, strict=False)
        return next((len(x) for port, x in pairs if BATCH in port.legs), 1)

    # -- memory of the device ----------------------------------------------------------------

    def free_samples(self, device: torch.device) -> int:
        """The greatest batch size that surely has room on a device; found once."""
        if device not in self._free:
            self._free[device] = free_samples(self.plan, device)
        return self._free[device]

    def check_room(self, batch: int, plan: Plan, device: torch.device) -> None:
        """Refuse a call that needs more memory than the device has left.

        Arguments:
            batch: samples.
            plan: what will run: the program's own, or that of its reference.
            device: where.

        Raises:
            PlanError: it does.
        """
        if plan is not self.plan or batch > self.free_samples(device):
            check_room(self.graph.label, plan, batch, device)

    def _ordered(self, parameters: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor]:
        wanted = set(self.parameter_order)
        check_mapping(parameters, "parameters", "arrays by tensor name")
        if set(parameters) != wanted:
            missing, unknown = sorted(wanted - set(parameters)), sorted(set(parameters) - wanted)
            msg = (
                f"program of {self.graph.label!r}: parameters missing {missing}, unknown {unknown};"
                f" pass an array for each of {sorted(wanted)}"
            )
            raise SpecError(msg)
        return [parameters[name] for name in self.parameter_order]

    def _check(self, arrays: tuple[torch.Tensor, ...]) -> None:
        """Every array has the shape that the plan expects, its memory, and no imaginary part to
        lose."""
        if len(arrays) != len(self.plan.inputs):
            given = len(arrays) - len(self.parameter_order)
            msg = f"expected {len(self.plan.ports)} inputs, got {given}"
            raise SpecError(msg)
        where = f"program of {self.graph.label!r}"
        for array, value in zip(arrays, self.plan.inputs, strict=True):
            name = self.expected[value.name].name
            if not isinstance(array, torch.Tensor):
                msg = f"{name}: expected a torch.Tensor, got {shown(array)}"
                raise SpecError(msg)
            if array.is_complex() and not self.plan.is_complex:
                msg = (
                    f"{name}: expected a real array for a program of {self.plan.dtype}, got "
                    f"{array.dtype}; compile with dtype='complex64' or 'complex128'"
                )
                raise SpecError(msg)
        self.check_inputs(where, arrays, "pass arrays of these shapes, on one device")
        if not is_traced():
            for array, value in zip(arrays, self.plan.inputs, strict=True):
                check_storage(where, self.expected[value.name].name, array)

    def check_inputs(
        self,
        where: str,
        arrays: Sequence[torch.Tensor],
        fix: str,
        gradient: torch.Tensor | None = None,
    ) -> None:
        """Refuse inputs, ports and then parameters, of other shapes than the plan has, of unequal
        batches, or on several devices.

        Arguments:
            where: whose they are.
            arrays: in the plan's order.
            fix: what the user can do.
            gradient: of y, if there is one.

        Raises:
            SpecError: names the array.
        """
        batch: int | None = None
        device: torch.device | None = None
        names = [value.name for value in self.plan.inputs]
        if gradient is not None:
            arrays, names = (gradient, *arrays), [GRADIENT, *names]
        for array, name in zip(arrays, names, strict=True):
            expected = self.expected[name]
            check_array(where, array, expected, fix=fix, batch=batch, device=device)
            device = array.device
            if expected.is_batched:
                batch = array.shape[0]

    @property
    def input_shapes(self) -> Sequence[Sequence[int | None]]:
        """Shapes of all inputs; None is the batch."""
        return [self.expected[value.name].shape for value in self.plan.inputs]

    @cached_property
    def expected(self) -> Mapping[str, Expected]:
        """What each input of the plan must be, by its canonical name, and the gradient of y."""
        plan, names = self.plan, dict(self.plan.names)
        found = {
            value.name: Expected(
                names.get(value.name, value.name), tuple(map(plan.axis_size, plan.axes_of(value)))
            )
            for value in plan.inputs
        }
        y = Expected("the gradient of y", tuple(map(plan.axis_size, plan.outputs[0].axes)))
        return MappingProxyType({**found, GRADIENT: y})

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the spec and the plan; source is generated again."""
        names = ("graph", "plan", "tensor_names", "limit", "device")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Program({self.graph.label!r}, backend={self.backend!r}, dtype={self.plan.dtype})"


class _Backward:
    """The generated backward, for inputs that are as the plan has them.

    torch's calls read an array of as many entries in another order without a word.
    """

    def __init__(
        self, program: Program, function: Callable[..., Any], needed: Sequence[int]
    ) -> None:
        names = [GRADIENT, *(program.plan.inputs[place].name for place in needed)]
        expected = [program.expected[name] for name in names]
        where = f"program of {program.graph.label!r}"
        self.held = Held(where, expected)
        self.function, self.count = function, len(names)

    def __call__(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.held.check(arrays[: self.count])
        return self.function(*arrays)

    def quick(
        self, gradient: torch.Tensor, kept: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        """The same, if the arrays are like those of the call before."""
        arrays = (gradient, *kept)
        held = arrays[: self.count]
        if not self.held.is_known(held) or not all(map(_address, held[1:])):
            return None
        return self.function(*arrays)


def joined(sources: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The parts of several programs that run one after the other."""
    return {
        part: "\n\n".join(text for one in sources if (text := one.get(part, ""))) for part in PARTS
    }


def build_kernels(pair: TrainingSchedules, known: Mapping[str, Any] = REUSING) -> Kernels:
    """Print, compile and load the functions of a pair.

    Arguments:
        pair: of a forward and its backward.
        known: what their source may call (runtime/load_python.py).
    """
    forward = print_torch(pair.forward, "forward")
    if pair.backward is None:
        functions = load_source(forward, known)
        return Kernels(functions["forward"], _no_backward, (), forward, parts=(forward,))
    parts = (forward, print_torch(pair.backward, "backward"))
    source = "\n\n".join(parts)
    functions = load_source(source, known)
    kept, plan = pair.forward.saved, pair.forward.plan
    return Kernels(
        functions["forward"],
        functions["backward"],
        pair.needed,
        source,
        len(kept),
        parts=parts,
        origins=pair.origins,
        saved_shapes=tuple(tuple(plan.axis_size((leg,)) for leg in one.legs) for one in kept),
    )


def _no_backward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Stands where no gradient is wanted."""
    msg = "this program was built without a backward"
    raise SpecError(msg)
