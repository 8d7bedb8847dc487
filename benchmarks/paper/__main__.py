"""The command line of the reproduction: ``python -m benchmarks.paper --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import torch

from benchmarks.common.report import RESULTS
from benchmarks.paper.costs import write_flops, write_times
from benchmarks.paper.data import load_data
from benchmarks.paper.document import read_evidence, rebuilt
from benchmarks.paper.parameters import print_parameters
from benchmarks.paper.plot import draw
from benchmarks.paper.precision import PRECISIONS, runs_in_bfloat16
from benchmarks.paper.protocols import PROTOCOLS
from benchmarks.paper.rows import GROUPS, rows_named
from benchmarks.paper.runs import Clock, Setting, run_all

OUT = RESULTS / "paper"
DOCS = RESULTS.parents[1] / "docs"
PLOT = "paper-accuracy.svg"
# The order in which a machine that is stopped some day should have got somewhere.
DEFAULT_ROWS = "MERA-2,TT-3,FC-1,MERA-3,TT-7,tree-3,low-rank-1,TT-5,FC-2,brickwall"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 if everything asked for is done, 3 if it was stopped."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.params:
        print(print_parameters())
        return 0
    given = sys.argv[1:] if arguments is None else arguments
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        if options.flops:
            write_flops(rows_named(options.rows or "all"), options.out / "flops.json")
        elif options.times:
            rows = rows_named(options.rows or f"{DEFAULT_ROWS},grid")
            device = torch.device(options.device)
            write_times(rows, options.out / "times.json", device, options.budget, given)
        elif options.table:
            write_document(options.out)
        elif options.data is not None:
            return _train(options, given)
        else:
            parser.error("nothing to do: pass --data PATH to train, or --params, --table, ...")
    except ValueError as error:
        parser.error(str(error))
    return 0


def write_document(out: Path, docs: Path = DOCS) -> None:
    """Write tables and answers into docs/paper.md, and draw its plot."""
    evidence = read_evidence(out)
    page = docs / "paper.md"
    page.write_text(rebuilt(page.read_text(), evidence))
    draw(evidence, docs / PLOT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description="Reproduce the MERA paper's table on CIFAR-10 (docs/paper.md).",
    )
    parser.add_argument("--params", action="store_true", help="print Table 1's parameter columns")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="CIFAR-10: torchvision's folder, or an npz file"
    )
    parser.add_argument("--flops", action="store_true", help="count the hidden layers' FLOPs")
    parser.add_argument(
        "--times", action="store_true", help="time training steps against FC-1; on a quiet machine"
    )
    parser.add_argument(
        "--table", action="store_true", help="write docs/paper.md's tables and plot from results"
    )
    parser.add_argument(
        "--rows", help=f"rows and groups ({', '.join(GROUPS)}, all), with commas between"
    )
    parser.add_argument("--seeds", default="0", help="seeds, with commas between (default 0)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="short")
    parser.add_argument("--minutes", type=float, help="stop after so long; the next call goes on")
    parser.add_argument(
        "--budget", type=float, default=10.0, help="seconds for each row and kind with --times"
    )
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of convolutions; auto: bfloat16 where the device multiplies in it",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--cache", type=Path, help="folder of decoded images and checkpoints")
    return parser


def _train(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Train what was asked for."""
    cache = options.cache or platformdirs.user_cache_path("tnlayer-paper", appauthor=False)
    rows = rows_named(options.rows or DEFAULT_ROWS)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    data = load_data(options.data, cache)
    print(f"data: {data.name}; results: {options.out}; checkpoints: {cache}", flush=True)
    device = torch.device(options.device)
    setting = Setting(
        data,
        PROTOCOLS[options.protocol],
        cache,
        options.out,
        device=device,
        bfloat16=runs_in_bfloat16(options.precision, device),
        arguments=words,
    )
    return 0 if run_all(setting, rows, seeds, Clock(options.minutes)) else 3


if __name__ == "__main__":
    raise SystemExit(main())
