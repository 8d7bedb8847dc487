"""The errors of the package: one base, three kinds; each tells what, where and how to fix."""

from __future__ import annotations

import re

# A message is read by people: words (names, paths, numbers) and texts beyond this are cut.
MAX_WORD = 300
MAX_MESSAGE = 4000


class TnlayerError(Exception):
    """Base class of every error that tnlayer raises on purpose; its message is short, always."""

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
    """What the user said is wrong: a network, a port, a shape, a dtype or an option."""


class PlanError(TnlayerError, ValueError):
    """No plan can be made: a state is too large, or a limit cannot be kept."""


class BuildError(TnlayerError, RuntimeError):
    """Code could not be generated, compiled or loaded for the backend that was asked for."""
