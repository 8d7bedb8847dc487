"""A CUDA translation unit: printed for an architecture, built, and loaded on each device."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from typing import Any

import torch

from ..codegen.cuda.source import CudaSource, Entry
from ..errors import BuildError
from ..hardware.gpu import Gpu, gpu_of
from ..runtime import cuda_devices
from ..support.debug import debug
from ..support.locks import Lock
from ..support.pick_items import picker
from .cuda_resources import Resources, read_ptxas
from .toolchains import cuda_driver
from .toolchains.nvrtc import Cubin, compile_cubin

# Vectors of 16 bytes are loaded and stored where rows allow it.
_ALIGNMENT = 16
# With so few threads on a multiprocessor each has all registers that a thread can have.
_LEAST_RESIDENT = 256
_LEAST_REGISTERS = 8
_address = torch.Tensor.data_ptr
_ARCH = re.compile(r"sm_(?P<major>\d+)(?P<minor>\d)(?P<only>[af]?)")


@dataclass(frozen=True, slots=True)
class Built:
    """A translation unit with its machine code."""

    source: CudaSource
    cubin: Cubin

    def resources(self) -> tuple[Resources, ...]:
        """What each kernel takes."""
        assembled = read_ptxas(self.cubin.log)
        found: list[Resources] = []
        for entry in self.source.entries:
            said = assembled.get(entry.name)
            if said is None:
                raise BuildError(f"ptxas says nothing of kernel {entry.name!r}; please report it")
            found.append(
                Resources(
                    name=entry.name,
                    registers=said.registers,
                    spill_bytes=said.spill_bytes,
                    stack_bytes=said.stack_bytes,
                    shared_bytes=said.static_bytes + entry.shared_bytes,
                    threads=entry.threads,
                    segments=self.source.segments if entry.grid == "persistent" else 0,
                )
            )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A unit on one device.

    Arguments:
        source: what its launches need.
        module: keeps the code loaded.
        functions: the entry points, in order of launch.
        most_blocks: of the persistent grid: as many as the device holds at once.
        pick: takes the arguments, in the order of ``source.arguments``, from a caller's arrays.
        rooms: for arguments; each launch takes one out, for another thread may launch meanwhile.
    """

    source: CudaSource
    module: Any
    functions: tuple[tuple[Any, Entry], ...]
    most_blocks: int
    pick: Callable[[Sequence[torch.Tensor]], tuple[torch.Tensor, ...]]
    rooms: list[cuda_driver.Arguments] = field(default_factory=list[cuda_driver.Arguments])

    def launch(self, arrays: Sequence[torch.Tensor], batch: int, device: int) -> bool:
        """Put the kernels into the current stream of the device, which is the current one.

        Arguments:
            arrays: inputs and outputs in the order of ``source.arguments``, dense.
            batch: rows of those that are batched.
            device: its number.

        Returns:
            False where nothing was launched, for an array that has entries has no address.
        """
        source = self.source
        groups = -(-batch // source.samples_per_block)
        blocks = max(1, min(groups, self.most_blocks))
        values = [*map(_address, arrays)]
        if not all(values):
            pairs = zip(values, source.arguments, strict=True)
            if batch or not all(value or argument.batched for value, argument in pairs):
                return False
        if reduce(or_, values) % _ALIGNMENT:
            # A view may begin anywhere; results are fresh memory.
            arrays = [*map(_aligned, arrays)]
            values = [*map(_address, arrays)]
        entries = source.call_entries + blocks * source.block_entries
        room = 0
        if entries:
            # torch hands the memory to others in the order of the stream only, so it may be dropped
            # as soon as the kernels are in the stream.
            memory = workspace(entries, getattr(torch, source.scalar), arrays[0].device)
            room = memory.data_ptr()
        values += room, batch, blocks
        try:
            arguments = self.rooms.pop()
        except IndexError:
            arguments = cuda_driver.Arguments(len(values))
        arguments.set(values)
        stream = cuda_devices.raw_stream(device)
        for function, entry in self.functions:
            grid = blocks if entry.grid == "persistent" else entry.blocks
            cuda_driver.launch(function, grid, entry.threads, entry.shared_bytes, stream, arguments)
        self.rooms.append(arguments)
        return True


def workspace(entries: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Memory for the blocks of a grid; benchmarks/gpu/guards.py puts guards around it."""
    return torch.empty(entries, dtype=dtype, device=device)


class Unit:
    """A translation unit that is built and loaded when a device first asks for it.

    Arguments:
        make: prints it for a GPU.
        arch: the only architecture that it is built for; None: that of each device.
        names: of the arrays of a call, in its order; those that the source lacks are left out.
    """

    def __init__(
        self, make: Callable[[Gpu], CudaSource], arch: str | None, names: Sequence[str]
    ) -> None:
        self.make, self.arch, self.names = make, arch, tuple(names)
        self._built: dict[str, Built] = {}
        self._loaded: dict[int, Loaded] = {}
        self._lock = Lock(reentrant=True)

    @property
    def is_built(self) -> bool:
        """Whether it was built for some architecture."""
        return bool(self._built)

    def source(self, arch: str | None = None) -> CudaSource:
        """The text, for an architecture; by default the unit's, else the current device's.

        Building may find that it spills; then, once it is built, the text is another one.
        """
        arch = self._arch(arch)
        with self._lock:
            built = self._built.get(arch)
        return self.make(gpu_of(arch)) if built is None else built.source

    def built(self, arch: str | None = None) -> Built:
        """The machine code, for an architecture; as for ``source``."""
        arch = self._arch(arch)
        with self._lock:
            if arch not in self._built:
                self._built[arch] = self._build(arch)
            return self._built[arch]

    def _build(self, arch: str) -> Built:
        """Build; where registers spill, again for fewer threads with more registers each."""
        device = gpu_of(arch)
        while True:
            source = self.make(device)
            built = Built(source, compile_cubin(source.text, arch))
            said = read_ptxas(built.cubin.log).values()
            if not any(one.spill_bytes for one in said):
                return built
            if device.resident > _LEAST_RESIDENT:
                device = replace(device, resident=device.resident // 2)
            elif device.registers > _LEAST_REGISTERS:  # threads hold less, in more segments
                device = replace(device, registers=device.registers // 2)
            else:
                return built
            debug(1, f"registers spill: built again for {device}")

    def _arch(self, arch: str | None) -> str:
        return arch or self.arch or cuda_devices.arch_of(cuda_devices.current_gpu())

    def on(self, device: int) -> Loaded:
        """The unit on a device, which is the current one; its context is bound.

        Raises:
            BuildError: it cannot be built, does not run on the device, or a graph is captured.
        """
        loaded = self._loaded.get(device)
        if loaded is None:
            with self._lock:
                if device not in self._loaded:
                    self._loaded[device] = self._load(device)
                loaded = self._loaded[device]
        return loaded

    def _load(self, device: int) -> Loaded:
        if cuda_devices.is_capturing():
            msg = (
                "a CUDA graph is captured, and kernels cannot be loaded meanwhile: run the same "
                "step once before the capture. layer.prepare() is enough if the inputs want "
                "gradients as well; each set of wanted gradients has a backward of its own"
            )
            raise BuildError(msg)
        own = cuda_devices.arch_of(device)
        arch = self.arch or own
        if not runs_on(arch, own):
            msg = (
                f"kernels built for arch={arch!r} do not run on CUDA device {device}, which is "
                f"{own}; compile with arch={own!r}, or without arch="
            )
            raise BuildError(msg)
        built = self.built(arch)
        module = cuda_driver.load_module(built.cubin.binary)
        functions: list[tuple[Any, Entry]] = []
        most = 1  # of a unit that no sample goes through
        for entry in built.source.entries:
            function = cuda_driver.find_function(module, entry.name, entry.shared_bytes)
            functions.append((function, entry))
            if entry.grid == "persistent":
                held = cuda_driver.resident_blocks(
                    function, entry.threads, entry.shared_bytes, cuda_devices.shared_bytes(device)
                )
                most = held * cuda_devices.multiprocessors(device)
        if most < 1:
            msg = (
                f"a kernel for {arch} has no room on CUDA device {device} ({own}); please report it"
            )
            raise BuildError(msg)
        pick = picker([self.names.index(argument.name) for argument in built.source.arguments])
        return Loaded(built.source, module, tuple(functions), most, pick)

    def load(self, device: int) -> Loaded:
        """Build and load the unit for a device, before a CUDA graph is captured, say."""
        with cuda_devices.on_device(device):
            cuda_driver.bind_context(device)
            return self.on(device)

    def __call__(self, arrays: Sequence[torch.Tensor], batch: int) -> bool:
        """Run the kernels on the device of the arrays; see :meth:`Loaded.launch`.

        Arguments:
            arrays: in the order of ``names``, dense.
            batch: rows of those that are batched.
        """
        device = cuda_devices.device_of(arrays[0])
        with cuda_devices.on_device(device):
            cuda_driver.bind_context(device)
            loaded = self.on(device)
            return loaded.launch(loaded.pick(arrays), batch, device)


def runs_on(arch: str, device: str) -> bool:
    """Whether machine code for an architecture runs on a device: same generation, none newer.

    >>> runs_on("sm_80", "sm_86"), runs_on("sm_80", "sm_90"), runs_on("sm_90a", "sm_90")
    (True, False, True)
    """
    built, own = _ARCH.fullmatch(arch), _ARCH.fullmatch(device)
    if built is None or own is None or built["major"] != own["major"]:
        return False
    if built["only"] == "a":
        return built["minor"] == own["minor"]
    return int(built["minor"]) <= int(own["minor"])


def _aligned(array: torch.Tensor) -> torch.Tensor:
    """A dense array where kernels may load runs of 16 bytes."""
    return array if array.data_ptr() % _ALIGNMENT == 0 else array.clone()


def dense(array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Entries in a row, and as they are meant: no lazy conjugate or negative, and memory
    for torch's zeros that have none."""
    if array._is_zerotensor():
        return torch.zeros(array.shape, dtype=dtype, device=array.device)
    if (
        array.dtype is dtype
        and array.is_contiguous()
        and not array.is_neg()
        and not array.is_conj()
    ):
        return array
    return array.to(dtype).resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
