"""The search keeps its promises: bounded, deterministic, and a clock or Ctrl-C breaks nothing."""

from __future__ import annotations

import io
import itertools
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import tnlayer as tn
from tests.support.contraction_orders import MERA, find
from tests.support.plan_numbers import computes
from tnlayer.errors import SpecError
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.passes.lower_graph import make_terms
from tnlayer.planning import contraction_order
from tnlayer.planning import deadline as clock
from tnlayer.planning.check_plan import check_plan
from tnlayer.planning.contraction_order import Found
from tnlayer.planning.deadline import DEADLINES, Deadline
from tnlayer.planning.plan_of_order import make_plan
from tnlayer.support.progress import progress

SMALL = canonicalise(tn.topologies.tensor_train((2, 3, 2), (3, 2, 2), rank=2).freeze()).graph
OBJECTIVES = ("flops", "write", "size", "max", "combo", "combo-3.5", "limit", "limit-64")


def brickwall(legs: int, depth: int) -> Graph:
    """Gates of a circuit."""
    return canonicalise(tn.topologies.brickwall(legs, 2, depth).freeze()).graph


# -- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("effort", "trials"), [("fast", 2), ("default", 6), ("high", 48)])
def test_the_number_of_trials_is_fixed(
    monkeypatch: pytest.MonkeyPatch, effort: str, trials: int
) -> None:
    """As many trials as the effort says, seeded 0, 1, ...; a third for more than 100 terms."""
    seeds: list[int] = []

    def count(problem: Any, minimize: str, seed: int, clock: Any) -> Any:
        seeds.append(seed)
        return contraction_order._greedy(problem)

    monkeypatch.setattr(contraction_order, "_trial", count)
    find(MERA, effort=effort)
    assert seeds == list(range(trials))
    seeds.clear()
    find(brickwall(24, 16), effort=effort)
    assert seeds == list(range(max(1, trials // 3)))


@pytest.mark.parametrize("minimize", OBJECTIVES)
def test_every_objective_beyond_exhaustive_search(minimize: str) -> None:
    """Each objective works beyond 12 tensors, and its own order is no worse than the greedy one."""
    terms = make_terms(MERA, is_complex=False)
    legs = [term.legs for term in terms.terms]
    output = [leg for axis in terms.output for leg in axis]
    sizes = {**dict(terms.leg_sizes), "b": 64}
    found, greedy = find(MERA, minimize), find(MERA, minimize, deadline=0.0)
    scores = [
        contraction_order._score(legs, output, sizes, f.pairs, minimize) for f in (found, greedy)
    ]
    assert scores[0] <= scores[1]
    assert not found.optimal


@pytest.mark.parametrize("minimize", ["flops-3", "max-1", "size-64", "combo-", "limit-x", ""])
def test_a_weight_where_there_is_none(minimize: str) -> None:
    """Only combo and limit take a weight; anything else is an error of ours."""
    with pytest.raises(SpecError, match="minimize="):
        find(MERA, minimize)


# -- the clock -----------------------------------------------------------------------------------


def clock_that_runs_out(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """After so many looks at the clock an hour has passed."""
    seen = itertools.count()
    monkeypatch.setattr(clock, "thread_time", lambda: 0.0 if next(seen) <= looks else 3600.0)


def score(found: Found, graph: Graph, minimize: str = "combo-64") -> float:
    """The objective of an order at batch 64."""
    terms = make_terms(graph, is_complex=False)
    output = [leg for axis in terms.output for leg in axis]
    sizes = {**dict(terms.leg_sizes), "b": 64}
    legs = [term.legs for term in terms.terms]
    return contraction_order._score(legs, output, sizes, found.pairs, minimize)


LONG = canonicalise(tn.topologies.tensor_ring((1,) * 130, (1,) * 130, rank=3).freeze()).graph


@pytest.mark.parametrize("graph", [MERA, LONG], ids=["mera", "ring"])
@pytest.mark.parametrize("looks", [0, 1, 2, 5, 12])
def test_the_clock_leaves_the_best_order_until_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, looks: int, graph: Graph
) -> None:
    """Whenever the time is over there is an order, no worse than the greedy one and no better than
    that of the whole search; a warning says so once."""
    greedy, whole = find(graph, deadline=0.0), find(graph)
    assert (greedy.optimal, greedy.aborted, whole.aborted) == (False, True, False)
    caplog.clear()
    clock_that_runs_out(monkeypatch, looks)
    found = find(graph, deadline=30.0)
    assert found.aborted
    assert score(whole, graph) <= score(found, graph) <= score(greedy, graph)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cut short after 30 s" in caplog.text
    assert "searching for an order of contraction" in caplog.text


def test_a_clock_that_does_not_run_out_decides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """With any deadline that is kept the order is the same, and nothing is said."""
    found = find(MERA, deadline=1e9)
    assert found == find(MERA, deadline=1e6) == find(MERA)
    assert not found.aborted
    assert find(SMALL) == find(SMALL, deadline=1e9)
    assert find(SMALL).optimal
    assert caplog.text == ""


def test_deadlines_are_generous() -> None:
    """Each effort has a deadline of half a minute or more."""
    assert set(DEADLINES) == set(contraction_order._TRIALS)
    assert min(DEADLINES.values()) >= 30


@pytest.mark.parametrize("graph", [SMALL, MERA], ids=["small", "large"])
def test_an_aborted_plan_says_so(caplog: pytest.LogCaptureFixture, graph: Graph) -> None:
    """The plan is right, is not called optimal, its text tells why, and it is not remembered."""
    plan = make_plan(graph, batch=3, deadline=Deadline(0.0))
    assert plan.aborted
    assert not plan.proven_optimal
    assert "(best until planning was cut short)" in str(plan)
    assert "cut short after 0 s" in caplog.text
    assert check_plan(plan, graph) == ""
    assert computes(plan, graph)
    assert plan == make_plan(graph, batch=3, deadline=Deadline(0.0))
    assert not make_plan(graph, batch=3, deadline=Deadline(1e9)).aborted


# -- interrupts ----------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, as at a prompt: a process that a shell starts in the
    background, or under nohup, ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("trial", [0, 1, 5])
def test_an_interrupted_search_breaks_nothing(monkeypatch: pytest.MonkeyPatch, trial: int) -> None:
    """Ctrl-C in any trial goes through; the next call plans as if nothing had been."""
    net = tn.topologies.mera(12, 2, 2)
    graph = canonicalise(net.freeze()).graph
    expected = make_plan.__wrapped__(graph, batch=7000 + trial, minimize="combo-64")
    whole = contraction_order._trial

    def interrupted(problem: Any, minimize: str, seed: int, clock: Any) -> Any:
        if seed == trial:
            signal.raise_signal(signal.SIGINT)
        return whole(problem, minimize, seed, clock)

    with monkeypatch.context() as patch:
        patch.setattr(contraction_order, "_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tn.plan(net, batch=7000 + trial, minimize="combo-64")
    assert tn.plan(net, batch=7000 + trial, minimize="combo-64") == expected


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_inside_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of the refinement, and with the progress bar on."""
    looks = itertools.count()

    def interrupt() -> float:
        if next(looks) == 9:
            signal.raise_signal(signal.SIGINT)
        return 0.0

    expected = find(MERA, effort="high")
    with monkeypatch.context() as patch:
        watch(patch)
        patch.setattr(clock, "thread_time", interrupt)
        with pytest.raises(KeyboardInterrupt):
            find(MERA, effort="high", deadline=600.0)
    assert find(MERA, effort="high") == expected


# -- the progress bar ----------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def watch(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in place of stderr; pytest exchanges stderr after a fixture has run."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_high_effort_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm's bar with the number of trials, on a terminal only, and only at high effort."""
    terminal = watch(monkeypatch)
    find(MERA, effort="high")
    assert "contraction order" in terminal.getvalue()
    assert "/48" in terminal.getvalue()


def test_high_effort_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain line where tqdm is not installed."""
    terminal = watch(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    find(MERA, effort="high")
    lines = terminal.getvalue()
    assert lines.startswith("\rcontraction order: 1/48\rcontraction order: 2/48")
    assert lines.endswith("\rcontraction order: 48/48\n")


@pytest.mark.parametrize("effort", ["fast", "default"])
def test_lower_efforts_show_nothing(monkeypatch: pytest.MonkeyPatch, effort: str) -> None:
    """What takes a second needs no bar."""
    terminal = watch(monkeypatch)
    find(MERA, effort=effort)
    assert terminal.getvalue() == ""


def test_nothing_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bar in a file, and none where there is no stderr at all."""
    file = io.StringIO()
    for stream in (file, None):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("work", 3) as advance:
            advance()
    assert file.getvalue() == ""


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_a_bar_goes_away_at_an_error(monkeypatch: pytest.MonkeyPatch, with_tqdm: bool) -> None:
    """The error comes through, and the cursor stands at the beginning of a line."""
    terminal = watch(monkeypatch)
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ZeroDivisionError), progress("work", 3) as advance:
        advance()
        _ = 1 // 0
    assert terminal.getvalue()[-1] in "\r\n"
