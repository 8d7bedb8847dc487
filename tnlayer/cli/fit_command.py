"""``tnlayer fit``: the sizes of a topology that use a budget best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..budget.fit import BUDGETS, fit_budget
from ..support.json_text import canonical_json
from .networks import topology
from .shared_options import add_planning, check_budget

# What fit_budget does not take: the shape is the same for all backends.
REFUSED = {
    "--backend": "fit has no backend: sizes are found for the one that is predicted to be the "
    "fastest; tnlayer cost NETWORK --backend tells what one costs",
    "--memory-limit": "fit keeps no memory limit; write the network with --output, and try "
    "tnlayer plan FILE --memory-limit",
    "--objective": "fit has no objective: --time is of a forward and backward",
}


def add_fit(commands: Any) -> None:
    """Add the command to those of the command line."""
    text = "find the sizes of a topology that use a budget best"
    command: argparse.ArgumentParser = commands.add_parser("fit", help=text, description=text)
    command.set_defaults(run=run_fit)
    command.add_argument("topology", help="a topology, such as tensor_train, or MODULE:FUNCTION")
    command.add_argument("in_features", type=int, help="features of x")
    command.add_argument("out_features", type=int, help="features of y")
    for name, unit in zip(BUDGETS, ("entries", "a sample", "times", "seconds"), strict=True):
        command.add_argument(f"--{name}", type=float, default=None, help=f"the budget, {unit}")
    command.add_argument("--legs", type=int, default=None, help="legs of each port")
    command.add_argument("--output", type=Path, default=None, help="write the network as JSON")
    add_planning(command, refused=REFUSED)


def run_fit(options: argparse.Namespace) -> str:
    """The fit as text or JSON; the network goes to a file where one is named."""
    check_budget(options, BUDGETS)
    fit = fit_budget(
        topology(options.topology),
        options.in_features,
        options.out_features,
        batch=options.batch,
        legs=options.legs,
        device=options.device,
        dtype=options.dtype,
        effort=options.effort,
        **{name: getattr(options, name) for name in BUDGETS},
    )
    if options.output is not None:
        options.output.write_text(fit.network().to_json(), encoding="utf-8")
    return canonical_json(fit.numbers()) if options.json else str(fit)
