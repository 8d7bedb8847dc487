"""``tnlayer suggest``: topologies for a matrix and a budget, by predicted time."""

from __future__ import annotations

import argparse
from typing import Any

from ..budget.fit import BUDGETS
from ..models.suggest import suggest
from ..support.json_text import canonical_json
from .networks import topology
from .shared_options import add_planning, check_budget

REFUSED = {
    "--backend": "suggest has no backend: each topology is predicted on its fastest; tnlayer cost "
    "NETWORK --backend tells what one costs",
    "--memory-limit": "suggest keeps no memory limit; the column KiB says what a call allocates",
}


def add_suggest(commands: Any) -> None:
    """Add the command to those of the command line."""
    text = "print which topologies keep a budget for a matrix, the fastest first, dense among them"
    command: argparse.ArgumentParser = commands.add_parser("suggest", help=text, description=text)
    command.set_defaults(run=run_suggest)
    command.add_argument("in_features", type=int, help="features of x")
    command.add_argument("out_features", type=int, help="features of y")
    for name, unit in zip(BUDGETS, ("entries", "a sample", "times", "seconds"), strict=True):
        command.add_argument(f"--{name}", type=float, default=None, help=f"the budget, {unit}")
    own = "one to try instead of the usual ones; may be given again, also MODULE:FUNCTION"
    command.add_argument("--topology", action="append", default=None, help=own)
    add_planning(command, refused=REFUSED, effort="fast")


def run_suggest(options: argparse.Namespace) -> str:
    """The table as text or JSON."""
    check_budget(options, BUDGETS)
    tried = options.topology
    found = suggest(
        options.in_features,
        options.out_features,
        batch=options.batch,
        topologies=None if tried is None else [topology(name) for name in tried],
        objective=options.objective,
        device=options.device,
        dtype=options.dtype or "float32",
        effort=options.effort,
        **{name: getattr(options, name) for name in BUDGETS},
    )
    return canonical_json(found.numbers()) if options.json else str(found)
