"""The methods of the kernels' table: ours on each backend, dense, and three einsum chains."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.baselines import (
    CannotRun,
    Runner,
    chain_of,
    dense,
    expression_of,
    tnlayer_layer,
    torch_einsum,
)
from benchmarks.common.problem import Problem
from benchmarks.common.search import Tree
from benchmarks.cpu.opponents import INFER, TRAIN, Opponents
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.ir import loops
from tnlayer.runtime.program import Program

Method = Callable[[Problem], Runner]
DENSE, TORCH, CPP, AUTO = "dense", "torch", "cpp", "auto"
EINSUM, COTENGRA, COMPILED = "torch.einsum", "cotengra", "compiled chain"
CHAINS = (EINSUM, COTENGRA, COMPILED)
OURS = (TORCH, CPP, AUTO)


def methods_of(opponents: Opponents, compile_limit: float) -> dict[str, Method]:
    """All methods by name.

    Arguments:
        opponents: the stored trees of the case.
        compile_limit: seconds that torch.compile may take; 0 leaves it out.
    """

    def cotengra(problem: Problem) -> Runner:
        infer, train = _trees(problem, opponents)
        return replace(chain_of(problem, infer, train), notes=_notes(infer, train))

    return {
        DENSE: dense,
        EINSUM: torch_einsum,
        COTENGRA: cotengra,
        COMPILED: lambda problem: compiled_chain(problem, opponents, compile_limit),
        **{name: lambda problem, name=name: tnlayer_layer(problem, name) for name in OURS},
    }


def _trees(problem: Problem, opponents: Opponents) -> tuple[Tree, Tree]:
    return opponents.best(problem.batch, INFER), opponents.best(problem.batch, TRAIN)


def _notes(infer: Tree, train: Tree) -> dict[str, Any]:
    return {INFER: asdict(infer), TRAIN: asdict(train)}


# -- ours ----------------------------------------------------------------------------------------


def loop_programs(program: Program, *, train: bool) -> tuple[tuple[loops.LoopProgram, ...], bool]:
    """The loop programs of what a program runs, and whether they are all of it: regions that run
    as torch calls have none."""
    regions: tuple[Program, ...] = getattr(program, "regions", (program,))
    mask = program.training_mask() if train else program.nothing
    # A program without regions is one by itself; a mixed one says what each has to differentiate.
    split: Callable[..., Any] = getattr(program, "region_masks", lambda mask: (mask,))
    found: list[loops.LoopProgram] = []
    whole = True
    for region, own in zip(regions, split(mask), strict=True):
        if isinstance(region, CppProgram):
            found += region.programs(own)
        else:
            whole = False
    return tuple(found), whole


# -- torch.compile -----------------------------------------------------------------------------


def compiled_chain(problem: Problem, opponents: Opponents, limit: float) -> Runner:
    """torch.compile of the stored chains, as graphs of plain torch calls; built before it is timed.

    Dynamo cannot look into cotengra's expressions, so each is traced to a graph first.
    """
    if limit <= 0:
        raise CannotRun("left out by --compile-limit 0")
    infer, train = _trees(problem, opponents)
    inductor: Any = importlib.import_module("torch._inductor.async_compile")
    try:
        with time_limit(limit):
            runner = _compile(problem, infer, train)
    except TimeoutError as error:
        raise CannotRun(str(error)) from error
    finally:
        # They would take time from what is measured later.
        inductor.shutdown_compile_workers()
    return replace(runner, notes=_notes(infer, train))


def _compile(problem: Problem, infer: Tree, train: Tree) -> Runner:
    make_fx: Any = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx
    leaves = chain_of(problem, infer, train).leaves
    names = [leaf.name for leaf in leaves]
    own = tuple(leaf.tensor for leaf in leaves)

    def compiled(tree: Tree) -> Callable[[Tensor], Tensor]:
        run = expression_of(problem, tree)

        def flat(x: Tensor, *values: Tensor) -> Tensor:
            return run(x, dict(zip(names, values, strict=True)))

        with torch.no_grad():
            graph = make_fx(flat)(problem.x, *own)
        call: Any = torch.compile(graph, dynamic=False)
        return lambda x: call(x, *own)

    # Cells compiled earlier would count towards dynamo's limit.
    torch.compiler.reset()
    runs = compiled(infer), compiled(train)
    with torch.no_grad():
        runs[0](problem.x)
    x = problem.x.clone().requires_grad_()
    torch.autograd.grad(runs[1](x), [x, *own], problem.grad)
    return Runner(*runs, leaves)


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Raise TimeoutError in the main thread once the time is over."""
    message = f"torch.compile took longer than {seconds:g} s"
    late = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal late
        late = True
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, stop)
    # Again every five seconds, since a library may swallow the first.
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    except Exception as error:
        # What is interrupted may fail while it cleans up.
        if late:
            raise TimeoutError(message) from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
