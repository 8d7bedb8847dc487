"""Bad weather: broken compilers, folders from which nothing runs, full disks, kills, false notes.

With backend "cpp" it is a BuildError with the compiler's words, with "auto" torch and a line in
explain().
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.waiting import comes_true
from tnlayer.backends.builtin.cpp import CppBackend
from tnlayer.backends.builtin.mixed import MixedBackend
from tnlayer.backends.toolchains import (
    build_folder,
    cpp_build,
    find_cpp_compiler,
    library,
    processes,
)
from tnlayer.backends.toolchains.build_folder import PREFIX, sweep
from tnlayer.backends.toolchains.library import load_bytes
from tnlayer.backends.toolchains.processes import Processes

pytestmark = [
    pytest.mark.skipif(not has_compiler(), reason="no C++ compiler"),
    pytest.mark.skipif(os.name != "posix", reason="compilers here are shell scripts"),
]
ANSWER = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache and a folder for temporary files of its own; nothing is known of compilers."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TNLAYER_BACKEND", raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(cpp_build, "_loaded", {})
    monkeypatch.setattr(find_cpp_compiler, "_failures", {})
    find_cpp_compiler._inspect.cache_clear()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """Makes a script the compiler; "REAL" in its text is the real one."""
    real = " ".join(find_cpp_compiler.find_compiler().command)

    def make(text: str) -> str:
        path = tmp_path / "compiler"
        path.write_text(f"#!/bin/bash\n{text.replace('REAL', real)}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return str(path)

    return make


def net() -> tn.Network:
    return tn.topologies.tensor_train((3, 4), (4, 3), rank=2)


def runs_as_torch(layer: tn.Layer) -> None:
    """A training step of a layer gives what torch gives."""
    other = tn.Layer(net(), backend="torch", batch=16, bias=layer.bias is not None)
    other.load_state_dict(layer.state_dict())
    layer.zero_grad()
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    for one in (layer, other):
        one(x).square().sum().backward()
    for mine, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad)


ASKED = 'case "$*" in *--version*|*-dM*) exec REAL "$@";; esac; '
BROKEN = {
    "says nothing": ("exit 0", "its library cannot be used"),
    "fails": ("echo broken installation >&2; exit 7", "broken installation"),
    "fails on stdout": ("echo broken installation; exit 7", "broken installation"),
    "is killed": ("kill -9 $$", "exit code -9"),
    "version is no text": (
        'if [ "$1" = --version ]; then printf "g++ \\xe9\\n"; exit 0; fi; exec REAL "$@"',
        "not understood",
    ),
    "error is no text": (ASKED + 'printf "erreur \\xe9\\x1b[1m\\n" >&2; exit 1', "erreur"),
    "no libgomp": (ASKED + 'echo "cannot find -lgomp" >&2; exit 1', "cannot find -lgomp"),
    "writes nothing": (ASKED + "echo all is well; exit 0", "all is well"),
    "writes garbage": (ASKED + 'for o in "$@"; do l=$o; done; echo hi > "$l"', "cannot be used"),
    "chatty": ("yes complaint | head -c 30000000 >&2; exit 1", "complaint"),
    "long lines": ("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", "xxx"),
    "is a folder": ("", "no C\\+\\+ compiler found"),
    "is no program": ("", "does not run"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_compilers(
    kind: str,
    script: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The compiler's words are in the BuildError, and in explain() of the layer that torch runs."""
    text, words = BROKEN[kind]
    path = script(text)
    if kind == "is a folder":
        monkeypatch.setenv("CXX", str(tmp_path))
    if kind == "is no program":
        Path(path).write_bytes(b"\x7fELFnonsense")
    with pytest.raises(tn.BuildError, match=words) as error:
        tn.Layer(net(), backend="cpp", batch=16)
    assert len(str(error.value)) < 4100
    assert str(error.value).isprintable() or "\x1b" not in str(error.value)
    layer = tn.Layer(net(), batch=16)
    runs_as_torch(layer)
    explained = str(layer.explain())
    assert "backend: torch (asked for 'auto'; " in explained
    assert re.search(words, explained)
    assert not list((tmp_path / "tmp").iterdir())


