"""What a plan is wanted for, and the gradients that are wanted then."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from ..errors import SpecError
from ..graph.argument_checks import check_option, did_you_mean, dtype_name_of, shown
from ..graph.graph import Graph
from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..ir.backend_names import TORCH
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import Mask
from ..support.byte_counts import EXAMPLES, byte_count
from ..support.dtypes import DTYPES, WHOLE_DTYPES
from ..support.option_words import INFER, TRAIN, Effort, Objective
from ..targets.backend import Contest, contest_of, is_free
from ..targets.target import Machine, Target, target_for
from .refine_order import SsaPath

OBJECTIVES: tuple[Objective, ...] = (TRAIN, INFER)

# The search objective that stands for: several, ranked by the time model.
BY_TIME = "time"

# The batch size that plans are made for where the caller names none; no array has more entries
# than the largest.
DEFAULT_BATCH, MAX_BATCH = 256, 2**62

# Types of devices that plans and times are for, and what one of them is called elsewhere.
DEVICES = ("cpu", "cuda")
ALSO_CUDA = ("gpu", "nvidia", "rocm", "hip")
_DEVICE = r"([a-z][a-z0-9_]{0,31})(?::[0-9]{1,4})?"

EFFORTS: tuple[Effort, ...] = ("fast", "default", "high")


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is wanted for; most arguments are those of :func:`tnlayer.plan`.

    Arguments:
        batch: samples of a call. Requests that differ in it alone are equal: whoever looks up what
            was found for one has the batch sizes beside it.
        objective: "train" or "infer".
        device: "cpu" or "cuda".
        memory_limit: bytes that forward and backward may allocate beyond x, y, the parameters and
            their gradients; None: no limit. What a user writes as text, "512MiB", becomes a number.
        effort: "fast", "default" or "high".
        dtype: of the arithmetic; "" for the usual one of a network, float32 or complex64.
        minimize: "time", or one search objective whose tree is taken as it is; "path" for that of
            ``path``.
        backend: the name of the one that was asked for, which says what competes with it, or
            "auto" for the fastest of all and of mixtures.
        cpu, gpu: what kernels are compiled for, one of them at most; None: they are not considered.
        keeps: whether the forward may keep values for the backward beside a memory limit: not where
            the backwards of several networks stand between.
        adds: whether beside a memory limit y and the gradients of the inputs are those of networks
            that ran before, and what this one gives is added to them.
        path: an order of the user's, as pairs of the canonical network's terms (given_path.py).
    """

    batch: int = field(default=DEFAULT_BATCH, compare=False)
    objective: Objective = TRAIN
    device: str = "cpu"
    memory_limit: int | None = None
    effort: Effort = "default"
    dtype: str = ""
    minimize: str = BY_TIME
    backend: str = TORCH
    cpu: Cpu | None = None
    gpu: Gpu | None = None
    keeps: bool = True
    adds: bool = False
    path: SsaPath = ()

    def checked(self, graph: Graph) -> Request:
        """The request for a network, with a dtype, and without what its device cannot use.

        Raises:
            SpecError: an option is unknown, or the dtype is real and the network complex.
        """
        check_option(self.objective, "objective", OBJECTIVES)
        check_option(self.effort, "effort", EFFORTS)
        batch, limit = self.batch, self.memory_limit
        if not (_is_int(batch) and 1 <= batch <= MAX_BATCH):
            msg = (
                f"batch={shown(batch)}: expected an int from 1 to {MAX_BATCH}, the batch size to "
                "plan for"
            )
            raise SpecError(msg)
        if limit is not None and not (_is_int(limit) and limit >= 0):
            msg = (
                f"memory_limit={shown(limit)}: expected a whole number of bytes, text such as "
                "'512MiB', or None"
            )
            raise SpecError(msg)
        if self.dtype:
            dtype_option(self.dtype)
        if _type_of_device(self.device) != self.device:
            msg = f"device={self.device!r}: expected a type of device, without a number"
            raise SpecError(msg)
        if not isinstance(self.minimize, str):
            msg = f"minimize={shown(self.minimize)}: expected a string"
            raise SpecError(msg)
        return replace(
            self,
            dtype=arithmetic_of((graph,), self.dtype) or "float32",
            cpu=self.cpu if self.device == "cpu" else None,
            gpu=self.gpu if self.device == "cuda" else None,
        )

    @property
    def is_free(self) -> bool:
        """Whether no backend was asked for by name."""
        return is_free(self.backend)

    def contest(self) -> Contest:
        """Which plans compete."""
        return contest_of(self.backend, self.device, Machine(self.cpu, self.gpu))

    def target(self) -> Target:
        """What plans are lowered for."""
        return target_for(self.dtype, self.device, self.cpu, self.gpu)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def memory_option(limit: int | str | None) -> int | None:
    """A user's ``memory_limit`` in bytes: 1000000 of "1MB".

    Raises:
        SpecError: it is text that is no number of bytes.

    >>> memory_option("512MiB"), memory_option(None)
    (536870912, None)
    """
    if not isinstance(limit, str):
        return limit
    found = byte_count(limit)
    if found is None:
        msg = f"memory_limit={shown(limit)}: expected a number of bytes, such as {EXAMPLES}"
        raise SpecError(msg)
    return found


