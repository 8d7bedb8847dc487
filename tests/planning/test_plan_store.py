"""The store of plans: damage is a miss, what is found is right, and many may write at once."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnlayer as tn
from tests.support.graphs import relabelled
from tests.support.mutations import mutated, mutated_bytes
from tests.support.plan_numbers import computes
from tests.support.strategies import SMALL_BOUNDS, fixed_series, networks
from tests.support.subprocesses import run_workers
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_document import document_from_plan
from tnlayer.ir.steps import Value
from tnlayer.planning import batch_ranges, plan_store
from tnlayer.planning.plan_of_order import make_plan
from tnlayer.planning.plan_store import PlanKey, StoredPlan, find_plan, read_plans, write_plan
from tnlayer.support.file_store import Store
from tnlayer.support.json_text import canonical_json, parse_json

GRAPH = canonicalise(tn.topologies.tensor_train((2, 3), (3, 2), rank=2).freeze()).graph
OTHER = canonicalise(tn.topologies.tensor_train((2, 3), (3, 2), rank=3).freeze()).graph
PLANS = Store("plans", limit=plan_store.MAX_PLAN_BYTES)


def key_of(graph: Graph, **changes: Any) -> PlanKey:
    """The key of a canonical graph."""
    made_for = PlanKey(canonicalise(graph).key(), "train", "float32", "cpu", minimize="combo-64")
    return replace(made_for, **changes)


KEY = key_of(GRAPH)
ENTRY = f"{KEY.base}/1-64.json"


def planned(graph: Graph, batch: int) -> Plan:
    """A new plan, from the search itself."""
    return make_plan.__wrapped__(graph, batch=batch)


def plan_through_store(key: PlanKey, graph: Graph, batch: int = 16) -> tuple[Plan, bool]:
    """As a planner does: look, else plan and store; the plan, and whether it was found."""
    found = find_plan(key, graph, batch)
    if found is not None:
        return found.plan, True
    plan = planned(graph, batch)
    write_plan(key, StoredPlan(BatchRange(1, 64), plan, {"milliseconds": 1.5}))
    return plan, False


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def entry(cache: Path) -> Path:
    """The file of a stored plan."""
    assert plan_through_store(KEY, GRAPH) == (planned(GRAPH, 16), False)
    return cache / "plans" / ENTRY


# -- what is found -------------------------------------------------------------------------------


def test_a_plan_is_found_again(entry: Path) -> None:
    """What is found equals what was stored, notes included."""
    assert entry.exists()
    assert plan_through_store(KEY, GRAPH) == (planned(GRAPH, 16), True)
    found = find_plan(KEY, GRAPH, 64)
    assert found == StoredPlan(BatchRange(1, 64), planned(GRAPH, 16), {"milliseconds": 1.5})
    assert read_plans(KEY, GRAPH) == (found,)
    assert find_plan(KEY, GRAPH, 65) is None


def test_batch_ranges() -> None:
    """Ranges are inclusive, sorted by size and not by text; the last may be open."""
    ranges: list[tuple[int, int | None]] = [(1, 1), (2, 9), (10, 99), (100, None)]
    for low, high in reversed(ranges):
        write_plan(KEY, StoredPlan(BatchRange(low, high), planned(GRAPH, low)))
    assert [(p.batches.least, p.batches.greatest) for p in read_plans(KEY, GRAPH)] == ranges
    for batch, low in ((1, 1), (2, 2), (9, 2), (10, 10), (99, 10), (100, 100), (10**12, 100)):
        found = find_plan(KEY, GRAPH, batch)
        assert found is not None
        assert (found.batches.least, found.plan.batch) == (low, low)
    assert find_plan(KEY, GRAPH, 0) is None


def test_a_plan_takes_the_place_of_those_it_overlaps() -> None:
    """The newest range counts; of two that overlap all the same, the lower one does."""
    for low, high in ((1, 10), (11, 20), (21, 30), (31, None)):
        write_plan(KEY, StoredPlan(BatchRange(low, high), planned(GRAPH, low)))
    write_plan(KEY, StoredPlan(BatchRange(15, 25), planned(GRAPH, 20)))
    assert [plan.batches.least for plan in read_plans(KEY, GRAPH)] == [1, 15, 31]
    assert find_plan(KEY, GRAPH, 11) is None
    left = PLANS.read(f"{KEY.base}/15-25.json")
    write_plan(KEY, StoredPlan(BatchRange(11, 20), planned(GRAPH, 11)))
    assert left is not None
    PLANS.write(f"{KEY.base}/15-25.json", left)
    assert [plan.batches.least for plan in read_plans(KEY, GRAPH)] == [1, 11, 31]


def test_a_file_whose_name_is_no_range_is_left_alone(entry: Path) -> None:
    """Neither read nor in the way of the others."""
    for name in ("64-1.json", "0-5.json", "open-3.json", "1-64"):
        entry.with_name(name).write_bytes(entry.read_bytes())
    assert [plan.batches for plan in read_plans(KEY, GRAPH)] == [BatchRange(1, 64)]


def test_what_a_stored_plan_may_be() -> None:
    """A range must hold the batch that the plan was made for, and notes are plain values."""
    plan = planned(GRAPH, 16)
    for low, high in ((17, 20), (1, 14), (0, 20)):
        with pytest.raises(ValueError, match="is no plan for"):
            StoredPlan(BatchRange(low, high), plan)
    for notes in ({"a": [1]}, {"a": None}, {1: "a"}, {"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises(ValueError, match="notes"):
            StoredPlan(BatchRange(1, 20), plan, notes)  # pyright: ignore[reportArgumentType]
    stored = StoredPlan(BatchRange(1, None), plan, {"a": 1, "b": "x", "c": 0.5, "d": True})
    assert pickle.loads(pickle.dumps(stored)) == stored
    assert hash(stored) == hash(replace(stored))


def test_an_aborted_plan_is_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    """The plan of a planning that was cut short must not be kept for ever."""
    with caplog.at_level(logging.DEBUG, logger="tnlayer"):
        write_plan(KEY, StoredPlan(BatchRange(1, 64), replace(planned(GRAPH, 16), aborted=True)))
    assert "not stored" in caplog.text
    assert PLANS.entries() == ()


def test_switched_off(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TNLAYER_CACHE=0: nothing is found and nothing is stored."""
    before = entry.read_bytes()
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    assert plan_through_store(KEY, GRAPH) == (planned(GRAPH, 16), False)
    assert read_plans(KEY, GRAPH) == ()
    plan_store.clear_plans()
    assert entry.read_bytes() == before
    monkeypatch.delenv("TNLAYER_CACHE")
    plan_store.clear_plans()
    assert not entry.exists()


