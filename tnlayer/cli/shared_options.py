"""Options that commands have in common, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..planning.request import DEFAULT_BATCH
from ..support.byte_counts import EXAMPLES, byte_count
from .networks import WAYS


def _bytes(text: str) -> int:
    """A number of bytes, for argparse."""
    found = byte_count(text)
    if found is None:
        msg = f"{text!r} is no number of bytes, such as {EXAMPLES}"
        raise argparse.ArgumentTypeError(msg)
    return found


def add_network(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """The network that a command is about, or several of them."""
    if several:
        command.add_argument("network", nargs="+", metavar="NETWORK", help=f"each {WAYS}")
    else:
        command.add_argument("network", metavar="NETWORK", help=WAYS)


def add_json(command: argparse.ArgumentParser) -> None:
    """Numbers for other programs."""
    command.add_argument("--json", action="store_true", help="as JSON, for other programs")


class _Refused(argparse.Action):
    """An option that other commands have and this one cannot keep: says why."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        raise argparse.ArgumentError(self, str(self.const))


def refuse(command: argparse.ArgumentParser, reasons: Mapping[str, str]) -> None:
    """Options that other commands have and this one does not: no help, and a reason if given.

    Arguments:
        command: what does not have them.
        reasons: why, by option, with what to do instead.
    """
    for option, why in reasons.items():
        command.add_argument(option, action=_Refused, const=why, help=argparse.SUPPRESS)


def add_planning(
    command: argparse.ArgumentParser,
    *,
    batches: bool = False,
    refused: Mapping[str, str] | None = None,
    effort: str = "default",
) -> None:
    """What plans depend on: the batch, backend, device, dtype, memory limit and effort.

    Arguments:
        command: gets the options.
        batches: whether --batch takes several.
        refused: those of them that the command cannot keep, and why.
        effort: how long plans are searched for, if nothing is said.
    """
    without = refused or {}
    refuse(command, without)

    def add(option: str, **named: Any) -> None:
        if option not in without:
            command.add_argument(option, **named)

    text = "samples of one call"
    if batches:
        several = f"{text}; several make a table each"
        add("--batch", type=int, nargs="+", default=[DEFAULT_BATCH], help=several)
    else:
        add("--batch", type=int, default=DEFAULT_BATCH, help=text)
    add("--backend", default="auto", help="auto, torch, cpp or cuda")
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", default=None, help="float32, float64, complex64, ...")
    limit = "bytes that a call may allocate, such as 512MiB"
    add("--memory-limit", type=_bytes, default=None, help=limit)
    add("--objective", default="train", help="train or infer")
    add("--effort", default=effort, help="fast, default or high")
    add_json(command)


def planning(options: argparse.Namespace) -> dict[str, Any]:
    """These options, as tn.cost takes them."""
    names = ("batch", "backend", "device", "dtype", "memory_limit", "objective", "effort")
    return {name: getattr(options, name) for name in names}


def check_budget(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse several budgets, and none.

    Arguments:
        options: that were given.
        names: of those that are budgets.

    Raises:
        SpecError: there is not exactly one.
    """
    given = [f"--{name}" for name in names if getattr(options, name) is not None]
    if len(given) != 1:
        known = ", ".join(f"--{name}" for name in names)
        msg = f"expected exactly one of {known}, got {', '.join(given) or 'none'}"
        raise SpecError(msg)
