"""What CUDA kernels are made of, without a GPU: registers, segments, instructions of a sample.

    python -m benchmarks.gpu_static                      # all cases, about two minutes
    python -m benchmarks.gpu_static --cases mera-2 --output found.json

Each kernel is built by NVRTC as a user's would be, and its machine code is read with nvdisasm.
Instructions are those of one warp in the loop over samples: what runs once a block or once a call
is not counted. A loop inside that loop would be counted once, so such kernels have no counts.
No times: what a GPU makes of these instructions only a GPU can tell.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tnlayer as tn
from benchmarks.common.report import RESULTS, format_table, provenance, write_json
from benchmarks.common.workloads import KERNEL_WORKLOADS, Workload
from benchmarks.gpu.machine_code import MULTIPLIES, between_barriers, disassembled, share
from tnlayer.backends.cuda_program import CudaProgram
from tnlayer.backends.cuda_unit import Unit
from tnlayer.hardware.gpu import gpu_of
from tnlayer.ir.launches import WARP

OUTPUT = RESULTS / "gpu-static.json"
ARCHES = ("sm_90", "sm_80")
BATCH = 4096
# Of a multiprocessor: registers, threads, and shared memory beside what each block reserves.
REGISTERS, THREADS, RESERVED = 65536, 2048, 1024


def gates(legs: int, count: int) -> list[tuple[int, int]]:
    """Pairs of neighbours among ever fewer legs, then among all legs again."""
    pairs: list[tuple[int, int]] = []
    active = list(range(legs))
    while len(pairs) < count:
        pairs += [(active[k], active[k + 1]) for k in range(1, len(active) - 1, 2)]
        pairs += [(active[k], active[k + 1]) for k in range(0, len(active) - 1, 2)]
        active = active[::2] if len(active) > 2 else list(range(legs))
    return pairs[:count]


def circuit(legs: int, count: int) -> tn.Network:
    """A gate on each of these pairs.

    Arguments:
        legs: legs of size 2.
        count: gates.
    """
    net = tn.Network(f"{count} gates")
    wires = list(net.input([2] * legs))
    for number, (a, b) in enumerate(gates(legs, count)):
        wires[a], wires[b] = net.tensor(f"G{number}", [wires[a], wires[b]], out=(2, 2))
    net.output(wires)
    return net


CASES: dict[str, Workload] = {
    **KERNEL_WORKLOADS,
    "circuit-25": Workload("circuit-25", "25 gates on 12 legs of 2", lambda: circuit(12, 25)),
}
PIPES = {
    "FMA": MULTIPLIES,
    "MMA": ("HMMA",),
    "LDS": ("LDS",),
    "STS": ("STS",),
    "global": ("LDG", "STG"),
    "SHFL": ("SHFL",),
    "SEL": ("SEL", "FSEL"),
}


@dataclass(frozen=True)
class Static:
    """One kernel.

    Arguments:
        segments: runs of steps without an exchange; 0 where steps run one by one.
        threads, samples: of a block.
        registers, spill_bytes: of a thread.
        shared_bytes: of a block.
        blocks: that a multiprocessor holds at once.
        instructions: of a warp for one turn of the loop over samples, by kind; {} where that loop
            has loops inside.
        share: part of them in the FMA pipe, and the lowest part of a segment; 0 without counts.
    """

    segments: int
    threads: int
    samples: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    blocks: int
    instructions: dict[str, int]
    share: float
    lowest_share: float


def statics(unit: Unit, name: str, arch: str) -> Static:
    """The persistent kernel of a unit."""
    built = unit.built()
    taken = next(one for one in built.resources() if one.name == name)
    counted, whole, lowest = dict[str, int](), 0.0, 0.0
    kernel = disassembled(built.cubin.binary)[name]
    if kernel.is_straight():
        loop = kernel.loop()
        kinds = Counter(instruction.split(".")[0] for instruction, _ in loop)
        counted = {pipe: sum(kinds[kind] for kind in found) for pipe, found in PIPES.items()}
        counted["all"] = len(loop)
        parts = [p for p in between_barriers(loop) if any(n == "FFMA" for n, _ in p)]
        whole = round(share(loop), 3)
        lowest = round(min(map(share, parts), default=0.0), 3)
    return Static(
        taken.segments,
        taken.threads,
        built.source.samples_per_block,
        taken.registers,
        taken.spill_bytes,
        taken.shared_bytes,
        _blocks(taken.registers, taken.threads, taken.shared_bytes, arch),
        counted,
        whole,
        lowest,
    )


def _blocks(registers: int, threads: int, shared_bytes: int, arch: str) -> int:
    """Blocks that a multiprocessor holds: registers are given out by 8 a thread."""
    room = gpu_of(arch).shared_bytes + RESERVED
    return min(
        REGISTERS // (-(-registers // 8) * 8 * threads),
        THREADS // threads,
        room // (shared_bytes + RESERVED),
    )


def measure(case: str, arch: str) -> list[dict[str, Any]]:
    """Forward and backward of a case; one entry says so where torch runs a part of it."""
    program = tn.compile(CASES[case].build(), backend="cuda", arch=arch, batch=BATCH)
    labels = {"case": case, "arch": arch}
    if not isinstance(program, CudaProgram):
        return [{**labels, "kernel": "", "runs": program.plan.backend, "result": None}]
    return [
        {**labels, "kernel": name, "runs": "cuda", "result": asdict(statics(unit, name, arch))}
        for name, unit in program.units().items()
    ]


COLUMNS: dict[str, Callable[[dict[str, Any]], object]] = {
    "segments": lambda r: r["segments"],
    "threads": lambda r: r["threads"],
    "registers": lambda r: r["registers"],
    "KiB shared": lambda r: round(r["shared_bytes"] / 1024, 1),
    "blocks": lambda r: r["blocks"],
    **{
        kind: lambda r, k=kind: r["instructions"].get(k, "-")
        for kind in ("FMA", "LDS", "STS", "global", "SHFL", "all")
    },
    "share": lambda r: r["share"] or "-",
    "lowest": lambda r: r["lowest_share"] or "-",
}


def table(entries: Sequence[dict[str, Any]], arch: str) -> str:
    """The figures of one architecture."""
    rows: list[list[str]] = []
    for entry in entries:
        if entry["arch"] != arch:
            continue
        found = entry["result"]
        cells = [str(cell(found)) if found else entry["runs"] for cell in COLUMNS.values()]
        rows.append([f"{entry['case']} {entry['kernel']}".strip(), *cells])
    return format_table([arch, *COLUMNS], rows)


def main(arguments: Sequence[str]) -> int:
    """Build, count, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--arches", nargs="+", default=list(ARCHES))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    found = [e for case in options.cases for arch in options.arches for e in measure(case, arch)]
    write_json(options.output, {**provenance(arguments), "warp": WARP, "kernels": found})
    print(*(table(found, arch) for arch in options.arches), sep="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