def test_the_file_can_be_read_alone(entry: Path) -> None:
    """A stored plan is canonical JSON, says what it is for, and has a line with its checksum."""
    text, checksum = entry.read_text().splitlines()
    document = json.loads(text)
    assert checksum.startswith("sha256:")
    assert text == canonical_json(document)
    assert document["made_for"]["objective"] == "train"
    assert (document["low"], document["high"]) == (1, 64)
    assert document["key"] == KEY.of_range(BatchRange(1, 64))
    assert entry.parent.name == KEY.base


# -- keys ----------------------------------------------------------------------------------------


def test_every_part_of_the_key_counts() -> None:
    """A plan that was made for anything else is not found; no two keys share a folder."""
    changes: dict[str, list[Any]] = {
        "network": ["0" * 64],
        "objective": ["infer"],
        "dtype": ["float64", "bfloat16"],
        "device": ["cuda"],
        "memory_limit": [0, 1, 10**9],
        "effort": ["fast", "high"],
        "minimize": ["flops", ""],
        "wanted": [(), (True,), (True, False), (False, True)],
        "profile": ["1" * 64],
        "versions": [(), (("cotengra", None),), (("cotengra", "0.8"),), (("torch", "2.9"),)],
    }
    assert set(changes) == {field.name for field in fields(PlanKey)}
    keys = [KEY, *(replace(KEY, **{n: v}) for n, values in changes.items() for v in values)]
    assert len({key.base for key in keys}) == len(keys)
    write_plan(KEY, StoredPlan(BatchRange(1, 64), planned(GRAPH, 16)))
    for key in keys[1:]:
        assert find_plan(key, GRAPH, 16) is None
    assert find_plan(replace(KEY), GRAPH, 16) is not None


