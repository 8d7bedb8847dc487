"""Device profiles: stored, found again, shown; a shipped one serves where none was measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from tests.support.golden import Golden
from tests.support.small_profile import small_profile
from tnlayer.cli import profile_command
from tnlayer.cli.commands import main
from tnlayer.errors import SpecError
from tnlayer.hardware.detect_processor import cache_sizes, processor_name
from tnlayer.hardware.machine_load import load_note
from tnlayer.hardware.profile import load as device_load
from tnlayer.hardware.profile import stored
from tnlayer.hardware.profile.load import (
    LoadedProfile,
    ShippedProfile,
    keep_profile,
    load_profile,
    reload_profiles,
    shipped_profiles,
)
from tnlayer.hardware.profile.profile import Profile
from tnlayer.hardware.profile.stored import ProfileKey, key_of, read_profile, write_profile
from tnlayer.hardware.profile.text import profile_text
from tnlayer.support.file_store import cache_folder

VERSION = torch.__version__
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("own_profiles")


def of_this_machine(dtype: str = "float32", **changes: float) -> Profile:
    """A made-up profile that claims to be of this processor, these threads and this torch."""
    return small_profile(
        name=processor_name(),
        dtype=dtype,
        threads=torch.get_num_threads(),
        torch=VERSION,
        **changes,  # type: ignore[arg-type]
    )


def entry_path(profile: Profile) -> Path:
    """The file of a stored profile."""
    folder = cache_folder()
    assert folder is not None
    return folder / "profiles" / key_of(profile).entry


def restart() -> None:
    """Forget what this process knows; the files stay."""
    reload_profiles()


# -- the store -----------------------------------------------------------------------------------


def test_round_trip() -> None:
    """A stored profile reads back as what its document says, with a time."""
    profile = of_this_machine()
    written = write_profile(profile)
    assert read_profile(key_of(profile)) == written
    assert written.profile == Profile.from_document(profile.document())
    assert written.profile.digest == profile.digest
    assert len(written.measured) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cuda"},
        {"name": "Model S"},
        {"dtype": "float64"},
        {"threads": 3},
        {"torch": "1.0"},
    ],
)
def test_each_part_of_the_key_counts(change: dict[str, str | int]) -> None:
    """A profile of another device, processor, dtype, number of threads or torch is not found."""
    write_profile(small_profile())
    key = key_of(small_profile())
    fields = {name: getattr(key, name) for name in ("device", "name", "dtype", "threads", "torch")}
    assert read_profile(ProfileKey(**fields)) is not None
    assert read_profile(ProfileKey(**(fields | change))) is None  # type: ignore[arg-type]


def test_a_patch_of_torch_is_the_same_torch() -> None:
    """Of torch's version the first two numbers count, those of the torch that runs by default."""
    assert key_of(small_profile(torch="2.9.1+cpu")) == key_of(small_profile(torch="2.9.0"))
    assert key_of(of_this_machine()) == ProfileKey(
        "cpu", processor_name(), "float32", torch.get_num_threads()
    )


def test_measured_wins_over_shipped() -> None:
    """What was measured for exactly this counts from then on, here and in later processes."""
    before = load_profile()
    assert before.measured is None
    assert before.source.startswith("shipped with tnlayer")
    kept = keep_profile(of_this_machine())
    assert load_profile() == kept
    assert "measured here on" in kept.source
    restart()
    assert load_profile() == kept
    # It says nothing about another dtype.
    assert load_profile("float64").measured is None


def test_plans_follow_a_new_profile() -> None:
    """Plans that were ranked before are ranked anew once another profile holds."""
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    first = tn.Layer(net)._programs_for(torch.float32)[0].planned.choice
    keep_profile(of_this_machine())
    second = tn.Layer(net)._programs_for(torch.float32)[0].planned.choice
    assert first.seconds != second.seconds


