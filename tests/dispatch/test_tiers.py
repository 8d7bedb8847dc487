"""Torch's calls run first while kernels are built in the background; between two calls the kernels
take over."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.subprocesses import ROOT, run_python
from tests.support.waiting import comes_true
from tnlayer.dispatch import background, tiers
from tnlayer.dispatch.background import Job, Wanted
from tnlayer.dispatch.programs_by_batch import RangedProgram
from tnlayer.planning import batch_ranges
from tnlayer.planning.request import Request

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

# What all scripts begin with: kernels are what "auto" stands for, so that there is what to build.
SCRIPT = """
import json, os, time, warnings
import torch, tnlayer as tn
torch.set_num_threads(1)
net = tn.topologies.mera(4, 2, 2)
torch.manual_seed(0)
layer = tn.Layer(net, bias=True)
x = torch.randn(32, 16, requires_grad=True)
ranged = layer._programs_for(layer.dtype)[0]
apart = tn.Layer(net, bias=True, backend="torch")

def exact():
    apart.load_state_dict(layer.state_dict())
    return (x.double() @ apart.to_dense().double().mT + layer.bias.double()).detach()

def call():
    x.grad = None
    y = layer(x)
    y.sum().backward()
    assert torch.allclose(y.double(), exact(), atol=1e-5)
    return x.grad

def wait(seconds=120.0):
    end = time.monotonic() + seconds
    while not ranged.ranges and time.monotonic() < end:
        call()
        time.sleep(0.02)
"""


def script(code: str, cache: Path, **environment: str) -> Any:
    """Run a script with an empty cache; what it prints as JSON."""
    done = run_python(
        SCRIPT + code, TNLAYER_CACHE_DIR=str(cache), TNLAYER_BACKEND="cpp", **environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


# -- in processes of their own -------------------------------------------------------------------


@needs_compiler
def test_kernels_take_over_between_two_calls(tmp_path: Path) -> None:
    """Values are right before and after; explain() tells of both; a second process finds all."""
    code = """
first = call()
before = str(layer.explain(32))
wait()
second = call()
assert torch.allclose(first, second, atol=1e-5)
print(json.dumps([before, str(layer.explain(32)), [p.backend for _, p in ranged.ranges]]))
"""
    # The worker measures the machine, and plans by that: the layer has to take it up.
    before, after, backends = script(code, tmp_path, TNLAYER_PROFILE="")
    assert "batch 32: torch's calls run while kernels are built (" in before
    assert "compiled at the first call" not in before + after
    assert "compiled kernels run" in after
    assert "before what stays was built" in after
    assert "scaled to this machine" in after
    assert backends == ["cpp"]
    code = (
        "call()\nprint(json.dumps([[p.backend for _, p in ranged.ranges], str(layer.explain())]))"
    )
    backends, text = script(code, tmp_path, TNLAYER_PROFILE="")
    assert backends == ["cpp"]
    assert "first calls:" not in text


@needs_compiler
def test_no_process_outlives_the_interpreter(tmp_path: Path) -> None:
    """The worker is gone when the one that asked has ended, in the middle of its work."""
    pid = script("call()\nprint(tn.dispatch.background._QUEUE._process.pid)", tmp_path)
    assert not is_alive(pid)


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_one_that_is_killed(how: signal.Signals, tmp_path: Path) -> None:
    """Nor one that is killed, or stopped by Ctrl-C."""
    # Whoever starts tests in the background of a shell has Ctrl-C ignored, and so have they.
    code = SCRIPT + (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "call()\nprint(tn.dispatch.background._QUEUE._process.pid, flush=True)\ntime.sleep(100)"
    )
    environment = {"TNLAYER_CACHE_DIR": str(tmp_path), "TNLAYER_BACKEND": "cpp"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert is_alive(pid)
    process.send_signal(how)
    process.wait(30)
    process.stdout.close()
    assert comes_true(lambda: not is_alive(pid))


@needs_compiler
def test_what_cannot_be_built_is_told_once(tmp_path: Path) -> None:
    """A compiler that does a trial and no kernel: the layer goes on with torch's calls."""
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *--version*|*-dM*|*trial*) exec c++ "$@";; esac\n'
        'echo "no kernels today" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    code = """
end = time.monotonic() + 120
while not ranged.tiers.changes or not ranged.tiers.changes[0].error:
    assert time.monotonic() < end
    call()
    time.sleep(0.02)
for _ in range(3):
    call()
print(json.dumps([str(ranged.tiers.changes[0]), len(ranged.ranges)]))
"""
    text, count = script(code, tmp_path / "cache", CXX=str(compiler))
    assert "no kernels today" in text
    assert count == 0


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_while_its_parent_waits(tmp_path: Path) -> None:
    """A child has no part in its parent's worker, and does not end it."""
    code = """
call()
child = os.fork()
if not child:
    try:
        call()
        call()
    except BaseException:
        os._exit(1)
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
wait()
print(json.dumps([status, len(ranged.ranges)]))
"""
    assert script(code, tmp_path) == [0, 1]


