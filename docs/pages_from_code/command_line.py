"""The page of the command line: the help of each command, as it prints it."""

from __future__ import annotations

import argparse
from functools import partial

from tnlayer.cli.commands import command_parser

INTRODUCTION = """# Command line

`tnlayer COMMAND`, or `python -m tnlayer COMMAND`. A network is one word: a topology with its
arguments, `"mera(12, bond=3)"`; a JSON file; `MODULE:FUNCTION`, with arguments, too; or `-` for
JSON on stdin. Where a function returns a sum, `net1 + net2`, `tn.energy(...)` or a list of
networks, show, draw, plan, cost, compare, code and report take all of it. Exit status: 0; 2 where
the input is wrong, with one line on stderr that says how; 130 after Ctrl-C.

What follows is what `--help` prints."""

# Help is as wide as the terminal is; here the terminal is this wide.
WIDTH = 96


def command_line_page() -> str:
    """Each command with its help."""
    parser = command_parser()
    parts = [INTRODUCTION]
    for name, command in {"tnlayer": parser, **commands(parser)}.items():
        command.formatter_class = partial(argparse.HelpFormatter, width=WIDTH - 2)
        parts.append(f"## {name}\n\n```text\n{command.format_help()}```")
    return "\n\n".join(parts) + "\n"


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    actions = parser._actions  # pyright: ignore[reportPrivateUsage]  # argparse has no other way
    (found,) = [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # pyright: ignore[reportPrivateUsage]
    return dict(found.choices)
