"""Trials of a search in other processes or on other machines, by cotengra's executors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cotengra import parallel

from ..errors import SpecError
from ..graph.argument_checks import did_you_mean, shown

T = TypeVar("T")

KINDS = ("concurrent.futures", "dask", "loky", "ray", "threads")

# What the innermost with-block names; also for searches in the background.
_chosen: list[Any] = []


@contextmanager
def search_workers(workers: Any) -> Generator[None]:
    """Search for contraction orders on several workers while the block runs.

    Networks of more than 12 tensors are searched by seeded trials (6; with effort="high" 48), which
    do not depend on one another. So the plan is the same whatever the number of workers; only a
    search that its deadline cuts short may end elsewhere. Plans in the store are not searched.

    Arguments:
        workers: a number of processes on this machine; or, as cotengra takes it, "loky",
            "concurrent.futures", "threads", "dask" or "ray", which have to be installed; or an
            executor with ``submit``, such as concurrent.futures.ProcessPoolExecutor, a
            dask.distributed.Client or cotengra's RayExecutor.

    Raises:
        SpecError: it is none of these, or is not installed.

    >>> import tnlayer as tn
    >>> with tn.search_workers("threads"):
    ...     p = tn.plan(tn.topologies.mera(8, 2, 2), effort="fast")
    >>> p == tn.plan(tn.topologies.mera(8, 2, 2), effort="fast")
    True
    """
    _chosen.append(_pool(workers))
    try:
        yield
    finally:
        _chosen.pop()


def _pool(workers: Any) -> Any:
    is_number = isinstance(workers, int) and not isinstance(workers, bool) and workers > 0
    is_kind = isinstance(workers, str) and workers in KINDS
    if not (is_number or is_kind or callable(getattr(workers, "submit", None))):
        hint = did_you_mean(workers, KINDS) if isinstance(workers, str) else ""
        msg = (
            f"search_workers({shown(workers)}): expected a number of processes, one of "
            f"{', '.join(map(repr, KINDS))}, or an executor with submit(){hint}"
        )
        raise SpecError(msg)
    try:
        return parallel.parse_parallel_arg(workers)
    except ImportError as error:
        msg = (
            f"search_workers({shown(workers)}): {error}; install it, or give a number of processes"
        )
        raise SpecError(msg) from error


def run_all(work: Callable[..., T], calls: list[tuple[Any, ...]]) -> Iterator[T] | None:
    """The results of calls in their order, as workers have them; None where there are no workers.
    Calls that have not begun are cancelled when the iterator is closed."""
    if not _chosen or len(calls) < 2:
        return None
    return _results([parallel.submit(_chosen[-1], work, *call) for call in calls])


def _results(futures: list[Any]) -> Iterator[Any]:
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            cancel = getattr(future, "cancel", None)  # ray's have none
            if cancel is not None:
                cancel()
