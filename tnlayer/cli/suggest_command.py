"""``tnlayer suggest``: topologies for a matrix and a budget, by predicted time."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from ..budget.fit import BUDGETS
from ..budget.topology import name_of
from ..models.suggest import Suggestions, suggest
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
    given = None if options.topology is None else {w: topology(w) for w in options.topology}
    found = suggest(
        options.in_features,
        options.out_features,
        batch=options.batch,
        topologies=None if given is None else list(given.values()),
        objective=options.objective,
        device=options.device,
        dtype=options.dtype or "float32",
        effort=options.effort,
        **{name: getattr(options, name) for name in BUDGETS},
    )
    if options.json:
        return canonical_json(found.numbers())
    words = {name_of(function): word for word, function in (given or {}).items()}
    return found.text(_next_commands(found, words, options))


def _next_commands(
    found: Suggestions, words: Mapping[str, str], options: argparse.Namespace
) -> list[str]:
    """What one does next with the first network: each command in a line, to be copied.

    Arguments:
        found: what was printed.
        words: how topologies of the user's were named, by the name of the function.
        options: of the command.
    """
    if found.first is None:
        return []
    row = found[found.first]
    word = words.get(row.name, row.name)
    own = [f"--batch {options.batch}"]
    own += [] if options.device == "cpu" else [f"--device {options.device}"]
    own += [] if options.dtype is None else [f"--dtype {options.dtype}"]
    ((kind, amount),) = (
        (name, getattr(options, name)) for name in BUDGETS if getattr(options, name) is not None
    )
    amount = int(amount) if amount == int(amount) else amount
    sizes = f"{options.in_features} {options.out_features} --{kind} {amount}"
    is_fastest = "the fastest" if found.first == 0 else "dense is the fastest; the next"
    return [
        f"{is_fastest} is {row.name}. What it costs, and its network as a file:",
        f"  tnlayer cost {shlex.quote(row.call)} {' '.join(own)}",
        f"  tnlayer fit {word} {sizes} {' '.join(own)} --effort {options.effort} --output net.json",
    ]
