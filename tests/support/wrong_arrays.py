"""Tries wrong arrays on every route by which an address reaches a kernel; a process of its own.

    python -m tests.support.wrong_arrays cpp        (or torch, auto, mixed, streamed, cuda)

Arrays end before a page that nobody may touch, and so do those that the kernels fill. Trials run in
a fork: what reads or writes behind an array ends that process by a signal, and the others run in
another one. A line a trial: its name, a tab, and what came of it: "right", "refused SpecError:
...", "signal 11", "wrong ...". The name begins with what must come.
"""

from __future__ import annotations

import copy
import ctypes
import mmap
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import tnlayer as tn
from tests.support import each_backend, emulated
from tests.support.streamed_cases import streamed
from tnlayer import topologies
from tnlayer.backends.mixed_program import MixedProgram
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.cuts import batched_steps
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.nn.padded import Padded

Trial = Callable[[], str]
IN, OUT, BATCH = 64, 64, 5
_libc = ctypes.CDLL(None, use_errno=True)
_empty, _empty_like = torch.empty, torch.empty_like
_kept: list[mmap.mmap] = []


# -- arrays before a page that nobody may touch ------------------------------------------------


def room(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    """An array whose last byte is the last one of a page; the next page may not be touched."""
    count = 1
    for size in shape:
        count *= size
    size = count * dtype.itemsize
    page = mmap.PAGESIZE
    whole = -(-size // page) * page
    memory = mmap.mmap(-1, whole + page)
    _kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert _libc.mprotect(ctypes.c_void_p(start + whole), page, 0) == 0
    if not size:
        return _empty(shape, dtype=dtype)
    flat = torch.frombuffer(memory, dtype=dtype, count=count, offset=whole - size)
    return flat.view(tuple(shape))


def guarded(array: torch.Tensor) -> torch.Tensor:
    """The same entries before such a page."""
    array = array.detach()
    return room(array.shape, array.dtype).copy_(array)


def guard_results() -> None:
    """Let what torch allocates for the package's kernels end before such a page."""

    def empty(*shape: Any, **options: Any) -> torch.Tensor:
        if options.get("device", "cpu") not in ("cpu", torch.device("cpu")):
            return _empty(*shape, **options)
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return room(sizes, options.get("dtype") or torch.get_default_dtype())

    def empty_like(array: torch.Tensor, **options: Any) -> torch.Tensor:
        if options or not array.is_cpu or type(array) not in (torch.Tensor, nn.Parameter):
            return _empty_like(array, **options)
        return room(array.shape, array.dtype)

    torch.empty, torch.empty_like = empty, empty_like


# -- layers and what is right ------------------------------------------------------------------


def net() -> tn.Network:
    """A tensor train."""
    made = topologies.tensor_train((4, 4, 4), (4, 4, 4), (3, 2))
    return made


def constant_net() -> tn.Network:
    """A constant on the way: a buffer."""
    made = tn.Network("constant")
    made.input(i=IN)
    made.output(j=OUT)
    made.bond(a=4, b=4)
    made.tensor("first", "i a")
    made.tensor("constant", "a b", value=torch.eye(4).add(0.5).numpy(), trainable=False)
    made.tensor("last", "b j")
    return made


def fill(layer: tn.Layer) -> tn.Layer:
    """All arrays before pages that may not be touched."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            wanted = parameter.requires_grad
            layer._parameters[name] = nn.Parameter(guarded(parameter), wanted)
        for name, array in layer.named_buffers():
            layer._buffers[name] = guarded(array)
    return layer


def reference(layer: tn.Layer, x: torch.Tensor) -> torch.Tensor:
    """y in float64, by torch."""
    exact = tn.Layer(layer.graph, bias=True, backend="torch", dtype=torch.float64)
    state = {name: array.detach().double() for name, array in layer.state_dict().items()}
    exact.load_state_dict(state)
    with torch.no_grad():
        return exact(x.detach().double())


def compared(found: torch.Tensor, expected: torch.Tensor) -> str:
    """ "right", or how far off."""
    error = (found.detach().double() - expected).abs().max().item()
    return "right" if error < 1e-3 else f"wrong by {error:.3g}"


# -- what is wrong with an array ---------------------------------------------------------------


def truncated(array: torch.Tensor) -> torch.Tensor:
    """An array whose storage lost its second half."""
    made = array.detach().clone()
    made.untyped_storage().resize_(made.untyped_storage().nbytes() // 2)
    return made


def freed(array: torch.Tensor) -> torch.Tensor:
    """An array whose storage was given back, as sharded modules do."""
    made = array.detach().clone()
    made.untyped_storage().resize_(0)
    return made


def turned(array: torch.Tensor) -> torch.Tensor:
    """As many entries in another order of axes."""
    dims = tuple(reversed(range(array.dim())))
    return guarded(array.permute(dims).contiguous())


WRONG: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "one entry": lambda a: guarded(torch.ones(1)),
    "no axes": lambda a: guarded(torch.ones(())),
    "flat": lambda a: guarded(a.reshape(-1, 1)),
    "turned": turned,
    "shorter": lambda a: guarded(a[:1]),
    "longer": lambda a: guarded(torch.cat([a, a])),
    "another axis": lambda a: guarded(a[None]),
    "double": lambda a: guarded(a.double()),
    "half": lambda a: guarded(a.half()),
    "complex": lambda a: guarded(a.to(torch.complex64)),
    "integers": lambda a: guarded(a.to(torch.int64)),
    "meta": lambda a: a.to("meta"),
    "truncated": truncated,
    "freed": freed,
}
# What lies otherwise and is right all the same.
UNUSUAL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "guarded": guarded,
    "strided": lambda a: torch.stack([a, a], -1)[..., 0],
    "permuted": lambda a: a.permute(*reversed(range(a.dim()))).contiguous().permute(
        *reversed(range(a.dim()))),
    "shifted": lambda a: torch.cat([torch.zeros(3), a.reshape(-1)])[3:].view(a.shape),
    "subclass": lambda a: a.clone().as_subclass(Marked),
    "parameter": lambda a: nn.Parameter(a.clone()),
    "negative": lambda a: torch._neg_view(-a),  # pyright: ignore
}  # fmt: skip


class Marked(torch.Tensor):
    """A class of a user's own."""


def data(layer: tn.Layer, name: str, array: torch.Tensor) -> None:
    layer._parameters[name].data = array  # type: ignore[union-attr]


def dictionary(layer: tn.Layer, name: str, array: torch.Tensor) -> None:
    layer._parameters[name] = nn.Parameter(array, array.is_floating_point())


def bare(layer: tn.Layer, name: str, array: torch.Tensor) -> None:
    layer._parameters[name] = array  # type: ignore[assignment]


def attribute(layer: tn.Layer, name: str, array: torch.Tensor) -> None:
    del layer._parameters[name]
    setattr(layer, name, array)


def assigned(layer: tn.Layer, name: str, array: torch.Tensor) -> None:
    state = {**layer.state_dict(), name: array}
    layer.load_state_dict(state, assign=True)


def buffer(layer: tn.Layer, name: str, array: torch.Tensor) -> None:
    del layer._parameters[name]
    layer.register_buffer(name, array)


WAYS = {"data": data, "_parameters": dictionary, "tensor in _parameters": bare,
        "attribute": attribute, "assign": assigned, "buffer": buffer}  # fmt: skip


# -- the trials --------------------------------------------------------------------------------


class Trials:
    """The trials for one backend.

    Arguments:
        backend: of the layer.
        make: makes the layer.
    """

    def __init__(self, backend: str, make: Callable[[], tn.Layer]) -> None:
        self.backend, self.make = backend, make
        self.layer = fill(make())
        self.x = guarded(torch.randn(BATCH, self.layer.in_features))
        self.names = ("core_0", "core_1", "bias")

    def warm(self) -> None:
        """A training step and a call without gradients: kernels are built, and the next call runs
        the short way."""
        x = self.x.clone().requires_grad_()
        self.layer(x).sum().backward()
        self.layer(self.x).sum().backward()
        with torch.no_grad():
            self.layer(self.x)
        self.layer.zero_grad()

    def called(self, *, fresh: bool = False) -> tn.Layer:
        """A layer that was called before, or that was not."""
        twin = fill(copy.deepcopy(self.layer))
        if not fresh:
            twin._fast = self.layer._fast
            assert twin._fast is not None and twin._fast(twin, (self.x,)) is not None
        return twin

    def step(self, layer: tn.Layer, x: torch.Tensor, mode: str) -> str:
        """Run a call of some kind; right or not."""
        if mode == "infer":
            with torch.no_grad():
                return compared(layer(x), reference(layer, x))
        y = layer(x)
        y.sum().backward()
        for name, parameter in layer.named_parameters():
            gradient = parameter.grad
            if gradient is None or gradient.shape != parameter.shape:
                return f"wrong gradient of {name}"
        return compared(y, reference(layer, x))

    def __iter__(self) -> Iterator[tuple[str, Trial]]:
        yield from self.stored()
        yield from self.inputs()
        yield from self.between()
        yield from self.hooks()
        yield from self.slopes()

    def stored(self) -> Iterator[tuple[str, Trial]]:
        """Stored arrays, swapped in every way, before and after a call that was checked."""
        for mode in ("infer", "train"):
            for fresh in (False, True):
                for name in self.names:
                    first = name == self.names[0]
                    kinds = WRONG if first else dict.fromkeys(("one entry", "turned", "freed"))
                    for kind in kinds:
                        if name == "bias" and kind == "turned":
                            continue  # of one axis
                        ways = (
                            WAYS if first and kind in ("one entry", "turned") else ("_parameters",)
                        )
                        for way in ways:
                            yield self.swapped(mode, fresh, name, kind, way)
                        if kind in ("one entry", "turned", "freed"):
                            yield self.functional(mode, fresh, name, kind)
                for kind in UNUSUAL:
                    if kind != "subclass" or mode == "infer":
                        yield self.unusual(mode, fresh, kind)

    def swapped(self, mode: str, fresh: bool, name: str, kind: str, way: str) -> tuple[str, Trial]:
        """One array is swapped before a call."""

        def trial() -> str:
            layer = self.called(fresh=fresh)
            array = WRONG[kind](layer.get_parameter(name))
            with torch.no_grad():
                WAYS[way](layer, name, array)
            return self.step(layer, self.x, mode)

        # torch compares shapes when it loads a state, and reads truncated storage itself.
        late = way == "assign" or (kind == "truncated" and not fresh)
        begin = "torch" if late else "refused"
        return f"{begin}: {mode}, fresh={fresh}, {name} {kind} by {way}", trial

    def functional(self, mode: str, fresh: bool, name: str, kind: str) -> tuple[str, Trial]:
        def trial() -> str:
            layer = self.called(fresh=fresh)
            array = WRONG[kind](layer.get_parameter(name)).requires_grad_(mode == "train")
            with torch.set_grad_enabled(mode == "train"):
                y = torch.func.functional_call(layer, {name: array}, (self.x,))
            if mode == "train":
                torch.autograd.grad(y.sum(), array)
            return "wrong: accepted"

        return f"refused: {mode}, fresh={fresh}, {name} {kind} by functional_call", trial

    def unusual(self, mode: str, fresh: bool, kind: str) -> tuple[str, Trial]:
        def trial() -> str:
            layer = self.called(fresh=fresh)
            for name in self.names[:2]:
                made = UNUSUAL[kind](layer.get_parameter(name).detach())
                layer._parameters[name] = (  # pyright: ignore[reportArgumentType]
                    made if isinstance(made, Marked) else nn.Parameter(made.detach())
                )
            return self.step(layer, self.x, mode)

        return f"right: {mode}, fresh={fresh}, cores {kind}", trial

    def inputs(self) -> Iterator[tuple[str, Trial]]:
        """x itself."""
        for mode in ("infer", "train"):
            for fresh in (False, True):
                for kind, change in {**WRONG, **UNUSUAL}.items():
                    allowed = kind in UNUSUAL or kind in ("shorter", "longer", "another axis")

                    def trial(
                        fresh: bool = fresh,
                        mode: str = mode,
                        change: Callable[[torch.Tensor], torch.Tensor] = change,
                    ) -> str:
                        return self.step(self.called(fresh=fresh), change(self.x), mode)

                    begin = "right" if allowed else "refused"
                    yield f"{begin}: {mode}, fresh={fresh}, x {kind}", trial

    def between(self) -> Iterator[tuple[str, Trial]]:
        """Arrays that are swapped between forward and backward."""
        for again in (False, True):
            for kind in ("one entry", "turned", "shorter", "freed", "meta", "truncated"):
                for name in (*self.names[:2], "x"):

                    def trial(kind: str = kind, name: str = name, again: bool = again) -> str:
                        layer = self.called()
                        for one in self.names[:2]:  # storage that can be resized
                            layer.get_parameter(one).data = layer.get_parameter(one).data.clone()
                        x = self.x.clone().requires_grad_()
                        y = layer(x)
                        array = x if name == "x" else layer.get_parameter(name)
                        if kind in ("freed", "truncated"):
                            storage = array.untyped_storage()
                            storage.resize_(0 if kind == "freed" else storage.nbytes() // 2)
                        else:
                            array.data = WRONG[kind](array)
                        leaves = [x, *(layer.get_parameter(n) for n in self.names[:2])]
                        torch.autograd.grad(y.square().sum(), leaves, create_graph=again)
                        return "wrong: accepted"

                    # torch refuses to set such data, and reads truncated storage itself.
                    theirs = kind in ("meta", "truncated") or (kind == "freed" and again)
                    begin = "torch" if theirs else "refused"
                    yield f"{begin}: backward, again={again}, {name} {kind}", trial

    def hooks(self) -> Iterator[tuple[str, Trial]]:
        """Hooks for saved tensors that give back something else."""
        kinds = {**WRONG, **UNUSUAL}
        for kind, change in kinds.items():

            def trial(change: Callable[[torch.Tensor], torch.Tensor] = change) -> str:
                layer, x = self.called(), self.x.clone().requires_grad_()
                core, turn = layer.get_parameter("core_1"), [0]

                def unpack(array: torch.Tensor) -> torch.Tensor:
                    if array.shape == core.shape:
                        turn[0] += 1
                        return change(array)
                    return array

                expected = torch.autograd.grad(layer(x).square().sum(), x)[0]
                hooks = torch.autograd.graph.saved_tensors_hooks(lambda a: a.detach(), unpack)
                with hooks:
                    y = layer(x)
                found = torch.autograd.grad(y.square().sum(), x)[0]
                assert turn[0], "the hook was never asked"
                return compared(found, expected.double())

            begin = "refused" if kind in WRONG else "right"
            if kind in ("double", "half", "integers", "complex"):
                begin = "rounded"  # copied to the dtype, or torch's own error
            if kind in ("truncated", "subclass") or (kind == "freed" and self.backend == "torch"):
                begin = "torch"
            yield f"{begin}: hook gives back {kind}", trial

    def slopes(self) -> Iterator[tuple[str, Trial]]:
        """Gradients of y of other shapes, dtypes and strides."""
        good: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            **UNUSUAL,
            "expanded": lambda a: a[:1].expand(a.shape),
            "scalar": lambda a: torch.ones(()).expand(a.shape),
            "zeros": lambda a: torch._efficientzerotensor(a.shape),  # pyright: ignore
        }
        for kind, change in {**WRONG, **good}.items():

            def trial(change: Callable[[torch.Tensor], torch.Tensor] = change) -> str:
                layer, x = self.called(), self.x.clone().requires_grad_()
                slope = change(guarded(torch.randn(BATCH, layer.out_features)))
                (found,) = torch.autograd.grad(layer(x), x, slope)
                meant = torch.zeros(BATCH, layer.out_features).add_(slope)
                return compared(found, (meant @ layer.to_dense()).double())

            begin = "right" if kind in good else "torch"
            yield f"{begin}: gradient of y {kind}", trial


def more(backend: str, layer: tn.Layer) -> Iterator[tuple[str, Trial]]:
    """Programs, Padded, sums, tune(), to_dense() and kernels called by hand."""
    x = guarded(torch.randn(BATCH, IN))
    good = {name: p.detach() for name, p in layer.named_parameters() if name != "bias"}
    (ranged,) = layer._programs_for(layer.dtype)
    program = ranged.at(BATCH)
    mask = program.training_mask()

    def call(changes: dict[str, torch.Tensor], wanted: bool) -> str:
        arrays = {k: v.clone().requires_grad_(wanted and v.is_floating_point()) for k, v in
                  {**good, **changes}.items()}  # fmt: skip
        y = program(x, parameters=arrays)
        if wanted:
            torch.autograd.grad(y.sum(), arrays["core_1"])
        return "wrong: accepted"

    for wanted in (False, True):
        for kind in ("one entry", "flat", "turned", "shorter", "longer", "complex", "meta"):
            array = WRONG[kind](good["core_1"])
            yield (
                f"refused: program, wanted={wanted}, core_1 {kind}",
                lambda array=array, wanted=wanted: call({"core_1": array}, wanted),
            )

    def kernels(kind: str, place: int, backward: bool) -> str:
        arrays = [x, *(good[name] for name in program.parameter_order)]
        found = program.kernels(mask)
        slope = guarded(torch.randn(BATCH, OUT))
        if not backward:
            arrays[place] = WRONG[kind](arrays[place])
            found.forward(*arrays)
            return "wrong: accepted"
        _, *saved = found.forward(*arrays)
        given = [slope, *(arrays[k] for k in found.needed)]
        given[place] = WRONG[kind](given[place])
        found.backward(*given, *saved)
        return "wrong: accepted"

    if program.checks_addresses or backend == "mixed":
        for kind in ("one entry", "flat", "turned", "meta", "freed", "truncated"):
            for place in (1, 2):
                yield (
                    f"refused: forward by hand, {place} {kind}",
                    lambda kind=kind, place=place: kernels(kind, place, False),
                )
    for kind in ("one entry", "shorter", "turned", "meta", "freed"):
        for place in (0, 1, 2):
            if kind in ("shorter", "turned") and place == 0:
                kind = "flat"
            theirs = backend in ("torch", "mixed") and kind == "freed"
            yield (
                f"{'torch' if theirs else 'refused'}: backward by hand, {place} {kind}",
                lambda kind=kind, place=place: kernels(kind, place, True),
            )

    def method(name: str, kind: str) -> str:
        twin = copy.deepcopy(layer)
        twin._parameters["core_1"] = nn.Parameter(WRONG[kind](good["core_1"]))
        getattr(twin, name)(*((x,) if name == "tune" else ()))
        return "wrong: accepted"

    for name in ("to_dense", "tune", "reset_parameters"):
        for kind in ("one entry", "turned", "freed"):
            yield f"refused: {name}() core_1 {kind}", lambda n=name, k=kind: method(n, k)

    def padded(name: str) -> str:
        made = Padded(layer.graph, IN - 3, OUT - 5, bias=True, backend=BACKEND_OF[backend])
        short = guarded(torch.randn(BATCH, IN - 3))
        with torch.no_grad():
            made(short)
            made._parameters[name] = nn.Parameter(WRONG["one entry"](torch.ones(1)))
            made(short)
        return "wrong: accepted"

    for name in ("bias", "core_1"):
        yield f"refused: Padded {name} one entry", lambda name=name: padded(name)

    def unequal(wanted: bool) -> str:
        two = tn.Network("two")
        two.input("x", {"i": IN})
        two.input("z", {"k": IN})
        two.output(j=OUT)
        two.bond(a=4, b=4)
        two.tensor("A", "i a")
        two.tensor("B", "k b")
        two.tensor("C", "a b j")
        own = tn.compile(two, backend="torch" if backend == "mixed" else BACKEND_OF[backend])
        arrays = {p.name: guarded(torch.randn(p.shape)).requires_grad_(wanted)
                  for p in own.graph.parameters}  # fmt: skip
        own(x, guarded(torch.randn(2, IN)), parameters=arrays)
        return "wrong: accepted"

    for wanted in (False, True):
        yield f"refused: program, batches of 5 and 2, {wanted}", lambda w=wanted: unequal(w)

    def constant() -> str:
        own = fill(tn.Layer(constant_net(), bias=True, backend=BACKEND_OF[backend]))
        with torch.no_grad():
            own(x)
            if compared(own(x), reference(own, x)) != "right":
                return "wrong"
            own._buffers["constant"] = guarded(torch.ones(1))
            own(x)
        return "wrong: accepted"

    yield "refused: buffer one entry", constant


# -- running them ------------------------------------------------------------------------------


BACKEND_OF = {
    "torch": "torch",
    "cpp": "cpp",
    "auto": "auto",
    "mixed": "auto",
    "streamed": "auto",
    "cuda": "cuda",
}


def run_all(trials: Sequence[tuple[str, Trial]]) -> Iterator[tuple[str, str]]:
    """Name and outcome of each, in processes of their own; one that dies is followed by another."""
    at = 0
    while at < len(trials):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            for _, trial in trials[at:]:
                os.write(write, (outcome(trial).replace("\n", " ")[:2000] + "\n").encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            for line in pipe:
                yield trials[at][0], line.rstrip("\n")
                at += 1
        status = os.waitpid(child, 0)[1]
        if status:
            yield trials[at][0], f"signal {status & 127}"
            at += 1


def outcome(trial: Trial) -> str:
    """What comes of a trial."""
    try:
        return trial()
    except Exception as error:
        return f"refused {type(error).__name__}: {error}"


def make_layer(backend: str) -> tn.Layer:
    """The layer of a backend; "mixed" is a plan of two regions, the second torch's, and
    "streamed" one that makes W in tiles."""
    layer = tn.Layer(net(), bias=True, backend=BACKEND_OF[backend], batch=BATCH, tiers=False)
    if backend == "mixed":
        (ranged,) = layer._programs_for(layer.dtype)
        whole = tn.compile(net(), backend="torch", minimize="flops")
        total = len(batched_steps(whole.plan))
        regions = (BackendSpan("cpp", 1), BackendSpan("torch", total - 1))
        plan = replace(whole.plan, regions=regions).verify()
        ranged._main = MixedProgram(whole.graph, plan, whole.tensor_names)
        ranged.replace_range(BatchRange(), ranged._main)
    if backend == "streamed":
        ranged = layer._programs_for(layer.dtype)[0]
        program = streamed(tn.compile(net(), backend="torch", minimize="rebuild"))
        assert program is not None
        ranged._main = program
        ranged.replace_range(BatchRange(), program)
    return layer


def main(backend: str) -> None:
    """Print a line a trial."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    with ExitStack() as stack:
        if backend != "cuda":
            stack.enter_context(each_backend.default_backend("cpp"))
        if backend == "cuda":
            stack.enter_context(
                emulated.emulation(stack.enter_context(pytest.MonkeyPatch.context()))
            )
        trials = Trials(backend, lambda: make_layer(backend))
        trials.warm()
        guard_results()
        for name, found in run_all([*trials, *more(backend, trials.layer)]):
            print(name, found, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
