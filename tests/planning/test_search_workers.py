"""Searches over several workers find what one finds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

import tnlayer as tn
from tests.support.contraction_orders import MERA, find
from tnlayer.errors import SpecError
from tnlayer.planning import contraction_order, search_workers


class Counting:
    """An executor that counts what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run it now."""
        self.count += 1
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


def test_the_order_is_the_same_whatever_the_number() -> None:
    alone = [find(MERA, minimize, "default") for minimize in ("flops", "combo-64")]
    for pool in (ProcessPoolExecutor(2, get_context("spawn")), ThreadPoolExecutor(3)):
        with pool, tn.search_workers(pool):
            assert [find(MERA, one, "default") for one in ("flops", "combo-64")] == alone


def test_each_trial_goes_to_a_worker_and_none_after_the_block() -> None:
    counting = Counting()
    with tn.search_workers(counting):
        find(MERA, effort="fast")
        given = counting.count
    find(MERA, effort="fast")
    assert given == counting.count == contraction_order._TRIALS["fast"]


def test_a_plan_is_the_same() -> None:
    net = tn.topologies.tensor_train((2,) * 16, (2,) * 16, 3)
    with tn.search_workers("threads"):
        found = tn.plan(net, effort="fast")
    assert found == tn.plan(net, effort="fast")


def test_time_on_workers_counts() -> None:
    """Trials that took the deadline's time are the last ones, as where they run here."""
    with tn.search_workers(Counting()):
        found = find(MERA, effort="high", deadline=0.05)
    assert found.aborted


def test_inner_blocks_end_before_outer_ones() -> None:
    outer, inner = Counting(), Counting()
    with tn.search_workers(outer):
        with tn.search_workers(inner):
            find(MERA)
        find(MERA)
    assert outer.count == inner.count > 0


def test_a_name_is_given_to_cotengra(monkeypatch: pytest.MonkeyPatch) -> None:
    """dask and ray are no dependencies of ours."""
    given: list[str] = []

    def parse(name: str) -> Counting:
        given.append(name)
        return Counting()

    monkeypatch.setattr(search_workers.parallel, "parse_parallel_arg", parse)
    for name in ("dask", "ray"):
        with tn.search_workers(name):
            find(MERA)
    assert given == ["dask", "ray"]


@pytest.mark.parametrize("workers", [0, -1, True, "dusk", None, 2.5, object()])
def test_what_is_no_worker_is_refused(workers: Any) -> None:
    with (
        pytest.raises(SpecError, match="expected a number of processes"),
        tn.search_workers(workers),
    ):
        pass


def test_a_library_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(name: str) -> None:
        msg = f"No module named {name!r}"
        raise ImportError(msg)

    monkeypatch.setattr(search_workers.parallel, "parse_parallel_arg", parse)
    with pytest.raises(SpecError, match=r"'ray'.*install it"), tn.search_workers("ray"):
        pass
