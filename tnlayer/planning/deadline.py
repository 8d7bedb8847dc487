"""One deadline for all stages of planning.

How much is searched is decided by counts, which the network's size and the effort set: so a plan is
the same in every process. A clock only stops planning that takes absurdly long. Each stage asks the
same deadline before it begins something; once it has passed, stages give the best that they have.
What was cut short is marked, is never stored, and is not remembered by the caches in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import update_wrapper
from time import thread_time
from typing import Any, Generic, ParamSpec, TypeVar

from ..support.debug import logger
from ..support.locks import Lock

P = ParamSpec("P")
T = TypeVar("T")

# Keyword arguments that are of one search: results do not depend on them.
_OF_A_SEARCH = ("deadline", "search")

# Seconds that planning may take in all: a few times what the largest networks take.
DEADLINES = {"fast": 30.0, "default": 60.0, "high": 600.0}


class Deadline:
    """When planning has to end, and which stages it has cut short.

    Arguments:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = thread_time() + seconds
        self.cut: list[str] = []

    @property
    def left(self) -> float:
        """Seconds of this thread's processor time that are left."""
        return self.end - thread_time()

    def spend(self, seconds: float) -> None:
        """Count time that another thread or process took for this planning."""
        self.end -= seconds

    def passed(self, stage: str) -> bool:
        """Whether time is up. Who asks then stops with what it has, so its name is noted.

        Arguments:
            stage: what is about to be done, for reports: "ranking plans".
        """
        if thread_time() < self.end:
            return False
        if not self.cut:
            logger.warning("%s; the plan is not stored", self._text(stage))
        if stage not in self.cut:
            self.cut.append(stage)
        return True

    def __str__(self) -> str:
        """What was cut short, in words; "" if nothing was."""
        return self._text(", then ".join(self.cut)) if self.cut else ""

    def _text(self, stages: str) -> str:
        return (
            f"planning was cut short after {self.seconds:g} s, its deadline, while {stages}: "
            "this is the best plan until then"
        )


class Uncut(Generic[P, T]):
    """A function that remembers its results by its arguments, but for the deadline and the search
    that it is called in, and not those that a deadline cut short. Both have to be passed by name.

    Arguments:
        function: that takes a keyword ``deadline``, a Deadline or None.
        size: how many results are remembered.
    """

    def __init__(self, function: Callable[P, T], size: int) -> None:
        self._results: OrderedDict[Any, T] = OrderedDict()
        self._lock = Lock()
        self._size = size
        self.__wrapped__ = function
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **options: P.kwargs) -> T:
        named = {name: value for name, value in options.items() if name not in _OF_A_SEARCH}
        key = (args, tuple(sorted(named.items())))
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = self.__wrapped__(*args, **options)
        deadline = options.get("deadline")
        if isinstance(deadline, Deadline) and deadline.cut:
            return result
        with self._lock:
            self._results[key] = result
            if len(self._results) > self._size:
                self._results.popitem(last=False)
        return result

    def cache_clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._results.clear()


def remember_uncut(size: int) -> Callable[[Callable[P, T]], Uncut[P, T]]:
    """Decorate a function with :class:`Uncut`."""
    return lambda function: Uncut(function, size)
