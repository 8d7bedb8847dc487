"""Work in the foreground that takes longer than a second says what it is, on stderr.

Once for each piece of work; a terminal gets a bar, with the seconds so far, that goes away again.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

# Seconds without a word; seconds between two looks of the bar.
_PATIENCE, _TICK = 1.0, 0.25
_WIDTH, _BLOCK = 20, 5
_active = threading.local()


@contextmanager
def told(what: str, *, after: float | None = None, bar: bool = True) -> Generator[None]:
    """Say what is done, if it takes longer than a second.

    Of pieces of work inside each other the outermost one speaks.

    Arguments:
        what: in words, such as "compiling the forward of 'MERA' (once on this machine)".
        after: seconds without a word, where a second is too soon.
        bar: False where a terminal has a bar of the work itself: then only files are told.
    """
    if getattr(_active, "inside", False):
        yield
        return
    done = threading.Event()
    teller = threading.Thread(target=_tell, args=(what, done, after, bar), daemon=True)
    _active.inside = True
    try:
        teller.start()
        yield
    finally:
        _active.inside = False
        done.set()
        teller.join()


def _tell(what: str, done: threading.Event, after: float | None, bar: bool) -> None:
    """The teller: it waits, and speaks if there is still something to say."""
    began = time.monotonic()
    if done.wait(_PATIENCE if after is None else max(after, _PATIENCE)):
        return
    stream = sys.stderr
    with suppress(AttributeError, OSError, ValueError):  # closed, or none at all
        if not stream.isatty():
            stream.write(f"tnlayer: {what} ...\n")
            stream.flush()
            return
        if not bar:
            return
        place = 0
        while not done.wait(_TICK):
            shown = _bar(place)
            stream.write(f"\rtnlayer: {what} [{shown}] {time.monotonic() - began:.0f} s ")
            stream.flush()
            place += 1
        stream.write(f"\r\033[Ktnlayer: {what}: {time.monotonic() - began:.1f} s\n")
        stream.flush()


def _bar(place: int) -> str:
    """A block that moves to and fro, for nobody knows how long a compiler takes.

    >>> _bar(0), _bar(2)
    ('#####...............', '..#####.............')
    """
    room = _WIDTH - _BLOCK
    place = room - abs(place % (2 * room) - room)
    return "." * place + "#" * _BLOCK + "." * (room - place)
