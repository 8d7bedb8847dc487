"""Calls that need more memory than the device has left are refused with the numbers.

What is counted is a bound from below: y, and around each step the arrays that are made before and
by it. A plan with a memory limit keeps that; one without grows with the batch, and torch would
say no more than how many bytes it was asked for, if the system does not end the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import PlanError
from ..ir.plan import Plan
from ..ir.steps import BATCH, Step, Value
from ..targets.backend import backend_of

# Calls that need less than this share of what was left once are not looked at.
_SMALL_SHARE = 16
_MOST = 2**63 - 1
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int | None:
    """Bytes that a device has left for this process; None where nobody tells.

    Of a CPU: what Linux calls available, with free swap, and what the control group leaves.
    """
    if device.type == "cuda" and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = _fields(Path("/proc/meminfo"))
    if "MemAvailable" not in found:
        return None
    left = 1024 * (found["MemAvailable"] + found.get("SwapFree", 0))
    group = _left_in_group()
    return left if group is None else min(left, group)


def _left_in_group() -> int | None:
    """Bytes that the control group has left; None where it has no bound."""
    try:
        bound = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    # Pages of files go when memory is asked for.
    return bound - used + _fields(_CGROUP / "memory.stat").get("inactive_file", 0)


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    matches = (re.match(r"(\w+):?\s+(\d+)", line) for line in lines)
    return {match[1]: int(match[2]) for match in matches if match is not None}


def least_bytes(plan: Plan, batch: int) -> tuple[int, Value]:
    """Bytes that a forward allocates at least, and the largest array that it makes.

    Arguments:
        plan: a forward plan.
        batch: samples of a call.
    """
    output = plan.outputs[0].operand.value
    y = plan.bytes_of(output).at(batch)
    if not backend_of(plan.backend).keeps_values:
        return y, output  # kernels keep nothing of the size of the batch
    given = {value.name for value in plan.inputs} | {output.name}
    sizes: dict[str, int] = {}

    def size(value: Value) -> int:
        if value.name not in sizes:
            sizes[value.name] = _at_once(plan, value, batch)
        return sizes[value.name]

    def around(step: Step) -> int:
        values = {value.name: value for value in (*(o.value for o in step.operands), step.result)}
        return sum(size(value) for name, value in values.items() if name not in given)

    made = [step.result for step in plan.steps]
    most = max(map(around, plan.steps), default=0)
    return y + most, max(made, key=size, default=output)


def _at_once(plan: Plan, value: Value, batch: int) -> int:
    """Bytes of a value in one turn of the loops that the plan's memory asks for."""
    chunk = plan.memory.chunk
    at = batch if chunk is None else min(batch, chunk)
    size = plan.bytes_of(value).at(at)
    for leg in set(plan.memory.slices) & set(value.legs):
        size //= plan.sizes[leg]
    return size


def free_samples(plan: Plan, device: torch.device) -> int:
    """The greatest batch size that surely has room; larger ones have to be checked.

    Arguments:
        plan: a forward plan.
        device: where it runs.
    """
    available = available_bytes(device)
    if available is None:
        return _MOST
    bound = available // _SMALL_SHARE
    fixed = least_bytes(plan, 0)[0]
    rate = least_bytes(plan, 1)[0] - fixed
    # Steps are sums of amounts that grow evenly; which one is the largest may change.
    samples = _MOST if rate <= 0 else max(-1, (bound - fixed) // rate)
    while samples > 0 and samples < _MOST and least_bytes(plan, samples)[0] > bound:
        samples //= 2
    return samples if fixed <= bound else -1


def check_room(label: str, plan: Plan, batch: int, device: torch.device) -> None:
    """Refuse a call that needs more than the device has left.

    Arguments:
        label: of the network.
        plan: its forward plan.
        batch: samples of the call.
        device: where it runs.

    Raises:
        PlanError: it does; tells bytes and legs.
    """
    needed, largest = least_bytes(plan, batch)
    available = available_bytes(device)
    if available is None or needed <= available:
        return
    names = {**dict(plan.names), BATCH: "batch"}
    legs = ", ".join(names.get(leg, leg) for leg in largest.legs)
    msg = (
        f"network {label!r}: a call with {batch} samples needs at least {needed} bytes, and "
        f"{available} are left on {device}: its largest array has "
        f"{_at_once(plan, largest, batch)} bytes, legs {legs}. Take fewer samples at once, give "
        f"memory_limit=, or look for smaller arrays with minimize='size' (tn.compile), or with "
        f"smaller bonds"
    )
    raise PlanError(msg)


def check_bytes(
    needed: int, what: str, device: torch.device, error: Callable[[str], Exception]
) -> None:
    """Refuse to allocate more than a device has left.

    Arguments:
        needed: bytes.
        what: they are for, in words.
        device: where.
        error: what to raise.
    """
    available = available_bytes(device)
    if available is not None and needed > available:
        raise error(f"{what} take {needed} bytes, and {available} are left on {device}")