def test_commands_with_arguments(script: Callable[[str], str], monkeypatch: Any) -> None:
    """CXX="ccache g++" is a program and its argument; each of them is part of the key."""
    wrapper = script('exec "$@"')
    real = find_cpp_compiler.COMPILERS[0]
    monkeypatch.setenv("CXX", f"{wrapper} {real} -DWEATHER=2")
    compiler = tn_compiler = find_cpp_compiler.find_compiler()
    assert compiler.command == (wrapper, real, "-DWEATHER=2")
    assert cpp_build.load_library("int x = WEATHER;" + ANSWER).answer() == 42
    monkeypatch.setenv("CXX", real)
    assert find_cpp_compiler.find_compiler() != tn_compiler
    monkeypatch.setenv("CXX", 'g++ "')
    with pytest.raises(tn.BuildError, match="CXX="):
        find_cpp_compiler.find_compiler()


def test_a_path_with_blanks_is_one_program(script: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A compiler may lie in a folder whose name has a blank."""
    path = Path(script('exec REAL "$@"'))
    (tmp_path / "my tools").mkdir()
    moved = path.rename(tmp_path / "my tools" / "cc")
    monkeypatch.setenv("CXX", str(moved))
    assert find_cpp_compiler.find_compiler().command == (str(moved),)


def test_a_compiler_that_works_again_is_taken(script: Callable[[str], str]) -> None:
    """What failed is remembered for the same files only."""
    script("exit 1")
    with pytest.raises(tn.BuildError):
        find_cpp_compiler.find_compiler()
    script('exec REAL "$@" # mended')
    assert find_cpp_compiler.find_compiler().macros


def test_the_second_compiler_is_taken_where_the_first_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of c++ and clang++ the one that works."""
    real = find_cpp_compiler.find_compiler().path
    monkeypatch.delenv("CXX", raising=False)
    for name, text in (("c++", "exit 1"), ("clang++", f'exec {real} "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_cpp_compiler.find_compiler().path == str(tmp_path / "clang++")


def test_records_of_compilers_are_not_believed(script: Callable[[str], str]) -> None:
    """A stored record with other fields or types is asked for again."""
    find_cpp_compiler._RECORDS.clear()
    script('exec REAL "$@"')
    compiler = find_cpp_compiler.find_compiler()
    (key,) = find_cpp_compiler._RECORDS.entries()
    good = json.loads(find_cpp_compiler._RECORDS.read(key) or b"")
    for change in (
        {"version": 3}, {"macros": "__AVX512F__"}, {"macros": [["__AVX__"]]}, {"more": 1},
        {"macros": ["AVX; rm"]}, {"version": None}, {"version": "\ud800"}, {"version": "\udc80"},
    ):  # fmt: skip
        find_cpp_compiler._RECORDS.write(key, json.dumps({**good, **change}).encode())
        find_cpp_compiler._inspect.cache_clear()
        assert find_cpp_compiler.find_compiler() == compiler
    for text in (b"[]", b"3", b"\xff", b"[" * 100_000):
        find_cpp_compiler._RECORDS.write(key, text)
        find_cpp_compiler._inspect.cache_clear()
        assert find_cpp_compiler.find_compiler() == compiler


# -- later than the trial --------------------------------------------------------------------------


LATER = (
    'case "$*" in *trial*|*--version*|*-dM*) exec REAL "$@";; esac; echo no room left >&2; exit 1'
)


def test_kernels_that_cannot_be_built_are_left_to_torch(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that fails at a kernel: an error for "cpp", torch and a line for "auto"."""
    script(LATER)
    layer = tn.Layer(net(), backend="cpp", batch=16)
    with pytest.raises(tn.BuildError, match="no room left"):
        layer(torch.ones(16, 12))
    prefer_kernels(monkeypatch)
    auto = tn.Layer(net(), batch=16)
    assert auto._programs_for(auto.dtype)[0].main.backend == "cpp"
    runs_as_torch(auto)
    assert "kernels could not be built" in auto.explain()
    assert "no room left" in auto.explain()
    with torch.no_grad():
        assert auto(torch.ones(16, 12)).shape == (16, 12)
    prepared = tn.Layer(net(), batch=16).prepare()
    assert "no room left" in prepared.explain()


@pytest.mark.parametrize("bias", [False, True], ids=["alone", "with a bias"])
def test_a_backward_that_cannot_be_built_is_left_to_torch(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, bias: bool
) -> None:
    """The forward was compiled; when its backward fails, gradients are torch's."""
    script('exec REAL "$@"')
    prefer_kernels(monkeypatch)
    layer = tn.Layer(net(), batch=16, bias=bias)
    asked = tn.Layer(net(), batch=16, bias=bias, backend="cpp")
    with torch.no_grad():
        layer(torch.ones(16, 12))
        asked(torch.ones(16, 12))

    def refuse(*_: object) -> None:
        msg = "the disk is full"
        raise tn.BuildError(msg)

    monkeypatch.setattr(cpp_build, "compile_files", refuse)
    runs_as_torch(layer)
    assert "the disk is full" in layer.explain()
    runs_as_torch(layer)
    with pytest.raises(tn.BuildError, match="the disk is full"):
        asked(torch.ones(16, 12)).sum().backward()


def prefer_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have "auto" choose kernels for the whole plan, whatever they are predicted to take."""
    monkeypatch.setattr(CppBackend, "handicap", 1e-9)
    monkeypatch.setattr(MixedBackend, "handicap", 1e9)


# -- folders ---------------------------------------------------------------------------------------


def test_nothing_needs_to_be_executed_from_a_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Libraries are loaded from memory: a cache or a TMPDIR that is mounted noexec does."""
    opened: list[str] = []
    real = library.ctypes.CDLL

    def note(path: str) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(library.ctypes, "CDLL", note)
    assert cpp_build.load_library(ANSWER).answer() == 42
    monkeypatch.setattr(cpp_build, "_loaded", {})
    assert cpp_build.load_library(ANSWER).answer() == 42
    assert opened
    assert all(path.startswith("/proc/self/fd/") for path in opened)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files")
def test_a_library_that_was_cut_short_is_not_loaded(tmp_path: Path) -> None:
    """The loader would map what is not there, and the process would end with SIGBUS."""
    source, made = tmp_path / "answer.cpp", tmp_path / "answer.so"
    source.write_text(ANSWER)
    command = find_cpp_compiler.find_compiler().command
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    content = made.read_bytes()
    assert load_bytes(content, "whole").answer() == 42
    for part in (0, 3, 64, 200, 4096, 8192, len(content) // 2):
        with pytest.raises(OSError):
            load_bytes(content[:part], "part")


def test_without_memory_files_a_private_copy_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system: the bytes go into a folder of this process."""
    monkeypatch.delattr(os, "memfd_create")
    assert cpp_build.load_library(ANSWER).answer() == 42


def test_libraries_from_memory_are_not_mixed_up(tmp_path: Path) -> None:
    """Descriptors have equal numbers again and again; each library is its own."""
    found = []
    for number in range(5):
        text = ANSWER.replace("42", str(number))
        found.append(cpp_build.load_library(text, optimise="-O0"))
    assert [one.answer() for one in found] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match=r"."):
        load_bytes(b"no library", "nonsense")


def test_a_file_that_is_exchanged_after_the_check_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is loaded are the bytes that were checked, whatever lies at the path by then."""
    cpp_build.load_library(ANSWER)
    (stored,) = (tmp_path / "cache" / "kernels").glob("*.so")
    read = type(cpp_build.KERNELS).read

    def exchange(store: Any, key: str) -> bytes | None:
        content = read(store, key)
        stored.write_bytes(b"another file")
        return content

    monkeypatch.setattr(type(cpp_build.KERNELS), "read", exchange)
    monkeypatch.setattr(cpp_build, "_loaded", {})
    found = cpp_build.open_library(stored.stem)
    assert found is not None
    assert found.answer() == 42


@pytest.mark.parametrize("where", ["missing", "full"])
def test_no_folder_to_build_in(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A TMPDIR that is gone, or a disk without room: a BuildError that names TMPDIR; torch."""
    find_cpp_compiler.find_compiler()
    if where == "missing":
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    else:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(tn.BuildError, match="TMPDIR"):
        cpp_build.load_library(ANSWER)
    find_cpp_compiler._RECORDS.clear()
    find_cpp_compiler._inspect.cache_clear()
    assert "TMPDIR" in tn.Layer(net(), batch=16).explain()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A read-only cache keeps nothing; kernels are built and run."""
    (tmp_path / "cache").mkdir(mode=0o500)
    assert cpp_build.load_library(ANSWER).answer() == 42


# -- time and kills --------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_compiler_that_hangs_leaves_no_children(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After the time is over neither it nor what it started runs; it is asked once."""
    pids = tmp_path / "pids"
    script(f"sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; wait")
    monkeypatch.setattr(find_cpp_compiler, "ASK_SECONDS", 1)
    with pytest.raises(tn.BuildError, match="did not end within 1 seconds"):
        tn.Layer(net(), backend="cpp")
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 2
    assert comes_true(lambda: not any(map(alive, found)))
    runs_as_torch(tn.Layer(net(), batch=16))
    assert pids.read_text().split() == [str(pid) for pid in found]


def test_one_unit_that_fails_ends_the_others(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compilers that run side by side end with the first that fails."""
    pids = tmp_path / "pids"
    script(f'case "$*" in *unit1*) echo $$ > {pids}; exec sleep 1000;; *unit0*) '
           f"while [ ! -s {pids} ]; do sleep 0.1; done; echo nonsense >&2; exit 1;; esac; "
           'exec REAL "$@"')  # fmt: skip
    with pytest.raises(tn.BuildError, match="nonsense"):
        cpp_build.load_library(ANSWER, ANSWER)
    assert comes_true(lambda: not alive(int(pids.read_text())))


def test_a_process_that_holds_an_output_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a compiler starts keeps its output open; the compiler has ended."""
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.5)
    command = ["/bin/bash", "-c", "setsid sleep 30 & echo $!"]
    done = Processes().run(command, timeout=20)
    os.kill(int(done.output), signal.SIGKILL)


KILLED = """
import sys, tempfile, tnlayer as tn
from tnlayer.backends.toolchains import cpp_build
tempfile.tempdir = sys.argv[1]
cpp_build.load_library('extern "C" int answer() { return 1; }')
"""


def test_a_killed_build_is_swept(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left in TMPDIR the next build removes; what others use it leaves."""
    pids, folder = tmp_path / "pids", tmp_path / "tmp"
    script(f'case "$*" in *unit0*) echo $$ > {pids}; exec sleep 1000;; esac; exec REAL "$@"')
    root = Path(tn.__file__).parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    try:
        assert comes_true(lambda: pids.exists() and pids.read_text().strip() != "")
        (left,) = folder.iterdir()
        assert left.name.startswith(PREFIX)
        sweep()
        assert left.exists()  # its process runs
    finally:
        child.kill()
        child.wait()
    os.kill(int(pids.read_text()), signal.SIGKILL)
    foreign = folder / f"{PREFIX}notes"
    foreign.mkdir()
    (foreign / "mine").write_text("kept")
    os.utime(foreign, (0, 0))
    (folder / "tnlayer-results").mkdir()
    old = folder / f"{PREFIX}empty"
    old.mkdir()
    os.utime(old, (0, 0))
    sweep()
    assert sorted(path.name for path in folder.iterdir()) == [foreign.name, "tnlayer-results"]
    with build_folder.build_folder() as own:
        sweep()
        assert own.exists()
    assert not own.exists()


# -- notes -----------------------------------------------------------------------------------------


def sealed(name: str, payload: bytes) -> bytes:
    """A file of the store with a right checksum."""
    digest = hashlib.sha256(name.encode() + b"\0" + payload).hexdigest()
    return payload + b"\nsha256:" + digest.encode() + b"\n"


def swap(pairs: list[Any]) -> list[Any]:
    return pairs[::-1]


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no inputs": lambda n: {**n, "inputs": []},
    "no outputs": lambda n: {**n, "outputs": []},
    "swapped inputs": lambda n: {**n, "inputs": swap(n["inputs"])},
    "swapped outputs": lambda n: {**n, "outputs": ["a", *n["outputs"][1:]]},
    "turned flags": lambda n: {**n, "inputs": [[name, not flag] for name, flag in n["inputs"]]},
    "numbers for flags": lambda n: {**n, "inputs": [[name, 1] for name, _ in n["inputs"]]},
    "short pairs": lambda n: {**n, "inputs": [[name] for name, _ in n["inputs"]]},
    "a text": lambda n: {**n, "inputs": "ab"},
    "a folder above": lambda n: {**n, "library": ".."},
    "a path": lambda n: {**n, "library": "/etc/passwd"},
    "a number": lambda n: {**n, "library": 7},
    "one more field": lambda n: {**n, "more": 1},
    "a list": lambda n: [n],
    "nothing": lambda n: None,
    "no text": lambda n: {**n, "outputs": ["\ud800"]},
}


def trained(backend: str) -> list[torch.Tensor]:
    """y and gradients of a layer that is always the same."""
    cpp_build._loaded.clear()
    torch.manual_seed(0)
    layer = tn.Layer(net(), backend=backend, batch=16)
    x = torch.randn(16, 12, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    gradients = [p.grad for p in layer.parameters() if p.grad is not None]
    assert x.grad is not None
    return [y.detach(), x.grad, *gradients]


@pytest.mark.parametrize("change", CHANGES)
def test_false_notes_are_not_believed(change: str, tmp_path: Path) -> None:
    """Whatever a note with a right checksum says: the results are right, and it is mended."""
    expected = trained("torch")
    trained("cpp")
    folder = tmp_path / "cache" / "kernels"
    for path in folder.glob("*.json"):
        good = json.loads(path.read_bytes()[:-73])
        path.write_bytes(sealed(path.name, json.dumps(CHANGES[change](good)).encode()))
    for one, other in zip(trained("cpp"), expected, strict=True):
        torch.testing.assert_close(one, other)
    for path in folder.glob("*.json"):
        assert set(json.loads(path.read_bytes()[:-73])) == {"library", "inputs", "outputs"}


@pytest.mark.parametrize("what", ["note", "library"])
def test_another_kernel_under_a_right_name_is_not_called(what: str, tmp_path: Path) -> None:
    """Notes that name another kernel's library, and libraries under another one's name."""
    expected = trained("torch")
    trained("cpp")
    folder = tmp_path / "cache" / "kernels"
    own = {path.name for path in folder.iterdir()}
    other = tn.Layer(tn.topologies.tensor_train((4, 3), (3, 4), rank=3), backend="cpp", batch=16)
    other(torch.randn(16, 12)).sum().backward()
    others = [path for path in folder.glob("*.so") if path.name not in own]
    assert others
    for path in list(folder.glob("*.json" if what == "note" else "*.so")):
        if path.name not in own:
            continue
        if what == "note":
            good = json.loads(path.read_bytes()[:-73])
            payload = json.dumps({**good, "library": others[0].stem}).encode()
        else:
            payload = others[0].read_bytes()[:-73]
        path.write_bytes(sealed(path.name, payload))
    for one, right in zip(trained("cpp"), expected, strict=True):
        torch.testing.assert_close(one, right)