@needs_compiler
@pytest.mark.parametrize("how", ["prepare", "deterministic", "tiers=False"])
def test_who_wants_the_kernels_at_once_waits(how: str, tmp_path: Path) -> None:
    """After prepare(), no call of the usual kinds compiles; other ways wait at the first call."""
    code = f"""
how = {how!r}
from tnlayer.backends.toolchains import run_compiler
built = []
compiled = run_compiler.compile_files
def counted(*arguments):
    built.append(1)
    return compiled(*arguments)
import tnlayer.backends.toolchains.cpp_build as cpp_build
cpp_build.compile_files = counted
if how == "deterministic":
    torch.use_deterministic_algorithms(True)
elif how == "tiers=False":
    layer = tn.Layer(net, bias=True, tiers=False)
    ranged = layer._programs_for(layer.dtype)[0]
else:
    layer.prepare((32, 7))
before = len(built)
call()
if how == "prepare":
    with torch.no_grad():
        layer(x)
    for batch in (32, 7):
        layer(torch.randn(batch, 16)).sum().backward()
        layer(torch.randn(batch, 16, requires_grad=True)).sum().backward()
changed = bool(ranged.tiers and ranged.tiers.changes)
print(json.dumps([before, len(built), len(ranged.ranges), changed]))
"""
    before, after, ranges, changed = script(code, tmp_path)
    assert ranges and not changed
    assert (after == before > 0) if how == "prepare" else after > before


# -- the change itself ---------------------------------------------------------------------------


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Job]]:
    """What is asked of a worker that does nothing until a test says so; nothing is stored."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path / "cache"))
    batch_ranges._memorised.cache_clear()  # else nothing is written to the new store
    asked: list[Job] = []

    def build(wanted: Wanted, key: object) -> Job:
        del key
        asked.append(Job(wanted))
        return asked[-1]

    monkeypatch.setattr(tiers, "build", build)
    monkeypatch.setattr(tiers, "can_build", lambda: True)
    monkeypatch.setattr(tiers, "is_overridden", lambda: False)
    monkeypatch.setattr(background._QUEUE, "read", lambda: None)
    yield asked


def made(**options: Any) -> tuple[tn.Layer, RangedProgram]:
    """A layer of some tensors with its programs."""
    layer = tn.Layer(tn.topologies.mera(6, 2, 2), **options)
    return layer, layer._programs_for(layer.dtype)[0]


def test_prepare_ends_what_the_background_began(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it explain() says that kernels run, and no call waits for the background."""
    monkeypatch.setenv("TNLAYER_BACKEND", "cpp")
    layer, ranged = made()
    assert layer.running() == ""
    for _ in range(3):
        layer(torch.randn(64, 64))
    assert layer.running() == layer.running((64,)) == "torch"
    assert "batch 64: torch's calls run while kernels are built (" in layer.explain()
    ready = has_compiler()
    layer.prepare((64,))
    assert ranged.tiers is not None and not ranged.tiers.open_changes
    found = layer.explain()
    assert (found.batch, layer.running()) == (64, found.backend)
    assert ("compiled kernels run" in found) == ready
    assert "while kernels are built" not in found and "at the first call" not in found
    assert "first calls: around batch 64: 3 calls ran as torch's calls in the" in found
    assert len(jobs) == 1


def test_a_sum_runs_kernels_when_all_networks_have_them(jobs: list[Job]) -> None:
    """While one of them is not built, it is told that none of the kernels runs."""
    layer = tn.Layer([tn.topologies.mera(6, 2, 2), tn.topologies.low_rank(64, 64, 2)])
    first, second = layer._programs_for(layer.dtype)
    layer(torch.randn(64, 64))
    second._final(64)
    assert second.ranges and not first.ranges
    assert layer.running() == "torch"


def test_reports_are_about_the_last_batch(jobs: list[Job]) -> None:
    """By default; before any call about what the layer was made for."""
    layer, _ = made(backend="torch")
    assert layer.explain().batch == 256
    for size in (64, 64, 3, 3, 64):
        layer(torch.randn(size, 64))
        assert layer.explain().batch == layer.costs().batch == size
    layer(torch.randn(0, 64))
    assert layer.explain().batch == 64  # an empty call tells nothing
    layer(torch.randn(5, 7, 64))
    assert layer.explain().batch == 35
    assert layer.explain((8,)).batch == layer.costs([8]).batch == 8
    assert copy.deepcopy(layer).explain().batch == 35
    with pytest.raises(tn.SpecError, match="pass one of them"):
        layer.explain((8, 9))


def test_a_range_of_sizes_is_asked_for_once(jobs: list[Job]) -> None:
    """Sizes that are planned together are one job; another range is another."""
    layer, _ = made()
    for batch in (64, 100, 255, 64, 300):
        layer(torch.randn(batch, 64))
    assert [job.wanted.batch for job in jobs] == [64, 300]


