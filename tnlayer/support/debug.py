"""TNLAYER_DEBUG: what the package says of its own work.

Levels: 1 cache and build, 2 plan and FLOPs, 3 schedule and loop IR, 4 source, 5 after each pass.
Each level includes those below it. The text goes to the logger ``tnlayer``.
"""

from __future__ import annotations

import logging
import os

from ..errors import SpecError

_LEVELS = range(6)
logger = logging.getLogger("tnlayer")


def debug_level() -> int:
    """The level that TNLAYER_DEBUG asks for; 0 if it is not set.

    Raises:
        SpecError: the variable is not an integer from 0 to 5.
    """
    text = os.environ.get("TNLAYER_DEBUG", "0")
    if not text.isdecimal() or int(text) not in _LEVELS:
        msg = f"TNLAYER_DEBUG={text!r}: expected a level from {_LEVELS[0]} to {_LEVELS[-1]}"
        raise SpecError(msg)
    return int(text)


def debug(level: int, text: str) -> None:
    """Say something at a level: to stderr if TNLAYER_DEBUG asks for it, to the log always."""
    if level <= debug_level():
        logger.warning("%s", text)
    else:
        logger.debug("%s", text)
