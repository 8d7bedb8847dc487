"""What each region of a plan costs and keeps, as numbers and in words."""

from __future__ import annotations

import torch

from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..ir.backend_names import CPP, CUDA, TORCH
from ..ir.counts import Amount, amount
from ..ir.cuts import batched_steps, cuts
from ..ir.plan import Plan
from ..ir.plan_text import amount_text, milliseconds
from ..lowering.calls.pair import Mask, schedule_pair, wanted_names
from ..lowering.cpu.pipeline import schedule_lanes
from ..passes.partition import region_masks, split
from ..time_models.compiled import compiled_bytes, compiled_step_seconds
from ..time_models.loops_gpu import scheduled_pair, staged_bytes, workspace_bytes
from ..time_models.rates import Rates
from .mixture import plan_seconds, region_seconds, torch_step_seconds

Parts = list[tuple[str, Plan, Mask]]


def _parts(plan: Plan, mask: Mask) -> Parts:
    """Backend, plan and mask of each region."""
    parts = split(plan, [region.steps for region in plan.regions])
    masks = region_masks(plan, parts, mask)
    backends = [region.backend for region in plan.regions]
    return list(zip(backends, parts, masks, strict=True))


def region_step_seconds(plan: Plan, mask: Mask, batch: int, rates: Rates) -> dict[str, float]:
    """Predicted seconds of each step with its backward, and of all the rest under ""."""
    found = dict.fromkeys((step.result.name for step in plan.steps), 0.0)
    for backend, part, own in _parts(plan, mask):
        if backend != TORCH:
            steps = compiled_step_seconds(backend, part, own, batch, rates)
        else:
            steps = torch_step_seconds(part, own, batch, rates.times)
        for step in part.steps:  # one on parameters may be done in several regions
            found[step.result.name] += steps[step.result.name]
    rest = plan_seconds(plan, mask, batch, rates).total - sum(found.values())
    return found | {"": rest}


def region_kept(plan: Plan, mask: Mask, rates: Rates) -> Amount:
    """Bytes that the forward keeps: values at cuts, and what torch's regions save."""
    at_cuts = cuts(plan) if len(plan.regions) > 1 else {}
    ends = [sum(r.steps for r in plan.regions[:n]) for n in range(1, len(plan.regions))]
    kept = [plan.bytes_of(at_cuts[end]) for end in ends] if any(mask) else []
    for backend, part, own in _parts(plan, mask):
        if backend == TORCH and any(own):
            kept.append(schedule_pair(part, own, rates.times).forward.saved_bytes)
    return amount(kept)


def region_kernel_bytes(plan: Plan, mask: Mask, rates: Rates) -> int:
    """Bytes of the workspace of the compiled regions."""
    threads = max(rates.profile.threads, torch.get_num_threads())
    return sum(
        compiled_bytes(backend, part, own, rates, threads)
        for backend, part, own in _parts(plan, mask)
        if backend != TORCH
    )


def region_calls(plan: Plan, mask: Mask, rates: Rates) -> tuple[int, int]:
    """Calls of a forward without grad and of a backward: one a kernel, else those of torch."""
    forward = backward = 0
    for backend, part, own in _parts(plan, mask):
        if backend != TORCH:
            forward, backward = forward + 1, backward + any(own)
            continue
        forward += schedule_pair(part, (False,) * len(own), rates.times).forward.kernel_count
        later = schedule_pair(part, own, rates.times).backward
        backward += later.kernel_count if later is not None else 0
    return forward, backward


def region_lines(plan: Plan, mask: Mask, batch: int, rates: Rates) -> list[str]:
    """A line for each region: its steps, its times, how it is vectorised, what its cut keeps."""
    seconds = region_seconds(plan, mask, batch, rates)
    lines: list[str] = []
    for number, ((backend, part, own), (_, spent)) in enumerate(
        zip(_parts(plan, mask), seconds, strict=True)
    ):
        names = [step.result.name for step in batched_steps(part)]
        steps = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else "none"
        how = "torch calls"
        if backend == CPP:
            how = _lanes_text(part, rates.compiled_cpu)
        elif backend == CUDA:
            how = _cuda_text(part, own, rates.compiled_gpu)
        text = (
            f"region {number + 1}, {backend}: {steps}, {milliseconds(spent.forward)} ms forward, "
            f"{milliseconds(spent.backward)} ms backward; {how}"
        )
        if backend != TORCH:
            text += "; keeps nothing of the batch's size but its input"
        lines.append(text)
        if number + 1 < len(plan.regions):
            value = part.outputs[0].operand.value
            kept = amount_text(part.bytes_of(value))
            lines.append(f"cut at {value.name}: {kept} bytes are written and kept for the backward")
    return lines


def _lanes_text(plan: Plan, cpu: Cpu) -> str:
    """What fills the vectors of a compiled region."""
    scheduled = schedule_lanes(plan, cpu)
    if not scheduled.lanes:
        return f"one kernel each way, samples as lanes: {scheduled.reason}"
    names = dict(plan.names)
    sets = dict.fromkeys(scheduled.lanes.values())
    shown = ", then ".join(" ".join(names.get(leg, leg) for leg in lanes) for lanes in sets)
    return f"one kernel each way, legs as lanes: {shown}"


def _cuda_text(plan: Plan, mask: Mask, gpu: Gpu) -> str:
    """Segments of a region of CUDA kernels, and where its states lie."""
    found: list[str] = []
    pair = scheduled_pair(plan, wanted_names(plan, mask), gpu)
    for way, scheduled in zip(("forward", "backward"), pair, strict=False):
        count = scheduled.segments
        text = f"{way} in {count} segment{'s' if count != 1 else ''}" if count else way
        staged = staged_bytes(scheduled)
        if staged:
            text += f", {staged:,} bytes of states of a block go through L2"
        room = workspace_bytes(scheduled, gpu)
        found.append(f"{text}, {room:,} bytes of workspace at any batch" if room else text)
    return f"kernels for {gpu.arch}: {'; '.join(found)}"