def test_versions_name_all_that_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """cotengra and cotengrust or its absence, tnlayer, torch's major and minor, the schema."""
    found = dict(plan_store.versions())
    assert set(found) == {"cotengra", "cotengrust", "schema", "tnlayer", "torch"}
    assert found["torch"] is not None
    assert found["torch"].count(".") == 1
    assert KEY.versions == plan_store.versions()
    known = plan_store.version

    def without_rust(package: str) -> str:
        if package == "cotengrust":
            raise plan_store.PackageNotFoundError
        return known(package)

    monkeypatch.setattr(plan_store, "version", without_rust)
    plan_store.versions.cache_clear()
    try:
        assert dict(plan_store.versions())["cotengrust"] is None
        assert key_of(GRAPH).base != KEY.base
    finally:
        plan_store.versions.cache_clear()


def test_the_key_is_the_same_everywhere() -> None:
    """A known key has a known hash: a change of it makes all stored plans stale."""
    key = PlanKey("0" * 64, "train", "float32", "cpu", versions=(("schema", "1"),))
    assert key.base == "6ff9ba8bd92b499cb7a940182f32f21cb75dc9bea30055db31f3d44cbb3cf940"
    assert key.of_range(BatchRange(1, None)) != key.of_range(BatchRange(1, 1))


@fixed_series(21, 80, shrink=False)
@given(net=networks(bounds=SMALL_BOUNDS), seed=st.integers(0, 1000))
def check_relabelled(net: tn.Network, seed: int) -> None:
    """The same network under other names, in another order, finds the plan."""
    graph = net.freeze()
    form, again = canonicalise(graph), canonicalise(relabelled(graph, seed))
    options = {"dtype": "complex64" if graph.is_complex else "float32"}
    key = PlanKey(form.key(), "train", options["dtype"], "cpu")
    other = PlanKey(again.key(), "train", options["dtype"], "cpu")
    assert key.base == other.base
    plan = make_plan(form.graph, batch=16, dtype=options["dtype"])
    write_plan(key, StoredPlan(BatchRange(1, None), plan))
    found = find_plan(other, again.graph, 99)
    assert found is not None
    assert found.plan == plan


def test_relabelled_networks_hit() -> None:
    """Renaming and reordering always find the stored plan, and it is verified for them."""
    check_relabelled()


def distinct_networks(count: int) -> list[Graph]:
    """Networks of two or three tensors that differ in sizes or in structure."""
    found: list[Graph] = []
    for number in range(count):
        rest, kind = divmod(number, 4)
        rest, i = divmod(rest, 10)
        rest, r = divmod(rest, 10)
        rest, j = divmod(rest, 10)
        net = tn.Network()
        net.input(i=i + 1, k=rest + 1)
        net.bond(r=r + 1)
        net.output(j=j + 1)
        net.tensor("A", "i r k" if kind != 1 else "i k r")
        net.tensor("B", "r j" if kind != 2 else "j r", trainable=kind != 3)
        found.append(net.freeze())
    return found


def test_ten_thousand_networks_never_collide() -> None:
    """10,000 different networks have 10,000 different keys."""
    graphs = distinct_networks(10_000)
    assert len(set(graphs)) == 10_000
    keys = {key_of(graph, network=canonicalise(graph).key()).base for graph in graphs}
    assert len(keys) == 10_000


# -- damage --------------------------------------------------------------------------------------


class Planted:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


def document_of(entry: Path) -> dict[str, Any]:
    """The document in a stored file."""
    return parse_json(entry.read_text().splitlines()[0])


def rewritten(entry: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A file with a changed document and the right checksum."""
    document = document_of(entry)
    change(document)
    PLANS.write(ENTRY, canonical_json(document).encode())


def with_text(text: str | bytes) -> Callable[[Path], None]:
    """Damage: another payload with the right checksum."""

    def damage(_: Path) -> None:
        PLANS.write(ENTRY, text.encode() if isinstance(text, str) else text)

    return damage


def with_change(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Damage: a changed document with the right checksum."""

    def damage(entry: Path) -> None:
        rewritten(entry, change)

    return damage


def text_with(old: str, new: str) -> Callable[[Path], None]:
    """Damage: another text in the payload, with the right checksum."""

    def damage(entry: Path) -> None:
        text = entry.read_text().splitlines()[0]
        assert old in text
        PLANS.write(ENTRY, text.replace(old, new, 1).encode())

    return damage


def flip(entry: Path) -> None:
    """One bit in the middle is another."""
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)


