"""What a backend is, and which there are: one class to implement, one registry by name.

The planner, the reports and the layer ask a backend what it can, costs, needs and says; none of
them knows which there are. Those of the package stand in backends/builtin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError
from ..graph.argument_checks import check_option, shown
from ..graph.graph import Graph
from ..ir import backend_names
from ..ir.backend_names import AUTO, TORCH
from ..ir.batch_range import BatchRange
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import Mask
from .lowered import Lowered
from .target import Machine, Target

# Steps that "auto" has compiled: a compiler takes about 0.05 s for each, forward and backward.
MOST_COMPILED = 500


@dataclass(frozen=True, slots=True)
class Contest:
    """Which plans compete where a backend, or "auto", was asked for.

    Arguments:
        kernels: the backend whose whole plans compete; None: none do.
        calls: whether torch's calls compete, and mixtures of both.
        beside: whether torch's calls only stand beside the kernels that were asked for: then few
            of their trees do.
        calls_factor: by how much torch's calls must win; None: each backend has its own handicap.
        one_kernel: whether one tree of the kernels serves all batch sizes.
        most_steps: steps beyond which kernels are left out; None: none are.
        streamed: backends on which plans of torch's calls compete, too.
    """

    kernels: Backend | None
    calls: bool
    beside: bool = False
    calls_factor: float | None = None
    one_kernel: bool = True
    most_steps: int | None = None
    streamed: tuple[Backend, ...] = ()

    def factor(self, backend: str) -> float:
        """What the predicted time of a plan is multiplied with when plans are compared."""
        found = backend_of(backend)
        if self.calls_factor is None:
            return found.handicap
        return 1.0 if found.is_compiled else self.calls_factor


@dataclass(frozen=True, slots=True)
class Build:
    """How a program is built.

    Arguments:
        limit: bytes of the memory limit; None: none.
        device: type of the device that the plan is for.
        arch: what CUDA kernels are built for; None: the device of the arrays of a call.
        tensor_cores: precision of products on tensor cores; None: none are used.
    """

    limit: int | None = None
    device: str = "cpu"
    arch: str | None = None
    tensor_cores: str | None = None


class Backend(ABC):
    """One way to run plans. A new one needs ``name``, ``lower`` and ``program``, and `register`."""

    name: str

    # -- what others need to know of it ----------------------------------------------------

    # Whether its plans are whole kernels; torch's calls are not.
    is_compiled = True
    # Whether a user can ask for it by name.
    can_be_asked = True
    # Whether TNLAYER_BACKEND may name it to stand for "auto".
    stands_for_auto = False
    # The type of device that it runs on, and in words; None: any.
    device: str | None = None
    where = ""
    # Whether plans are made for its device wherever a layer lies now.
    moves_device = False
    # The type of device where "auto" considers its kernels, and whether torch may run what they
    # cannot be built for.
    auto_device: str | None = None
    may_use_torch = False
    # The type of device where plans of torch's calls that it can run compete on it, too, wherever
    # kernels do.
    streams_on: str | None = None
    # Where plans of several backends are compared its time is multiplied with this.
    handicap = 1.0
    # Search objectives of its trees: kernels write no intermediates, so few FLOPs and steps win.
    objectives: tuple[str, ...] = ("combo-4", "flops", "combo-64")
    # Whether a layer that asks for it has one plan for all batch sizes.
    one_plan = False
    # Whether it runs all of a plan that was asked for, whatever that costs.
    runs_alone = True
    # Whether a call makes arrays of the size of the batch beside y.
    keeps_values = True
    # Whether programs are built for an architecture, and can use tensor cores.
    takes_arch = False
    has_tensor_cores = False
    # Whether it keeps a memory limit; if not, why.
    why_no_limit = ""
    # Said in explain() where it runs something.
    notes: tuple[str, ...] = ()
    # That one of them which holds until the kernels of a call are built.
    until_built = ""
    # Said in explain() where it was asked for and torch's calls were taken.
    beaten = ""

    # -- planning --------------------------------------------------------------------------

    @abstractmethod
    def lower(self, plan: Plan, mask: Mask, target: Target) -> Lowered:
        """Forward and backward of a plan, as a value.

        Arguments:
            plan: a forward plan.
            mask: for each input of the plan, whether its gradient is wanted.
            target: what for.
        """

    def start_seconds(self, mask: Mask, target: Target) -> float:
        """What the calls of a span cost before any work is done."""
        del mask, target
        return 0.0

    def contest(self) -> Contest:
        """What competes where it was asked for by name."""
        return Contest(self, calls=False, one_kernel=False)

    def key(self, target: Target) -> str:
        """What its choice of plans depends on beside the profile, for the key of a stored plan."""
        del target
        return ""

    # -- batch sizes -----------------------------------------------------------------------

    def made_for(self, batch: int) -> int:
        """The batch size that stands for all with the same code."""
        del batch
        return 1

    def serves(self, batch: int) -> BatchRange:
        """The batch sizes that code made for one serves."""
        del batch
        return BatchRange()

    # -- building --------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to be asked for where it cannot be built.

        Raises:
            BuildError: says what is missing.
        """
        return

    def is_checked(self) -> bool:
        """Whether ``check`` answers at once."""
        return True

    def check_arch(self, arch: str) -> None:
        """Refuse an architecture that it does not build for; called where ``takes_arch``."""
        del arch

    def machine(self, arch: str | None = None) -> Machine:
        """What it compiles for here.

        Arguments:
            arch: as the user named it.

        Raises:
            BuildError: nothing can be compiled.
        """
        del arch
        return Machine()

    def usual_machine(self) -> Machine:
        """What it would compile for if it could be built here."""
        return self.machine()

    @abstractmethod
    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> Any:
        """The Program (runtime/program.py) of a plan that it runs as a whole.

        Arguments:
            graph: the network.
            lowered: the plan as it was lowered by this backend.
            tensor_names: canonical name of each parameter of the graph.
            build: how it is built.

        Raises:
            BuildError: it cannot run the plan.
        """

    def program_as_asked(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> Any:
        """The Program of the plan that was found where it was asked for by name."""
        return self.program(graph, lowered, tensor_names, build)


_REGISTERED: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Let a backend be asked for by its name.

    Raises:
        SpecError: the name is none, or is taken by another backend.
    """
    name = backend.name
    known = _REGISTERED.get(name)
    is_taken = known is not None and type(known) is not type(backend)
    if is_taken or name == AUTO or not backend_names.is_name(name):
        msg = (
            f"backend name {shown(name)}: expected a lowercase word that no other backend has, of "
            f"{', '.join(_REGISTERED)}"
        )
        raise SpecError(msg)
    if backend.can_be_asked:  # else it runs no region by itself
        backend_names.add(name)
    _REGISTERED[name] = backend


def unregister(name: str) -> None:
    """Forget a backend that was registered."""
    _REGISTERED.pop(name, None)
    backend_names.remove(name)


def backend_of(name: str) -> Backend:
    """The backend of that name, as a plan's regions have it.

    Raises:
        SpecError: none has it.
    """
    found = _REGISTERED.get(name)
    if found is None:
        msg = f"backend {shown(name)} is not registered here; known are {', '.join(_REGISTERED)}"
        raise SpecError(msg)
    return found


def asked_backend(name: str) -> Backend | None:
    """The backend that was asked for by name; None where the choice is free ("auto")."""
    return None if is_free(name) else backend_of(name)


def is_free(name: str) -> bool:
    """Whether a choice of backend is left to the planner."""
    return name == AUTO


def calls_backend() -> Backend:
    """Torch's calls: they run every plan, on every device."""
    return backend_of(TORCH)


def option_names() -> tuple[str, ...]:
    """What the option ``backend`` may be."""
    return (AUTO, *(name for name, one in _REGISTERED.items() if one.can_be_asked))


def check_option_name(name: object) -> str:
    """What the option ``backend`` is.

    Raises:
        SpecError: it is unknown, or nobody can ask for it.
    """
    known = _REGISTERED.get(name) if isinstance(name, str) else None
    if known is not None and not known.can_be_asked:
        msg = (
            f"backend={shown(name)} cannot be asked for: backend={AUTO!r} takes it where it is "
            f"predicted to be the fastest; expected one of {', '.join(option_names())}"
        )
        raise SpecError(msg)
    return check_option(name, "backend", option_names())


def auto_names() -> tuple[str, ...]:
    """What TNLAYER_BACKEND may be."""
    return (AUTO, *(name for name, one in _REGISTERED.items() if one.stands_for_auto))


def auto_kernels(device: str) -> Backend | None:
    """The backend whose kernels "auto" considers on a type of device."""
    return next((one for one in _REGISTERED.values() if one.auto_device == device), None)


def contest_of(asked: str, device: str, machine: Machine) -> Contest:
    """What competes for a plan.

    Arguments:
        asked: a backend's name, or "auto".
        device: type of the device.
        machine: what kernels can be compiled for.
    """
    backend = asked_backend(asked)
    if backend is not None:
        return backend.contest()
    if machine == Machine():
        return Contest(None, calls=True)
    streamed = tuple(one for one in _REGISTERED.values() if one.streams_on == device)
    kernels = auto_kernels(device)
    return Contest(kernels, calls=True, most_steps=MOST_COMPILED, streamed=streamed)


def lower(plan: Plan, mask: Mask, target: Target) -> Lowered:
    """A plan lowered by the backend of its regions."""
    return backend_of(plan.backend).lower(plan, mask, target)


def same_code(first: Lowered, second: Lowered) -> bool:
    """Whether two plans run the same code: the same calls, or the same kernels."""
    return first.backend == second.backend and first.code == second.code
