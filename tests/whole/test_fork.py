"""Children that are forked while other threads hold the locks of the package."""

from __future__ import annotations

import os
import pickle
import re
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.waiting import comes_true
from tnlayer.backends.toolchains import cpp_build
from tnlayer.support import locks
from tnlayer.support.locks import Lock

PACKAGE = Path(tn.__file__).parent

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def in_child(call: Callable[[], object]) -> int:
    """The status of a forked child that makes a call; it is killed if it hangs."""
    child = os.fork()
    if child == 0:
        try:
            call()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = -1

    def ended() -> bool:
        nonlocal status
        found, status = os.waitpid(child, os.WNOHANG)
        return bool(found)

    if comes_true(ended):
        return status
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


def while_held(lock: object, call: Callable[[], None]) -> None:
    """Make a call while another thread is within a lock."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:  # type: ignore[attr-defined]
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        call()
    finally:
        done.set()
        thread.join()


def take(lock: Lock) -> None:
    with lock:
        pass


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_child_finds_locks_open(reentrant: bool) -> None:
    """What another thread holds at the fork, the child can take; the parent's stay as they were."""
    lock = Lock(reentrant=reentrant)

    def check() -> None:
        assert in_child(lambda: take(lock)) == 0
        assert not lock._inner.acquire(blocking=False)

    while_held(lock, check)
    take(lock)
    copy = pickle.loads(pickle.dumps(lock))
    assert type(copy._inner) is type(lock._inner)


def test_a_thread_may_fork_within_a_lock() -> None:
    """The child leaves the block that its parent entered."""
    lock = Lock()
    with lock:
        child = os.fork()
    if child == 0:
        take(lock)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(RuntimeError):
        lock.__exit__(None, None, None)


def test_all_locks_are_made_in_one_place() -> None:
    """No file of the package makes a lock that a child would not find open."""
    pattern = re.compile(r"threading(\.| import .*)(Lock|RLock|Condition|Semaphore|Event|Barrier)")
    found = {p.name for p in PACKAGE.rglob("*.py") if pattern.search(p.read_text())}
    # An event of told.py is of one piece of work and of the thread that does it: no child has it.
    assert found == {"locks.py", "told.py"}


class _Slow:
    entered, leave = threading.Event(), threading.Event()

    @cached_property
    def value(self) -> int:
        self.entered.set()
        self.leave.wait()
        return 1


def test_cached_properties_have_no_lock_that_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Python 3.12 a cached property is locked for all objects while one is computed."""
    monkeypatch.setattr(locks, "slow", _Slow, raising=False)  # as if it stood in the package
    thread = threading.Thread(target=lambda: _Slow().value)
    thread.start()
    _Slow.entered.wait()

    def compute() -> None:
        _Slow.leave = threading.Event()
        _Slow.leave.set()
        assert _Slow().value == 1

    try:
        assert in_child(compute) == 0
    finally:
        _Slow.leave.set()
        thread.join()


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_a_child_builds_what_another_thread_builds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While a thread of the parent is within a build, a child builds the same layer anew."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpp_build, "_loaded", {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # OpenMP's own threads do not survive a fork
    try:
        layer = tn.Layer(tn.topologies.tree(4, 2, 2), backend="cpp", effort="fast")
        x = torch.randn(3, 16)
        compiling, go = threading.Event(), threading.Event()
        compile_files = cpp_build.compile_files

        def wait(*arguments: object) -> object:
            compiling.set()
            if threading.current_thread() is thread:
                go.wait()
            return compile_files(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(cpp_build, "compile_files", wait)
        results: list[torch.Tensor] = []
        thread = threading.Thread(target=lambda: results.append(layer(x).detach()))
        thread.start()
        compiling.wait()
        expected = tmp_path / "y"
        try:
            assert in_child(lambda: torch.save(layer(x).detach(), expected)) == 0
        finally:
            go.set()
            thread.join()
        assert torch.equal(torch.load(expected), results[0])
    finally:
        torch.set_num_threads(threads)