def link(entry: Path) -> None:
    """A symlink to the real file in another place."""
    entry.symlink_to(entry.rename(entry.parent.parent / "moved"))


def other_networks_file(entry: Path) -> None:
    """The whole file of another network."""
    key = key_of(OTHER)
    write_plan(key, StoredPlan(BatchRange(1, 64), planned(OTHER, 16)))
    (entry.parent.parent / key.base / entry.name).replace(entry)


def other_networks_document(_: Path) -> None:
    """The whole document of another network, with a checksum for this name."""
    key = key_of(OTHER)
    write_plan(key, StoredPlan(BatchRange(1, 64), planned(OTHER, 16)))
    payload = PLANS.read(f"{key.base}/1-64.json")
    assert payload is not None
    PLANS.write(ENTRY, payload)


def other_networks_plan(entry: Path) -> None:
    """The plan of another network in a document that is right otherwise."""
    rewritten(entry, lambda d: d.update(plan=document_from_plan(planned(OTHER, 16))))


def other_range(entry: Path) -> None:
    """The file of one batch range under the name of another."""
    write_plan(KEY, StoredPlan(BatchRange(65, 128), planned(GRAPH, 100)))
    payload = PLANS.read(f"{KEY.base}/65-128.json")
    assert payload is not None
    assert entry.exists()
    PLANS.write(ENTRY, payload)


def planted_pickle(entry: Path) -> None:
    """A pickle that would make a folder, bare."""
    entry.write_bytes(pickle.dumps(Planted(entry.parent / "trace")))


def planted_pickle_with_checksum(entry: Path) -> None:
    """The same with the right checksum."""
    PLANS.write(ENTRY, pickle.dumps(Planted(entry.parent / "trace")))


def huge(entry: Path) -> None:
    """A terabyte, none of it on the disk."""
    with entry.open("ab") as file:
        file.truncate(2**40)


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Damage: something else in the place of the file."""

    def damage(entry: Path) -> None:
        entry.unlink()
        make(entry)

    return damage


def first_step(document: dict[str, Any]) -> dict[str, Any]:
    """The first step of the plan in a document."""
    return document["plan"]["steps"][0]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda entry: entry.write_bytes(entry.read_bytes()[:-100]),
    "cut in half": lambda entry: entry.write_bytes(
        entry.read_bytes()[: entry.stat().st_size // 2]
    ),
    "empty": lambda entry: entry.write_bytes(b""),
    "one bit": flip,
    "two files in one": lambda entry: entry.write_bytes(entry.read_bytes() * 2),
    "zeros": lambda entry: entry.write_bytes(bytes(entry.stat().st_size)),
    "symlink": link,
    "folder": replaced(Path.mkdir),
    "pipe": replaced(os.mkfifo),
    "others may write": lambda entry: entry.chmod(0o666),
    "huge": huge,
    "large": with_text(b" " * plan_store.MAX_PLAN_BYTES),
    "planted pickle": planted_pickle,
    "planted pickle with checksum": planted_pickle_with_checksum,
    "other network's file": other_networks_file,
    "other network's document": other_networks_document,
    "other network's plan": other_networks_plan,
    "other range": other_range,
    "no JSON": with_text("plan"),
    "half a document": with_text('{"key":'),
    "empty document": with_text("{}"),
    "list": with_text("[]"),
    "null": with_text("null"),
    "number": with_text("1e999"),
    "endless number": with_text("9" * 10_000),
    "deep nesting": with_text("[" * 100_000),
    "deep nesting in a document": text_with('"notes":{', '"notes":{"a":' + "[" * 50_000),
    "no UTF-8": with_text(b'{"key": "\xff\xfe"}'),
    "lone surrogate": text_with('"notes":{', '"notes":{"\\ud800":[],'),
    "duplicate keys": text_with('"low":1', '"low":1,"low":1'),
    "NaN": text_with("1.5", "NaN"),
    "infinity": text_with("1.5", "-Infinity"),
    "infinity by size": text_with("1.5", "1e999"),
    "foreign schema": with_change(lambda d: d["made_for"]["versions"].update(schema="0")),
    "stale version": with_change(lambda d: d["made_for"]["versions"].update(cotengra="0.1")),
    "foreign key": with_change(lambda d: d.update(key="0" * 64)),
    "key of another type": with_change(lambda d: d.update(key=None)),
    "unknown key": with_change(lambda d: d.update(code="import os")),
    "missing key": with_change(lambda d: d.pop("notes")),
    "range as text": with_change(lambda d: d.update(low="1")),
    "range as boolean": with_change(lambda d: d.update(low=True)),
    "notes as list": with_change(lambda d: d.update(notes=[])),
    "nested note": with_change(lambda d: d["notes"].update(a={})),
    "many notes": with_change(lambda d: d["notes"].update({str(n): n for n in range(99)})),
    "no plan": with_change(lambda d: d.update(plan=None)),
    "plan as text": with_change(lambda d: d.update(plan=canonical_json(d["plan"]))),
    "batch out of range": with_change(lambda d: d["plan"].update(batch=66)),
    "other dtype": with_change(lambda d: d["plan"].update(dtype="float64")),
    "aborted": with_change(lambda d: d["plan"].update(aborted=True)),
    "no steps": with_change(lambda d: d["plan"].update(steps=[])),
    "unknown step": with_change(lambda d: first_step(d).update(kind="exec")),
    "operands exchanged": with_change(lambda d: first_step(d).update(left=first_step(d)["right"])),
    "conjugated": with_change(lambda d: first_step(d)["left"].__setitem__(1, True)),
    "other sizes": with_change(lambda d: d["plan"]["leg_sizes"][0].__setitem__(1, 7)),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_miss_and_replanned(
    entry: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of damage: no exception, a line in the log, the right plan anew, then found."""
    DAMAGE[name](entry)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="tnlayer"):
        assert find_plan(KEY, GRAPH, 16) is None
        assert "is not used" in caplog.text or name == "folder"
        assert [plan.batches.least for plan in read_plans(KEY, GRAPH)] in ([], [65])
    assert plan_through_store(KEY, GRAPH) == (planned(GRAPH, 16), False)
    assert plan_through_store(KEY, GRAPH) == (planned(GRAPH, 16), name != "folder")
    assert not (entry.parent / "trace").exists()


