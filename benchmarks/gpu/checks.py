"""Whether CUDA kernels are right: topologies against float64, and tools that watch memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

import tnlayer as tn
from benchmarks.gpu.guards import guarded
from tnlayer import topologies

CHECK_BATCHES = (37, 300)
TOLERANCE = 1e-5  # relative, in the norm: float32 sums of some thousand terms
SANITIZER_SECONDS = 60.0
SMALL: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: topologies.mera(6, 2, 3),
    "tree": lambda: topologies.tree(6, 2, 2),
    "threes": lambda: topologies.tree(5, 3, 2),
    "tensor_train": lambda: topologies.tensor_train((2,) * 8, (2,) * 8, rank=2),
    "odd": lambda: topologies.tensor_train((2, 3, 5, 7), (7, 5, 3, 2), rank=3),
    "ring": lambda: topologies.tensor_ring((4, 4, 4), (4, 4, 4), rank=3),
    "butterfly": lambda: topologies.butterfly(64),
    "monarch": lambda: topologies.monarch((8, 8), (8, 8)),
    "btt": lambda: topologies.btt((8, 8), (8, 8), 2),
    "tucker": lambda: topologies.tucker((8, 8), (8, 8), rank=4),
    "cp": lambda: topologies.cp((16, 4), (16, 4), rank=3),
    "low_rank": lambda: topologies.low_rank(48, 40, rank=5),
    "kronecker": lambda: topologies.kronecker((6, 5), (5, 7), rank=2),
    "block_term": lambda: topologies.block_term((4, 4), (4, 4), 2, 3),
    "peps": lambda: topologies.peps(2, 2, 2, 2),
    "brickwall": lambda: topologies.brickwall(6, dim=2, depth=3),
}
SANITIZED = ("tensor_train", "odd", "ring", "kronecker")
TOOLS = ("memcheck", "racecheck")


@contextmanager
def poisoned() -> Generator[None]:
    """Memory that torch allocates starts as NaN, so that an entry that is not written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before)


def check(
    net: tn.Network, device: str, backend: str, batches: Sequence[int] = CHECK_BATCHES
) -> dict[str, Any]:
    """Largest relative error of y and of each gradient against float64.

    Raises:
        ArithmeticError: it is larger than rounding explains, or an entry was not written, or the
            same call twice differs in a bit.
    """
    layer = tn.Layer(net, backend=backend, device=device)
    exact = tn.Layer(net, backend="torch", device=device, dtype=torch.float64)
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    worst = 0.0
    for batch in batches:
        x = torch.randn(batch, layer.in_features, device=device)
        slope = torch.randn(batch, layer.out_features, device=device)
        with poisoned():
            found, again = _results(layer, x, slope), _results(layer, x, slope)
        expected = _results(exact, x.double(), slope.double())
        for number, (one, two, right) in enumerate(zip(found, again, expected, strict=True)):
            error = float((one.double() - right).norm() / right.norm().clamp_min(1e-300))
            if not error < TOLERANCE:  # NaN, too
                raise ArithmeticError(f"result {number} at batch {batch} is off by {error:.2e}")
            if not torch.equal(one, two):
                raise ArithmeticError(f"result {number} at batch {batch}: two calls differ")
            worst = max(worst, error)
    return {"error": worst, "resources": resources(layer)}


def _results(layer: tn.Layer, x: Tensor, slope: Tensor) -> list[Tensor]:
    """y, then the gradients of x and of every parameter."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], slope)]


def resources(layer: tn.Layer) -> list[dict[str, Any]]:
    """What each kernel of a layer takes; nothing where there are no CUDA kernels."""
    try:
        return [asdict(kernel) for kernel in layer.resources()]
    except Exception as error:  # a figure beside the result, no part of it
        return [{"failed": f"{type(error).__name__}: {error}"}]


def guard(device: str, backend: str, names: Sequence[str] = tuple(SMALL)) -> dict[str, Any]:
    """Check small networks with guards around all memory of their kernels.

    Raises:
        ArithmeticError: a kernel wrote where it must not, or read there what bears on a result.
    """
    with guarded() as seen:
        for name in names:
            check(SMALL[name](), device, backend, (5,))
    return {"clean": True, "networks": list(names), "launches": len(seen)}


def sanitize(tool: str) -> dict[str, Any]:
    """Run the small networks of ``SANITIZED`` under a tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"absent": "compute-sanitizer is not on PATH"}
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m"]
    done = subprocess.run(
        [*command, "benchmarks.gpu.run", "--sanitized"],
        capture_output=True, text=True, timeout=SANITIZER_SECONDS, check=False,
    )  # fmt: skip
    text = (done.stdout + done.stderr)[-1500:]
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {text}")
    return {"clean": True, "text": text[-300:]}


def run_sanitized() -> None:
    """What runs under the tool: small networks, few samples; errors end it."""
    for name in SANITIZED:
        print(name, check(SMALL[name](), "cuda", "cuda", (5,))["error"], flush=True)
