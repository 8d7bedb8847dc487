"""``tnlayer compress``: networks in place of a model's matrices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..models.budget_rule import Budget
from ..models.compress import compress
from ..saving.save import save
from ..support.json_text import canonical_json
from .networks import called, named, topology
from .shared_options import add_planning, check_budget

BUDGETS = ("compression", "params", "time")
_UNITS = ("times fewer parameters", "parameters", "share of the predicted time")
REFUSED = {
    "--device": "compress takes the device of the model; move it in the function that makes it",
    "--dtype": "compress takes the dtype of the model; cast it in the function that makes it",
}
# Options of layers that are handed on where they are not these.
_DEFAULTS = {"backend": "auto", "memory_limit": None, "effort": "default"}


def add_compress(commands: Any) -> None:
    """Add the command to those of the command line."""
    text = "put networks in place of a model's matrices, and print what that does"
    command: argparse.ArgumentParser = commands.add_parser("compress", help=text, description=text)
    command.set_defaults(run=run_compress)
    model = "MODULE:FUNCTION that returns the trained model, or MODULE:NAME of one"
    command.add_argument("model", metavar="MODEL", help=model)
    for name, unit in zip(BUDGETS, _UNITS, strict=True):
        told = f"budget of the whole model: {unit}"
        command.add_argument(f"--{name}", type=float, default=None, help=told)
    one = "this one for each matrix, at --compression; else topology and sizes are chosen"
    command.add_argument("--topology", default=None, help=one)
    file = "write the compressed model, for tn.load(..., into=model): FILE.safetensors"
    command.add_argument("--output", type=Path, default=None, help=file)
    dry = "report only: nothing is kept or written"
    command.add_argument("--dry-run", action="store_true", help=dry)
    add_planning(command, refused=REFUSED)


def run_compress(options: argparse.Namespace) -> str:
    """The report as text or JSON; the model goes to a file where one is named."""
    output: Path | None = options.output
    if output is not None and options.dry_run:
        msg = "--output with --dry-run: a dry run has nothing to write; leave out one of them"
        raise SpecError(msg)
    if output is not None and not output.parent.is_dir():
        # Before an hour of fitting, not after it.
        msg = f"--output {output}: there is no folder {str(output.parent)!r}"
        raise SpecError(msg)
    rule, named_too = _rule(options)
    given = {name: getattr(options, name) for name in _DEFAULTS}
    report = compress(
        load_model(options.model),
        rule,
        dry_run=options.dry_run,
        batch=options.batch,
        objective=options.objective,
        **named_too,
        **{name: value for name, value in given.items() if value != _DEFAULTS[name]},
    )
    if output is not None:
        save(report.model, output)
    if options.json:
        file = {} if output is None else {"file": str(output)}
        return canonical_json({**report.numbers(), **file})
    return str(report) if output is None else f"{report}\nwrote {output}"


def _rule(options: argparse.Namespace) -> tuple[Any, dict[str, float]]:
    """The rule that the options say, and what goes with it."""
    given = {name: value for name in BUDGETS if (value := getattr(options, name)) is not None}
    if options.topology is None:
        check_budget(options, BUDGETS)
        return Budget(**given), {}
    if set(given) != {"compression"}:
        got = ", ".join(f"--{name}" for name in given) or "none"
        msg = (
            f"--topology {options.topology} takes --compression for each matrix, got {got}; leave "
            "out --topology for a budget of the whole model"
        )
        raise SpecError(msg)
    return topology(options.topology), given


def load_model(text: str) -> nn.Module:
    """The model that a word of the command line names.

    Arguments:
        text: MODULE:FUNCTION, with arguments in Python's literals or without; or MODULE:NAME of a
            model that is there.

    Raises:
        SpecError: it names nothing that is there, or what is there gives no model.

    >>> load_model("torch.nn:Linear(8, 6)")
    Linear(in_features=8, out_features=6, bias=True)
    """
    found, given = named(text)
    # A model can be called, too, but is there already.
    model = found if isinstance(found, nn.Module) and given is None else None
    if model is None:
        model = called(found, text, given or "")
    if not isinstance(model, nn.Module):
        msg = f"{shown(text)} returned {type(model).__name__}; expected a torch.nn.Module"
        raise SpecError(msg)
    return model
