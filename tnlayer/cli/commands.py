"""The command line: ``tnlayer COMMAND`` or ``python -m tnlayer COMMAND``.

Exit status: 0; 2 where the input is wrong, with one line on stderr; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from ..errors import TnlayerError
from ..graph.argument_checks import did_you_mean, shown
from .bench_command import add_bench
from .cache_command import add_cache
from .completion_command import add_completion, words_of
from .compress_command import add_compress
from .fit_command import add_fit
from .network_commands import add_network_commands
from .profile_command import add_profile
from .suggest_command import add_suggest

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Arguments:
        argv: the words; by default those of the process.

    Returns:
        the exit status.
    """
    parser = command_parser()
    words = sys.argv[1:] if argv is None else argv
    known = words_of(parser)
    if words and not words[0].startswith("-") and words[0] not in known:
        hint = did_you_mean(words[0], known)
        told = f"tnlayer: there is no command {shown(words[0])}{hint}; there are: "
        print(f"{told}{', '.join(known)}", file=sys.stderr)
        return 2
    options = parser.parse_args(words)
    try:
        print(options.run(options), flush=True)
    except BrokenPipeError:
        # Whoever reads (a pager, head) has seen enough; what Python still flushes goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (TnlayerError, OSError) as error:
        # One line, whatever the message quotes; the call that it names is the command.
        told = " ".join(str(error).split()).removeprefix(f"{options.command}: ")
        print(f"tnlayer {options.command}: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _version() -> str:
    try:
        return version("tnlayer")
    except PackageNotFoundError:  # run from a folder that was not installed
        return "not installed"


def command_parser() -> argparse.ArgumentParser:
    """What reads the words: every command with its options."""
    text = "Describe tensor networks, and see what they cost and what runs."
    parser = argparse.ArgumentParser(prog="tnlayer", description=text)
    parser.add_argument("--version", action="version", version=f"tnlayer {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_network_commands(commands)
    add_fit(commands)
    add_suggest(commands)
    add_compress(commands)
    add_bench(commands)
    add_profile(commands)
    add_cache(commands)
    add_completion(commands, parser)
    return parser
