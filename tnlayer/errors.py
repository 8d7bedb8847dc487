"""The errors of the package: one base, three kinds; each tells what, where and how to fix."""

from __future__ import annotations

import re

# A message is read by people: words (names, paths, numbers) and texts beyond this are cut.
MAX_WORD = 300
MAX_MESSAGE = 4000


class TnlayerError(Exception):
    """Base class of every error that tnlayer raises on purpose; its message is short, always.

    >>> import tnlayer as tn
    >>> try:
    ...     tn.plan(tn.topologies.low_rank(4, 4, rank=1), effort="hard")
    ... except tn.TnlayerError as error:
    ...     print(error)
    effort='hard' is unknown; expected one of fast, default, high
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


def shortened(message: str) -> str:
    """A message with its long words cut, and its middle where it is still long.

    >>> shortened("leg " + "a" * 1000 + " has no end")[90:]
    'aaaaaaaaaaaaaa...(1000 characters)...aaaaaaaaaaaaaaaaaaaa has no end'
    """
    text = re.sub(rf"\S{{{MAX_WORD},}}", _cut_word, message)
    if len(text) <= MAX_MESSAGE:
        return text
    # Where stands at the beginning, and what to do at the end.
    kept = MAX_MESSAGE // 2
    return f"{text[:kept]} ...({len(text)} characters)... {text[-kept:]}"


def _cut_word(found: re.Match[str]) -> str:
    word = found.group()
    return f"{word[:100]}...({len(word)} characters)...{word[-20:]}"


class SpecError(TnlayerError, ValueError):
    """What the user said is wrong: a network, a port, a shape, a dtype or an option.

    >>> import tnlayer as tn
    >>> try:
    ...     tn.Network().freeze()
    ... except tn.SpecError as error:
    ...     print(str(error).partition(";")[0])
    the network has no output
    """


class PlanError(TnlayerError, ValueError):
    """No plan can be made: a state is too large, or a limit cannot be kept.

    >>> import tnlayer as tn
    >>> try:
    ...     tn.plan(tn.topologies.low_rank(64, 64, rank=4), memory_limit=1)
    ... except tn.PlanError as error:
    ...     print("memory_limit=1" in str(error))
    True
    """


class BuildError(TnlayerError, RuntimeError):
    """Code could not be generated, compiled or loaded for the backend that was asked for.

    >>> import tnlayer as tn
    >>> issubclass(tn.BuildError, tn.TnlayerError) and issubclass(tn.BuildError, RuntimeError)
    True
    """