def test_the_pickle_would_run(tmp_path: Path) -> None:
    """The planted pickle is a real one: unpickling it does leave a trace."""
    pickle.loads(pickle.dumps(Planted(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


def test_damage_to_the_folder(entry: Path, cache: Path) -> None:
    """A file or a symlink in place of a plan's folder is a miss; other plans are still found."""
    write_plan(key_of(OTHER), StoredPlan(BatchRange(1, 64), planned(OTHER, 16)))
    folder = entry.parent.rename(cache / "away")
    for make in (lambda: entry.parent.symlink_to(folder), lambda: entry.parent.write_bytes(b"")):
        make()
        assert plan_through_store(KEY, GRAPH) == (planned(GRAPH, 16), False)
        assert find_plan(KEY, GRAPH, 16) is None
        assert find_plan(key_of(OTHER), OTHER, 16) is not None
        entry.parent.unlink()


def test_odd_names_in_the_folder(entry: Path) -> None:
    """Files that no plan is called are passed over."""
    content = entry.read_bytes()
    for name in ("0-64.json", "01-64.json", "64.json", "1-64", "1-x.json", "2-open.txt", "9-.json"):
        (entry.parent / name).write_bytes(content)
    (entry.parent / "65-open.json").write_bytes(content)
    assert [plan.batches.least for plan in read_plans(KEY, GRAPH)] == [1]
    assert find_plan(KEY, GRAPH, 65) is None


@pytest.mark.parametrize(
    "notes",
    [
        {"forward": "abc"}, {"forward": ""}, {"forward": "1e5"}, {"forward": -1.0},
        {"forward": True}, {"backward": 10**400}, {"backward": "nan"}, {"reason": 5},
    ],
    ids=str,
)  # fmt: skip
def test_notes_of_a_choice_are_not_believed(cache: Path, notes: dict[str, Any]) -> None:
    """Where a stored plan tells no times or no reason, the layer is planned anew, and stored."""
    net = tn.topologies.tensor_train((2, 3), (3, 2), rank=2)

    def text() -> str:
        batch_ranges._memorised.cache_clear()
        return str(tn.Layer(net, backend="torch", batch=16).explain())

    expected = text()
    (path,) = cache.glob("plans/*/*.json")
    key = path.relative_to(cache / "plans").as_posix()
    document = document_of(path)
    PLANS.write(key, canonical_json({**document, "notes": document["notes"] | notes}).encode())
    assert text() == expected
    assert document_of(path) == document
    batch_ranges._memorised.cache_clear()


@pytest.mark.parametrize("kind", ["bytes", "document"])
def test_five_hundred_mutated_files(entry: Path, kind: str) -> None:
    """Each is a miss, or a plan that computes the network by numbers."""
    content, document = entry.read_bytes(), document_of(entry)
    found = 0
    for seed in range(500):
        if kind == "bytes":
            entry.write_bytes(mutated_bytes(content, seed))
        else:
            PLANS.write(ENTRY, canonical_json(mutated(document, seed)).encode())
        stored = find_plan(KEY, GRAPH, 16)
        if stored is not None:
            found += 1
            assert computes(stored.plan, GRAPH), f"seed {seed}"
            assert stored.batches == BatchRange(1, 64)
    # A change of bytes never has the right checksum; some changes of a document do no harm.
    assert found <= 1 if kind == "bytes" else 1 <= found < 100
    entry.write_bytes(content)
    assert find_plan(KEY, GRAPH, 16) is not None


# -- many processes ------------------------------------------------------------------------------


def test_thirty_two_writers_at_once(cache: Path, tmp_path: Path) -> None:
    """32 processes write 50 plans each into one folder: none fails, all entries are valid."""
    plan = planned(GRAPH, 16)
    handed = tmp_path / "handed"
    handed.write_bytes(pickle.dumps((GRAPH, plan)))
    assert run_workers("crowd", str(handed), cache=cache) == {"codes": [0] * 32}
    for number in range(50):
        plans = read_plans(PlanKey(f"network {number}", "train", "float32", "cpu"), GRAPH)
        assert [found.batches.least for found in plans] == list(range(1, 80, 10))
        assert all(found.plan == replace(plan, batch=found.batches.least) for found in plans)
    assert len(PLANS.entries()) == 400
    assert not list(cache.rglob("*.tmp"))


def check_processes(cache: Path, count: int) -> None:
    """Keys and plans are the same in each process."""
    seeds = random.Random(0).sample(range(2**32), count)
    found = [run_workers("hashes", cache=cache, PYTHONHASHSEED=str(seed)) for seed in seeds]
    assert all(hashes == found[0] for hashes in found)
    assert len({key for key, _ in found[0]["hashes"]}) == len(found[0]["hashes"]) == 9
    seeded = [plan["proven_optimal"] for _, plan in found[0]["hashes"]]
    assert True in seeded
    assert False in seeded


def test_the_same_plan_in_eight_processes(cache: Path) -> None:
    """Keys and plans of nine networks do not depend on PYTHONHASHSEED."""
    check_processes(cache, 8)


@pytest.mark.full
def test_the_same_plan_in_a_hundred_processes(cache: Path) -> None:
    """The same for 100 processes."""
    check_processes(cache, 100)


def test_saved_values_are_no_forward_plan() -> None:
    """A backward plan is never handed out as the plan of a network."""
    backward = tn.backward_plan(planned(GRAPH, 16))
    assert backward.saved or backward.ports[0] == Value("g", backward.ports[0].legs)
    write_plan(KEY, StoredPlan(BatchRange(1, 64), backward))
    assert find_plan(KEY, GRAPH, 16) is None


def test_plans_that_were_used_longest_ago_go_first(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the bound of the cache, plans of whatever network go by age; what is read is young."""
    monkeypatch.setenv("TNLAYER_CACHE_LIMIT", "1")
    assert not plan_through_store(KEY, GRAPH)[1]
    for number in range(4):
        PLANS.write(f"old{number}/1-64.json", bytes(270_000))
        os.utime(cache / "plans" / f"old{number}" / "1-64.json", (number + 1, number + 1))
    os.utime(cache / "plans" / ENTRY, (0, 0))
    assert plan_through_store(KEY, GRAPH)[1]  # now the youngest
    other = key_of(OTHER)
    assert not plan_through_store(other, OTHER)[1]
    assert sorted(path.name for path in (cache / "plans").iterdir()) == sorted(
        [KEY.base, other.base, "old2", "old3"]
    )
    assert plan_through_store(KEY, GRAPH)[1] and plan_through_store(other, OTHER)[1]