def as_shipped(profile: Profile) -> ShippedProfile:
    """A profile as one that ships."""
    return ShippedProfile(
        profile.device, profile.name, profile.dtype, profile.threads, profile.document
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_choose_the_nearest_shipped(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shipped profiles of a dtype the one with the nearest number of threads serves."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    found = load_profile().profile
    assert found.dtype == "float32"
    distances = {abs(p.threads - threads) for p in shipped_profiles() if p.dtype == "float32"}
    assert abs(found.threads - threads) == min(distances)


def test_complex_takes_the_shipped_profile_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """complex128 goes by float64, complex64 and half precision by float32; the text says which
    dtype it was."""
    shipped = tuple(small_profile(dtype=dtype) for dtype in ("float64", "float32"))
    monkeypatch.setattr(device_load, "shipped", lambda: tuple(map(as_shipped, shipped)))
    restart()
    halves = dict.fromkeys(("complex64", "float16", "bfloat16"), "float32")
    for dtype, part in {"complex128": "float64", **halves}.items():
        found = load_profile(dtype)
        assert found.profile.dtype == part
        assert part in found.source


@pytest.mark.parametrize(
    ("processor", "taken"),
    [
        ("Maker One", "Maker One"),
        ("Maker One 77 (R)", "Maker One"),
        ("Other Two", "Other Two"),
        ("Other Three 9 16-Core", "Other Two"),
        ("Unknown", "Maker One"),
    ],
)
def test_the_processor_chooses_the_nearest_shipped(
    processor: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same processor, then one with words of its name, then the first; threads come last."""
    threads = torch.get_num_threads()
    shipped = (
        small_profile(name="Maker One", threads=threads + 1),
        small_profile(name="Other Two", threads=threads + 1),
        small_profile(name="Other Two", dtype="float64", threads=threads),
    )
    monkeypatch.setattr(device_load, "shipped", lambda: tuple(map(as_shipped, shipped)))
    monkeypatch.setattr(device_load, "processor_name", lambda device: processor)
    restart()
    found = load_profile("float32").profile
    assert (found.name, found.dtype) == (taken, "float32")


def test_a_profile_of_the_older_schema_serves() -> None:
    """What schema 2 measured reads, without compiled multiply-adds, until this one measures."""
    profile = of_this_machine()
    old = {k: v for k, v in profile.document().items() if k != "multiply_add"} | {"schema": 2}
    key = replace(key_of(profile), schema=2)
    record = {"made_for": key.document, "measured": "2026-01-01 00:00", "profile": old}
    stored._STORE.write(key.entry, json.dumps(record).encode())
    found = load_profile()
    assert found.measured == "2026-01-01 00:00"
    assert found.profile.multiply_add is None
    keep_profile(of_this_machine(multiply_add=1e-10))
    restart()
    assert load_profile().profile.multiply_add == 1e-10


@pytest.mark.parametrize("change", [{"schema": 1}, {"schema": 2}, {"multiply_add": 0.0}])
def test_documents_keep_to_their_schema(change: dict[str, float]) -> None:
    """Another schema, a field that a schema has not, and a rate that is no time are refused."""
    with pytest.raises(SpecError, match="device profile"):
        Profile.from_document(small_profile().document() | change)


def test_no_cache_still_keeps_it_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be stored, a measured profile holds until the process ends."""
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    kept = keep_profile(of_this_machine())
    assert load_profile() == kept
    restart()
    assert load_profile().measured is None


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a bit": lambda content: content.replace(b"Model", b"Mobel").replace(b"seconds", b"secunds"),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_file_is_a_miss(
    damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipped profile serves, the log has a line, and measuring again repairs the file."""
    monkeypatch.setenv("TNLAYER_DEBUG", "1")
    kept = keep_profile(of_this_machine())
    path = entry_path(kept.profile)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    restart()
    assert load_profile().measured is None
    assert "is not used" in caplog.text
    keep_profile(of_this_machine())
    restart()
    assert load_profile().measured is not None


WRONG_RECORDS = {
    "no object": "[]",
    "a field less": '{"made_for": {}, "profile": {}}',
    "no profile": '{"made_for": {}, "measured": "2026-01-01 00:00", "profile": {"schema": 1}}',
    "no JSON": "{",
}


@pytest.mark.parametrize("wrong", sorted(WRONG_RECORDS))
def test_a_wrong_record_is_a_miss(wrong: str) -> None:
    """A whole file with something else in it is not used."""
    key = key_of(small_profile())
    stored._STORE.write(key.entry, WRONG_RECORDS[wrong].encode())
    assert read_profile(key) is None


def test_a_profile_of_another_processor_is_a_miss() -> None:
    """A record whose profile is not of its key is not used, though each alone is right."""
    profile, other = small_profile(), small_profile(name="Model S")
    record = {
        "made_for": key_of(profile).document,
        "measured": "2026-01-01 00:00",
        "profile": other.document(),
    }
    stored._STORE.write(key_of(profile).entry, json.dumps(record).encode())
    assert read_profile(key_of(profile)) is None


def test_debug_says_which_profile(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TNLAYER_DEBUG=1 names the profile and where it comes from, once."""
    monkeypatch.setenv("TNLAYER_DEBUG", "1")
    load_profile()
    load_profile()
    lines = [record.message for record in caplog.records if "device profile" in record.message]
    assert len(lines) == 1
    assert "shipped with tnlayer" in lines[0]


# -- text ----------------------------------------------------------------------------------------


def test_text(golden: Golden) -> None:
    """The tables of a fixed profile, with the caches named."""
    caches = {"L1": 2**15, "L2": 2**21}
    golden.check(profile_text(small_profile(), "made up", caches))


def test_text_without_caches() -> None:
    """Without the sizes of the caches rows are named by bytes alone; str() is that text."""
    text = profile_text(small_profile())
    assert text == profile_text(small_profile())
    assert "128 KiB" in text
    assert "L2" not in text


def test_cache_sizes(tmp_path: Path) -> None:
    """Data caches are read by level; what cannot be read, and instruction caches, are left out."""
    rows = (("Data", "1", "32K"), ("Instruction", "1", "64K"), ("Unified", "3", "8M"))
    for number, (kind, level, size) in enumerate(rows):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "index9").mkdir()
    assert cache_sizes(tmp_path) == {"L1": 2**15, "L3": 2**23}
    assert cache_sizes(tmp_path / "missing") == {}


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Measuring gives the made-up profile; the calls are listed."""
    calls: list[tuple[str, str, int]] = []

    def measure(device: str, dtype: torch.dtype) -> LoadedProfile:
        name = str(dtype).removeprefix("torch.")
        calls.append((device, name, torch.get_num_threads()))
        return keep_profile(of_this_machine(name))

    monkeypatch.setattr(profile_command, "measure_device", measure)
    return calls


def test_command_measures_once(
    measured: list[tuple[str, str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first call measures, the next shows what was measured; --measure measures again."""
    assert main(["profile"]) == 0
    assert "measured here on" in capsys.readouterr().out
    assert main(["profile"]) == 0
    assert "measured here on" in capsys.readouterr().out
    assert len(measured) == 1
    assert main(["profile", "--measure"]) == 0
    assert len(measured) == 2


def test_command_only_shows(
    measured: list[tuple[str, str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """--no-measure shows the shipped profile."""
    assert main(["profile", "--no-measure"]) == 0
    out = capsys.readouterr().out
    assert "shipped with tnlayer" in out
    assert "matrix product" in out
    assert measured == []


def test_command_json(
    measured: list[tuple[str, str, int]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """--json has a profile a dtype, which reads back; --threads holds while it is measured."""
    before = torch.get_num_threads()
    arguments = ["profile", "--json", "--dtype", "float32", "float64", "--threads", "1"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)["profiles"]
    assert measured == [("cpu", "float32", 1), ("cpu", "float64", 1)]
    assert torch.get_num_threads() == before
    for one, dtype in zip(found, ("float32", "float64"), strict=True):
        profile = Profile.from_document(one["profile"])
        assert (profile.dtype, profile.threads, profile.digest) == (dtype, 1, one["digest"])
        assert one["measured"]
        assert one["rates"]["square 256x256x256, flop/s"] > 0


def test_command_writes_a_profile_to_ship(
    measured: list[tuple[str, str, int]], tmp_path: Path
) -> None:
    """--output writes the bare document, as the shipped files have it."""
    path = tmp_path / "cpu.json"
    assert main(["profile", "--output", str(path)]) == 0
    assert Profile.from_document(json.loads(path.read_text())) == load_profile().profile


def test_command_without_a_cache(
    measured: list[tuple[str, str, int]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing can be stored, the text says so."""
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    assert main(["profile"]) == 0
    assert "not stored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dtype", "int8"], "int8"),
        (["--device", "tpu"], "tpu"),
        (["--threads", "0"], "--threads 0"),
        (["--output", "a.json", "--dtype", "float32", "float64"], "--output"),
        (["--output", "/no/such/folder/a.json", "--no-measure"], "cannot be written"),
    ],
)
def test_wrong_options(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and one line that quotes what was wrong."""
    assert main(["profile", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_here(capsys: pytest.CaptureFixture[str]) -> None:
    """Measuring a GPU that is not there is an error, and no CPU is measured in its place."""
    assert main(["profile", "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


# -- shipped files -------------------------------------------------------------------------------


def test_shipped_profiles_are_named_by_what_they_are() -> None:
    """Each shipped file reads, and its name says its device, dtype and threads, then the processor
    of all but the first machine; no two are for the same."""
    folder = ROOT / "tnlayer" / "hardware" / "profile" / "shipped"
    names = sorted(path.stem for path in folder.glob("*.json"))
    kinds = [f"{p.device}-{p.dtype}-{p.threads}" for p in shipped_profiles()]
    assert len(names) == len(kinds)
    for name, kind in zip(names, kinds, strict=True):
        assert name == kind or name.startswith(f"{kind}-")
    assert {"cpu-float32-1", "cpu-float32-2", "cpu-float64-2"} <= set(names)
    keys = {(p.device, p.dtype, p.threads, p.name) for p in shipped_profiles()}
    assert len(keys) == len(kinds)
    assert all(p.multiply_add for p in shipped_profiles())


def test_the_list_of_shipped_profiles_is_right() -> None:
    """It names every file, in the order of their names, and what each was measured on."""
    folder = ROOT / "tnlayer" / "hardware" / "profile"
    listed = json.loads((folder / "shipped.json").read_text())
    assert [one["file"].removesuffix(".json") for one in listed] == sorted(
        path.stem for path in (folder / "shipped").glob("*.json")
    )
    for one in listed:
        document = json.loads((folder / "shipped" / one["file"]).read_text())
        assert {name: document[name] for name in one if name != "file"} == {
            name: value for name, value in one.items() if name != "file"
        }


def test_shipped_profiles_are_read_from_an_installed_copy(tmp_path: Path) -> None:
    """They are found beside the package wherever it lies, from any working directory."""
    site = tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tnlayer", site / "tnlayer", ignore=ignored)
    text = (
        "import tnlayer\nfrom tnlayer.hardware.profile.load import shipped_profiles\n"
        "print(tnlayer.__file__, len(shipped_profiles()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in done.stdout
    assert int(done.stdout.split()[-1]) == len(shipped_profiles())


def test_what_else_ran_is_told_and_all_can_be_forgotten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was busy before it was measured is told of, in later processes, too."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.9, 0.0, 0.0), raising=False)
    assert load_note() == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (11.04, 0.0, 0.0), raising=False)
    note = load_note()
    assert note == "other programs ran: load 11 on 2 cores"
    profile = of_this_machine()
    assert keep_profile(profile, note).source.endswith(f"({note})")
    reload_profiles()  # as another process
    assert note in load_profile().source
    assert main(["profile", "--reset"]) == 0
    assert "shipped with tnlayer" in capsys.readouterr().out
    assert read_profile(key_of(profile)) is None


@pytest.mark.parametrize("note", [7, "two\nlines", "x" * 300], ids=["number", "lines", "long"])
def test_a_note_is_a_line(note: object) -> None:
    """A stored profile whose note is something else is not read."""
    profile = of_this_machine()
    keep_profile(profile, "a note")
    record = json.loads(entry_of(profile))
    assert record["note"] == "a note"
    stored._STORE.write(key_of(profile).entry, json.dumps({**record, "note": note}).encode())
    assert read_profile(key_of(profile)) is None


def entry_of(profile: Profile) -> bytes:
    """What is stored of a profile."""
    found = stored._STORE.read(key_of(profile).entry)
    assert found is not None
    return found
