"""Processes that the tests of the store start: crowds of writers, writers that are killed.

It loads single files of the package without its ``__init__`` and hence without torch, so that a
process starts in a blink; all others are forked from it. It prints one line of JSON.

    python tests/support/store_workers.py crowd PICKLE | kills | unmapped | hashes
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import signal
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    package = types.ModuleType("tnlayer")
    package.__path__ = [str(Path(__file__).parents[2] / "tnlayer")]
    sys.modules["tnlayer"] = package

from tnlayer.support.cache_folder import cache_folder
from tnlayer.support.file_store import Store

WRITERS, PLANS, WRITERS_A_RANGE = 32, 50, 4
KILLS = 100
ENTRY = "folder/entry"
OLD, NEW = b"old" * 100_000, b"new" * 100_000


def fork(work: Callable[[], None]) -> int:
    """Run some work in another process; its exit status says whether it went well."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def exit_code(child: int) -> int:
    """Wait for a process."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# -- many writers at once ------------------------------------------------------------------------


def crowd(path: str) -> dict[str, Any]:
    """Many processes write and read plans of the same networks, four of them each same file."""
    from tnlayer.ir.batch_range import BatchRange
    from tnlayer.planning.plan_store import PlanKey, StoredPlan, find_plan, write_plan

    graph, plan = pickle.loads(Path(path).read_bytes())

    def write_all(writer: int) -> None:
        low = 1 + 10 * (writer // WRITERS_A_RANGE)
        made = replace(plan, batch=low)
        for step in range(PLANS):
            key = PlanKey(f"network {(writer + step) % PLANS}", "train", "float32", "cpu")
            write_plan(key, StoredPlan(BatchRange(low, low + 9), made, {"writer": writer}))
            found = find_plan(key, graph, low + 5)
            assert found is not None
            assert (found.batches, found.plan) == (BatchRange(low, low + 9), made)
            assert int(found.notes["writer"]) // WRITERS_A_RANGE == writer // WRITERS_A_RANGE

    children = [fork(lambda writer=writer: write_all(writer)) for writer in range(WRITERS)]
    return {"codes": [exit_code(child) for child in children]}


# -- writers that are killed ---------------------------------------------------------------------


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


class HalfFile:
    """A file that takes half of what is written to it, and then the process dies."""

    def __init__(self, descriptor: int, _: str) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> HalfFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write(self, content: bytes) -> None:
        """Write half, and die."""
        os.write(self.descriptor, content[: len(content) // 2])
        die()


def die_half_written() -> None:
    """Die when half of the content is in the temp file."""
    os.fdopen = HalfFile  # pyright: ignore[reportAttributeAccessIssue]


def die_around(name: str, *, after: bool, call: int = 1) -> Callable[[], None]:
    """Die before or after the given call of a function of os."""

    def arrange() -> None:
        function, calls = getattr(os, name), 0

        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and not after:
                die()
            result = function(*arguments, **options)
            if calls == call:
                die()
            return result

        setattr(os, name, wrapped)

    return arrange


# Where a writer dies, and what must be read then.
POINTS: dict[str, tuple[Callable[[], None], bytes]] = {
    "half written": (die_half_written, OLD),
    "before the sync": (die_around("fsync", after=False), OLD),
    "after the sync": (die_around("fsync", after=True), OLD),
    "before the rename": (die_around("replace", after=False), OLD),
    "after the rename": (die_around("replace", after=True), NEW),
    "before the folder's sync": (die_around("fsync", after=False, call=2), NEW),
}


def kill_at_points(store: Store) -> list[str]:
    """Kill a writer at each point in turn; what went wrong."""
    wrong: list[str] = []
    for name, (arrange, expected) in POINTS.items():
        store.write(ENTRY, OLD)

        def work(arrange: Callable[[], None] = arrange) -> None:
            arrange()
            store.write(ENTRY, NEW)

        if exit_code(fork(work)) != -signal.SIGKILL:
            wrong.append(f"{name}: the writer was not killed")
        if store.read(ENTRY) != expected:
            wrong.append(f"{name}: not what was expected")
    return wrong


def kill_at_random(store: Store, kills: int) -> list[str]:
    """Kill a writer that writes without end, some time after it began; what went wrong."""
    moment, wrong = random.Random(1), list[str]()
    for number in range(kills):
        begun, tell = os.pipe()

        def work(tell: int = tell) -> None:
            while True:
                store.write(ENTRY, OLD)
                store.write(ENTRY, NEW)
                os.write(tell, b".")

        child = fork(work)
        os.read(begun, 1)
        time.sleep(moment.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        exit_code(child)
        os.close(begun)
        os.close(tell)
        if store.read(ENTRY) not in (OLD, NEW):
            wrong.append(f"kill {number}: neither old nor new")
    return wrong


def kill() -> dict[str, Any]:
    """Kill writers at each point and at random; the store must be whole each time."""
    store = Store("killed")
    wrong = [*kill_at_points(store), *kill_at_random(store, KILLS - len(POINTS))]
    base = cache_folder()
    assert base is not None
    left = [*base.rglob("*.tmp")]
    entries = store.entries()
    store.write(ENTRY, OLD)
    whole = store.read(ENTRY) == OLD
    return {"wrong": wrong, "left": len(left), "entries": entries, "whole": whole}


# -- a user that nobody knows --------------------------------------------------------------------


def unmapped() -> dict[str, Any]:
    """As a user without a name and without a home: with no folder named, and with one."""
    named = os.environ.pop("TNLAYER_CACHE_DIR")
    for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME", "USERNAME"):
        os.environ.pop(name, None)
    os.setgroups([])
    os.setgid(54321)
    os.setuid(54321)
    store = Store("plans")
    without = cache_folder()
    store.write(ENTRY, OLD)
    missed = store.read(ENTRY) is None
    os.environ["TNLAYER_CACHE_DIR"] = named
    store.write(ENTRY, OLD)
    return {"without": without, "missed": missed, "read": store.read(ENTRY) == OLD}


# -- plans -----------------------------------------------------------------------------------------


def hashes() -> dict[str, Any]:
    """The keys of some networks and their plans at two batch sizes."""
    from tnlayer import topologies
    from tnlayer.backends.builtin.register import register_builtin
    from tnlayer.graph.canonical import canonicalise
    from tnlayer.ir.plan_document import document_from_plan
    from tnlayer.planning.plan_store import PlanKey
    from tnlayer.planning.planner import plan

    register_builtin()
    networks = (
        topologies.mera(8, 2, 3),
        topologies.mera(12, 2, 2),
        topologies.brickwall(8, 2, 5),
        topologies.tensor_train([2] * 7, [2] * 7, 3),
        topologies.cp((4, 4), (4, 4), 3),
        topologies.block_term((2, 2), (2, 2), terms=3, rank=2),
        topologies.peps(3, 3, 2, 2),
        topologies.tensor_ring((2, 1) * 7, (1, 2) * 7, 2),
        topologies.butterfly(32),
    )
    found: list[Any] = []
    for net in networks:
        key = PlanKey(canonicalise(net.freeze()).key(), "train", "float32", "cpu")
        documents = [document_from_plan(plan(net, batch=batch)) for batch in (1, 500)]
        text = json.dumps(documents, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(
            [key.base, {"digest": digest, "proven_optimal": documents[0]["proven_optimal"]}]
        )
    return {"hashes": found}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "crowd": crowd,
    "kills": kill,
    "unmapped": unmapped,
    "hashes": hashes,
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