def dtype_option(dtype: object) -> str:
    """What a user's ``dtype`` is in a request: "" where none is named.

    Arguments:
        dtype: a name, such as "float32", a torch or a numpy dtype, or None.

    Raises:
        SpecError: it is no dtype that is supported.
    """
    if dtype is None:
        return ""
    name = dtype_name_of(dtype)
    if name in DTYPES:
        return name
    hint = did_you_mean(name, DTYPES)
    if name in WHOLE_DTYPES:
        hint = f"; an input may have it: net.port('x', dtype={name!r})"
    msg = (
        f"dtype={shown(dtype)} is not supported{hint}; expected one of {', '.join(DTYPES)}, "
        "as a name or as torch has it"
    )
    raise SpecError(msg)


def arithmetic_of(graphs: Iterable[Graph], dtype: str) -> str:
    """The dtype of the arithmetic of networks whose results are added.

    Arguments:
        graphs: the networks.
        dtype: the one that is asked for, or "".

    Returns: it; where none is asked for "complex64" if a network is complex, or "".

    Raises:
        SpecError: it is real and a network is complex: imaginary parts would be dropped.
    """
    graph = next((graph for graph in graphs if graph.is_complex), None)
    if graph is None or (dtype and DTYPES[dtype].is_complex):
        return dtype
    if not dtype:
        return "complex64"
    wide = (one.name for one in DTYPES.values() if one.is_complex and one.part == dtype)
    msg = (
        f"dtype={dtype} is real, but {_what_is_complex(graph)}; use "
        f"dtype={next(wide, 'complex64')!r}"
    )
    raise SpecError(msg)


def _what_is_complex(graph: Graph) -> str:
    where = f"of network {shown(graph.label)}" if graph.label else "of the network"
    for tensor in graph.tensors:
        if tensor.value is not None and tensor.value.array.dtype.kind == "c":
            return f"tensor {tensor.name!r} {where} has complex values"
    for port in graph.inputs:
        if port.dtype and port.dtype in DTYPES and DTYPES[port.dtype].is_complex:
            return f"input {port.name!r} {where} is of {port.dtype}"
    msg = f"{graph!r} is not complex"
    raise AssertionError(msg)


def device_option(device: object) -> str:
    """The type of device in a user's ``device``: "cuda" of "cuda:1", for plans are for a type.

    Raises:
        SpecError: it names none that times are known of.
    """
    found = _type_of_device(device)
    if found not in DEVICES:
        meant = "cuda" if found in ALSO_CUDA else next(iter(_near(found)), "")
        hint = f"; did you mean {meant}?" if meant else ""
        msg = f"device={shown(device)} is unknown: expected {' or '.join(DEVICES)}{hint}"
        raise SpecError(msg)
    return found


def _near(name: str) -> list[str]:
    return difflib.get_close_matches(name, DEVICES, n=1)


def _type_of_device(device: object) -> str:
    """The type of device in a name, with or without a number.

    Raises:
        SpecError: it is no name of a device.
    """
    name = str(device) if isinstance(device, torch.device) else device
    found = re.fullmatch(_DEVICE, name) if isinstance(name, str) else None
    if found is None:
        msg = (
            f"device={shown(device)}: expected the name of a type of device, 'cpu' or 'cuda', with "
            "or without a number"
        )
        raise SpecError(msg)
    return found[1]


def training_mask(graph: Graph, plan: Plan) -> Mask:
    """Wanted gradients of a training step: every input but whole numbers, every trainable
    parameter."""
    nodes = graph.nodes
    trainable = (nodes[value.name].trainable for value in plan.parameters)
    return (*(not port.is_whole for port in graph.inputs), *trainable)


def wanted_mask(graph: Graph, plan: Plan, objective: str) -> Mask:
    """Wanted gradients for an objective: none at all for "infer"."""
    mask = training_mask(graph, plan)
    return mask if objective == TRAIN else (False,) * len(mask)
