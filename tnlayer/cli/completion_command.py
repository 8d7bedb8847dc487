"""``tnlayer completion``: a script that lets a shell complete commands, options and topologies."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from .. import topologies

SHELLS = ("bash", "zsh", "fish")


def add_completion(commands: Any, parser: argparse.ArgumentParser) -> None:
    """Add the command to those of the command line; it completes those that the parser has."""
    text = 'print a script for the shell: eval "$(tnlayer completion bash)"'
    command: argparse.ArgumentParser = commands.add_parser(
        "completion", help=text, description=text
    )
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(run=lambda options: completion(options.shell, words_of(parser)))


def words_of(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """The options of each command, by its name."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # pyright: ignore[reportPrivateUsage]
    found: dict[str, list[str]] = {}
    for name, command in commands.choices.items():
        shown = [one for one in command._actions if one.help != argparse.SUPPRESS]
        options = (one for action in shown for one in action.option_strings)
        found[name] = sorted(option for option in options if option.startswith("--"))
    return found


def completion(shell: str, words: Mapping[str, Sequence[str]]) -> str:
    """The script of a shell.

    Arguments:
        shell: "bash", "zsh" or "fish".
        words: options by command.
    """
    return _fish(words) if shell == "fish" else _bash(words, shell)


def _bash(words: Mapping[str, Sequence[str]], shell: str) -> str:
    """zsh runs bash's completions."""
    names, known = " ".join(words), " ".join(topologies.__all__)
    cases = "\n".join(
        f'    {name}) words="{" ".join(options)} {known}" ;;' for name, options in words.items()
    )
    head = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{head}_tnlayer() {{
  local words here="${{COMP_WORDS[COMP_CWORD]}}"
  case "${{COMP_WORDS[1]}}" in
{cases}
    *) words="" ;;
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="{names} --version --help"
  COMPREPLY=($(compgen -W "$words" -f -- "$here"))
}}
complete -F _tnlayer tnlayer"""


def _fish(words: Mapping[str, Sequence[str]]) -> str:
    lines = [f"complete -c tnlayer -n __fish_use_subcommand -a '{' '.join(words)}' -f"]
    for name, options in words.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c tnlayer {seen} -l {option[2:]}" for option in options]
        lines.append(f"complete -c tnlayer {seen} -a '{' '.join(topologies.__all__)}'")
    return "\n".join(lines)
