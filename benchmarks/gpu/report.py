"""What a run of the GPU benchmark shows: a table of all cells, and the targets."""

from __future__ import annotations

from typing import Any

from benchmarks.common.report import format_table

# What the kernels should reach with MERA-2 at batch 4096 on one H100, as times faster than.
TARGETS = {
    "forward": {"dense fp32": 25, "dense tf32": 4, "dense bf16": 2, "chain": 20},
    "forward+backward": {"dense fp32": 18, "dense tf32": 2.5, "dense bf16": 1.2, "chain": 10},
}


def summary(record: dict[str, Any]) -> str:
    """A table of what was timed, and how often ours is faster; at last what failed."""
    cells: dict[tuple[Any, ...], dict[str, float]] = {}
    for entry in record["times"]:
        if "result" in entry:
            key = (entry["case"], entry["batch"], entry["mode"], entry["way"])
            cells.setdefault(key, {})[entry["method"]] = entry["result"]["median"]
    rows: list[list[str]] = []
    for (case, batch, mode, way), times in cells.items():
        own = next((t for name, t in times.items() if name == f"tnlayer {record['backend']}"), None)
        for name, seconds in times.items():
            ratio = "" if own is None else f"{seconds / own:.2f}"
            rows.append([f"{case} {mode} {way}", str(batch), name, f"{seconds * 1e6:.1f}", ratio])
    lines = [format_table(["cell", "batch", "method", "us", "x ours"], rows)]
    failed = [
        f"{part}: {' '.join(str(v) for v in list(entry.values())[:5])}: {entry['failed'][:100]}"
        for part in ("checks", "memory", "built", "times")
        for entry in record[part]
        if "failed" in entry
    ]
    return "\n".join([*lines, f"{len(failed)} cells failed", *failed])


def targets(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What MERA-2 reached at batch 4096 in graphs, beside the targets."""
    times = {
        (e["mode"], e["method"]): e["result"]["median"]
        for e in record["times"]
        if "result" in e and (e["case"], e["batch"], e["way"]) == ("mera-2", 4096, "graph")
    }
    found: list[dict[str, Any]] = []
    for mode, wanted in TARGETS.items():
        own = times.get((mode, "tnlayer cuda"))
        for baseline, factor in wanted.items():
            names = [n for m, n in times if m == mode and n.startswith(baseline)]
            seconds = min((times[mode, name] for name in names), default=None)
            reached = seconds / own if own and seconds else None
            found.append({"mode": mode, "baseline": baseline, "target": factor, "reached": reached})
    return found
