"""A progress bar on stderr for what takes seconds; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress(what: str, total: int, *, shown: bool = True) -> Generator[Callable[[], None]]:
    """Gives a function to call after each step; the bar goes away at the end, or at an error.

    It is tqdm's bar where tqdm is installed, else a plain line.

    Arguments:
        what: what is going on, in a word or two.
        total: number of steps.
        shown: False to show nothing at all.
    """
    stream = sys.stderr
    if not shown or stream is None or not stream.isatty():
        yield lambda: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            stream.write(f"\r{what}: {done}/{total}")
            stream.flush()

        try:
            yield advance
        finally:
            stream.write("\n")
            stream.flush()
        return
    with tqdm(total=total, desc=what, file=stream, leave=False) as bar:

        def step() -> None:
            bar.update()

        yield step


@contextmanager
def progress_share(what: str, *, shown: bool = True) -> Generator[Callable[[float], None]]:
    """As :func:`progress` for what knows its share done: gives a function of that, from 0 to 1.

    Arguments:
        what: what is going on, in a word or two.
        shown: False to show nothing at all.
    """
    total, done = 100, 0
    with progress(what, total, shown=shown) as advance:

        def reach(share: float) -> None:
            nonlocal done
            for _ in range(int(min(1.0, share) * total) - done):
                advance()
                done += 1

        yield reach