def test_a_plan_for_a_part_of_the_sizes_leaves_the_others_to_be_asked_for(
    jobs: list[Job],
) -> None:
    """What is planned together may get two plans: the sizes of the second wait for no foreground,
    and what was built for the first is not taken for theirs."""
    graph = tn.topologies.mera(6, 2, 2).freeze()
    first, second = (tiers.Tiers(graph, Request(), one_plan=False) for _ in range(2))
    ready: set[int] = set()

    def take(batch: int, *, is_built: bool) -> bool:
        del is_built
        return batch in ready

    assert first.serve(256, take)
    assert second.serve(400, take)
    assert [job.wanted.batch for job in jobs] == [256, 400]
    jobs[0].done = True
    ready.add(256)
    assert first.serve(400, take)
    assert [job.wanted.batch for job in jobs] == [256, 400, 400]
    jobs[2].done = True
    ready.add(400)
    assert not first.serve(400, take)
    assert [change.batch for change in first.changes] == [256, 400]
    assert not any(change.error for change in first.changes)


def test_a_job_is_shared_by_what_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal layers at one size share a job; another size of the group is another one."""
    graph = tn.topologies.mera(6, 2, 2).freeze()
    keys: list[object] = []
    monkeypatch.setattr(tiers, "can_build", lambda: True)
    monkeypatch.setattr(tiers, "build", lambda wanted, key: keys.append(key) or Job(wanted))
    for batch in (256, 256, 400):
        tiers.Tiers(graph, Request(), one_plan=False).serve(batch, lambda n, is_built: False)
    assert keys[0] == keys[1] != keys[2]


def test_a_call_is_of_one_tier(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward of a call is that of its forward, whatever came between."""
    layer, ranged = made()
    x = torch.randn(64, 64)
    y = layer(x)
    jobs[0].done = True
    monkeypatch.setattr(ranged, "_take", lambda batch, is_built: bool(ranged._final(batch)))
    layer(x)
    assert [p is ranged.first for _, p in ranged.ranges] == [False]
    node: Any = y.grad_fn
    while not hasattr(node, "step"):
        node = node.next_functions[0][0]
    assert node.step.program is ranged.first
    y.sum().backward()


def test_networks_that_are_summed_are_of_one_tier(jobs: list[Job]) -> None:
    """While one of them is not built, none of the kernels runs."""
    layer = tn.Layer([tn.topologies.mera(6, 2, 2), tn.topologies.low_rank(64, 64, 2)])
    first, second = layer._programs_for(layer.dtype)
    layer(torch.randn(64, 64))
    second._final(64)
    summed = layer._programs.summed((first, second), has_bias=False)
    assert second.ranges and not first.ranges
    assert summed.at(64).programs == (first.first, second.first)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "torch"},
        {"memory_limit": 10**9},
        {"log_scale": True},
        {"tiers": False},
    ],
    ids=str,
)
def test_where_there_is_one_tier(options: dict[str, Any], jobs: list[Job]) -> None:
    """What was asked for by name, what keeps a limit and what has a scale waits."""
    layer, ranged = made(**options)
    assert ranged.tiers is None
    layer(torch.randn(8, 64))
    assert not jobs


def test_a_failure_is_told_once(jobs: list[Job], caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line, explain() the reason, and torch goes on."""
    layer, _ = made()
    layer(torch.randn(64, 64))
    jobs[0].done, jobs[0].error = True, "BuildError: no disk"
    for _ in range(3):
        layer(torch.randn(64, 64))
    assert sum("no disk" in record.message for record in caplog.records) == 1
    assert "no disk" in layer.explain(64)
    assert layer.explain(64).backend == "torch"
    # Other sizes have plans of their own, and kernels that are built when asked for serve.
    assert "could not be built" not in layer.explain(4096)
    layer.prepare((64,))
    assert "could not be built" not in layer.explain(64)


@pytest.mark.parametrize("change", ["copy", "pickle"])
def test_copies_and_pickles(change: str, jobs: list[Job]) -> None:
    """A copy shares what is being built, a pickle asks for itself."""
    layer, _ = made()
    x = torch.randn(64, 64)
    y = layer(x)
    again = copy.deepcopy(layer) if change == "copy" else pickle.loads(pickle.dumps(layer))
    assert torch.equal(again(x), y)
    assert len(jobs) == (1 if change == "copy" else 2)


@pytest.mark.parametrize("executable", ["", "/opt/app/blender", "/nowhere/python3"])
def test_only_an_interpreter_is_started(executable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has Python inside is not started again."""
    assert background.can_build()
    monkeypatch.setattr(sys, "executable", executable)
    assert not background.can_build()


def test_initial_entries_do_not_depend_on_tiers(jobs: list[Job]) -> None:
    """The same seed gives the same parameters, whatever runs and wherever."""
    torch.manual_seed(3)
    first, _ = made(tiers=True)
    torch.manual_seed(3)
    second, _ = made(tiers=False)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_option_is_checked() -> None:
    """True or False."""
    with pytest.raises(tn.SpecError, match="tiers='no'"):
        tn.Layer(tn.topologies.low_rank(4, 4, 2), tiers="no")  # type: ignore[arg-type]
