"""The store of files: whole or not there, in a folder that no other user can write to."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from tests.support.subprocesses import run_workers
from tnlayer.errors import SpecError
from tnlayer.support import file_store
from tnlayer.support.cache_folder import cache_folder
from tnlayer.support.file_store import Store

KEY = "folder/entry.json"
PAYLOAD = b'{"a": 1}'
STORE = Store("plans", limit=4096)
OTHER_USER = 54321

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def entry(base: Path) -> Path:
    """The file of a stored entry."""
    STORE.write(KEY, PAYLOAD)
    assert STORE.read(KEY) == PAYLOAD
    return base / "plans" / KEY


def mode(path: Path) -> int:
    """Permissions of a path."""
    return stat.S_IMODE(path.lstat().st_mode)


# -- reading and writing -------------------------------------------------------------------------


def test_what_is_written_is_read(base: Path) -> None:
    """Any bytes come back; a second write takes the place of the first; others are misses."""
    assert STORE.read(KEY) is None
    for payload in (b"", PAYLOAD, bytes(range(256)), b"\nsha256:" * 9):
        STORE.write(KEY, payload)
        assert STORE.read(KEY) == payload
    assert STORE.read("folder/other.json") is None
    assert Store("kernels").read(KEY) is None
    assert [path.name for path in base.rglob("*") if path.is_file()] == ["entry.json"]


def test_the_payload_stands_first(entry: Path) -> None:
    """A loader that is given the path finds the payload at the beginning of the file."""
    assert entry.read_bytes().startswith(PAYLOAD)
    assert entry.read_text().splitlines()[-1].startswith("sha256:")


def test_entries_lists_keys(base: Path) -> None:
    """All keys, or those in a folder, sorted; temp files and odd names are no keys."""
    keys = ["a/1", "a/b/2", "ab/3", "top"]
    for key in keys:
        STORE.write(key, PAYLOAD)
    folder = base / "plans" / "a"
    (folder / ".x.tmp").write_bytes(b"half")
    (folder / "no key").write_bytes(b"")
    assert STORE.entries() == tuple(keys)
    assert STORE.entries("a") == ("a/1", "a/b/2")
    (folder / "link").symlink_to(folder)
    assert STORE.entries("a") == ("a/1", "a/b/2", "a/link")
    assert STORE.read("a/link") is STORE.read("a/link/1") is None
    (folder / "link").unlink()
    assert STORE.entries("nothing") == ()
    STORE.remove("a/1")
    STORE.remove("a/1")
    assert STORE.entries("a") == ("a/b/2",)
    STORE.clear()
    STORE.clear()
    assert STORE.entries() == ()
    assert STORE.read("top") is None


@pytest.mark.parametrize(
    "key", ["", "..", "../x", "a/../b", "/etc/passwd", "a//b", ".hidden", "x.tmp", "a\0", "a/", "ä"]
)
def test_a_key_has_no_way_out(base: Path, key: str) -> None:
    """Only plain names with slashes between them are keys."""
    with pytest.raises(ValueError, match="is no key"):
        STORE.read(key)
    with pytest.raises(ValueError, match="is no key"):
        STORE.write(key, PAYLOAD)
    assert not base.exists()


def test_only_writing_makes_folders(base: Path) -> None:
    """Looking for an entry leaves no trace."""
    assert STORE.read(KEY) is None
    assert STORE.entries() == STORE.entries("folder") == ()
    STORE.remove(KEY)
    STORE.clear()
    assert not base.exists()


# -- damage --------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    """Lose the last byte."""
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    """Change one bit of the payload."""
    content = bytearray(path.read_bytes())
    content[3] ^= 4
    path.write_bytes(content)


def flip_checksum(path: Path) -> None:
    """Change one bit of the checksum."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def in_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Damage that puts something else in the place of the file."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def link_to_a_copy(path: Path) -> None:
    """A symlink to a whole entry."""
    copy = path.rename(path.with_suffix(".copy"))
    path.symlink_to(copy)


def under_another_name(path: Path) -> None:
    """The whole entry of another key."""
    STORE.write("folder/other.json", b"other")
    path.with_name("other.json").replace(path)


def grow(path: Path) -> None:
    """A file of a terabyte, none of it on the disk."""
    with path.open("ab") as file:
        file.truncate(2**40)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "without checksum": lambda path: path.write_bytes(PAYLOAD),
    "bit of the payload": flip,
    "bit of the checksum": flip_checksum,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "another key's entry": under_another_name,
    "symlink": link_to_a_copy,
    "symlink to nothing": in_place(lambda path: path.symlink_to("nothing")),
    "symlink to itself": in_place(lambda path: path.symlink_to(path)),
    "folder": in_place(Path.mkdir),
    "pipe": in_place(os.mkfifo),
    "huge": grow,
    "others may write": lambda path: path.chmod(0o606),
    "group may write": lambda path: path.chmod(0o660),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_miss(entry: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged entry is a miss that is said in the log, and the next write mends it."""
    DAMAGE[name](entry)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="tnlayer"):
        assert STORE.read(KEY) is None
    assert KEY in caplog.text
    assert "is not used" in caplog.text
    STORE.write(KEY, PAYLOAD)
    assert STORE.read(KEY) == (None if name == "folder" else PAYLOAD)


def test_large_entries_are_not_stored(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What would not be read is not written either, and what was there stays."""
    STORE.write(KEY, PAYLOAD)
    with caplog.at_level(logging.DEBUG, logger="tnlayer"):
        STORE.write(KEY, bytes(4097))
    assert "at most 4096" in caplog.text
    assert STORE.read(KEY) == PAYLOAD
    assert Store("plans", limit=4).read(KEY) is None


# -- writers that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_changes_nothing(
    entry: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    error: int,
) -> None:
    """With a full disk the old entry stays and no temp file is left."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG, logger="tnlayer"):
        patch.setattr(os, function, fail)
        STORE.write(KEY, b"new")
    assert os.strerror(error) in caplog.text
    assert STORE.read(KEY) == PAYLOAD
    assert list(entry.parent.iterdir()) == [entry]


def test_an_interrupted_write_changes_nothing(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C goes through, the old entry stays and no temp file is left."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            STORE.write(KEY, b"new")
    assert STORE.read(KEY) == PAYLOAD
    assert list(entry.parent.iterdir()) == [entry]


def test_old_temp_files_go(entry: Path) -> None:
    """A write removes what writers that died left, but not what one may be writing now."""
    old, young = entry.with_name(".old.tmp"), entry.with_name(".young.tmp")
    odd = entry.with_name(".folder.tmp")
    for path in (old, young):
        path.write_bytes(b"half")
    odd.mkdir()
    before = old.stat().st_mtime - file_store.STALE_SECONDS - 60
    for path in (old, odd):
        os.utime(path, (before, before))
    STORE.write(KEY, b"new")
    assert STORE.read(KEY) == b"new"
    assert not old.exists()
    assert young.exists()


def test_a_hundred_kills(tmp_path: Path) -> None:
    """After each kill the entry is the old or the new one; some kills did hit a write."""
    found = run_workers("kills", cache=tmp_path)
    assert found["wrong"] == []
    assert found["left"] > 4
    assert found["entries"] == ["folder/entry"]
    assert found["whole"]


# -- trust ---------------------------------------------------------------------------------------


def test_folders_are_private(entry: Path, base: Path) -> None:
    """Folders are made with 0700, files with 0600, whatever the umask is."""
    assert {mode(folder) for folder in (base, base / "plans", entry.parent)} == {0o700}
    assert mode(entry) == 0o600
    mask = os.umask(0)
    try:
        Store("open").write("a/b", PAYLOAD)
    finally:
        os.umask(mask)
    assert {mode(base / "open"), mode(base / "open/a")} == {0o700}
    assert mode(base / "open/a/b") == 0o600


def check_not_used(base: Path, caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Nothing is read or written, and the log says why."""
    before = sorted(base.rglob("*"))
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="tnlayer"):
        assert STORE.read(KEY) is None
    assert words in caplog.text
    STORE.write(KEY, b"new")
    STORE.write("folder/new", b"new")
    STORE.remove(KEY)
    assert STORE.entries("folder") == ()
    assert sorted(base.rglob("*")) == before


@pytest.mark.parametrize("permissions", [0o777, 0o1777, 0o770, 0o702])
@pytest.mark.parametrize("part", ["", "plans", "plans/folder"])
def test_a_folder_that_others_can_write_to(
    entry: Path, base: Path, caplog: pytest.LogCaptureFixture, part: str, permissions: int
) -> None:
    """No folder from the cache folder down may be writable by group or others."""
    (base / part).chmod(permissions)
    check_not_used(base, caplog, "others may write")
    (base / part).chmod(0o700)
    assert STORE.read(KEY) == PAYLOAD
    assert entry.exists()


def test_readable_by_others_is_good_enough(entry: Path, base: Path) -> None:
    """A folder that the user made with mode 0755 is used."""
    base.chmod(0o755)
    assert STORE.read(KEY) == PAYLOAD
    assert entry.exists()


@pytest.mark.parametrize("part", ["", "plans", "plans/folder"])
@needs_root
def test_a_folder_of_another_user(
    entry: Path, base: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    """A folder that belongs to someone else is not used, not even by root."""
    os.chown(base / part, OTHER_USER, OTHER_USER)
    check_not_used(base, caplog, f"belongs to user {OTHER_USER}")
    assert entry.exists()


@needs_root
def test_a_file_of_another_user(entry: Path) -> None:
    """A file that belongs to someone else is a miss."""
    os.chown(entry, OTHER_USER, OTHER_USER)
    assert STORE.read(KEY) is None


def test_another_users_cache(
    entry: Path, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To a user with another id this cache is someone else's."""
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
    check_not_used(base, caplog, "belongs to user")
    assert cache_folder() is None
    assert entry.exists()


@pytest.mark.parametrize("part", ["", "plans", "plans/folder"])
def test_a_folder_that_another_user_makes_first(
    base: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A folder that turns up between the look and the writing is looked at again."""
    make, target = os.mkdir, base / part

    def make_open(path: str | Path, mode: int = 0o777) -> None:
        make(path, mode)
        if Path(path) == target:
            target.chmod(0o777)

    monkeypatch.setattr(os, "mkdir", make_open)
    STORE.write(KEY, PAYLOAD)
    assert target.exists()
    assert not [path for path in base.rglob("*") if path.is_file()]


@pytest.mark.parametrize("part", ["plans", "plans/folder"])
def test_no_symlink_within_the_cache(
    entry: Path, base: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    """Below the cache folder no folder may be a symlink, not even one to the real thing."""
    assert entry.exists()
    real = (base / part).rename(base.parent / "elsewhere")
    (base / part).symlink_to(real)
    check_not_used(base, caplog, "is no folder")


def test_the_users_own_symlink(entry: Path, base: Path) -> None:
    """The cache folder itself may be the user's symlink to another disk."""
    assert entry.exists()
    base.rename(base.parent / "disk")
    base.symlink_to("disk")
    assert STORE.read(KEY) == PAYLOAD
    STORE.write(KEY, b"new")
    assert STORE.read(KEY) == b"new"


@needs_root
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_symlink_of_another_user(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, depth: int
) -> None:
    """A symlink that someone else planted is not followed, wherever on the way it stands."""
    STORE.write(KEY, PAYLOAD)
    first, planted = base.parent / "first", base.parent / "planted"
    planted.symlink_to(base if depth else base.parent)
    os.lchown(planted, OTHER_USER, OTHER_USER)
    first.symlink_to(planted)
    way = [planted / base.name, planted, first][depth]
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(way))
    check_not_used(base, caplog, f"{planted} is a symlink of user {OTHER_USER}")
    os.lchown(planted, os.geteuid(), -1)
    assert STORE.read(KEY) == PAYLOAD


def test_symlinks_in_a_circle(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Symlinks that lead nowhere are no cache and no endless loop."""
    base.symlink_to(base.parent / "b")
    (base.parent / "b").symlink_to(base)
    check_not_used(base.parent, caplog, "form a loop")


def test_a_folder_above_that_everyone_can_write_to(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where everyone may exchange the cache folder it is not used; the sticky bit forbids that."""
    STORE.write(KEY, PAYLOAD)
    base.parent.chmod(0o777)
    check_not_used(base, caplog, "everyone may write to")
    base.parent.chmod(0o1777)
    assert STORE.read(KEY) == PAYLOAD


def test_a_file_in_place_of_the_folder(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file where a folder should be is no cache."""
    base.write_bytes(b"")
    check_not_used(base, caplog, "is no folder")
    base.unlink()
    base.mkdir(0o700)
    (base / "plans").write_bytes(b"")
    check_not_used(base, caplog, "is no folder")


# -- the environment -----------------------------------------------------------------------------


def test_switched_off(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TNLAYER_CACHE=0: nothing is read, written, listed or removed."""
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    assert cache_folder() is None
    assert STORE.read(KEY) is None
    assert STORE.entries() == ()
    STORE.write(KEY, b"new")
    STORE.remove(KEY)
    STORE.clear()
    monkeypatch.setenv("TNLAYER_CACHE", "1")
    assert STORE.read(KEY) == PAYLOAD
    assert entry.exists()


@pytest.mark.parametrize("value", ["", "2", "no", "off", "true", " 1", "00"])
def test_other_switches_are_errors(base: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A switch that means nothing is not guessed at."""
    monkeypatch.setenv("TNLAYER_CACHE", value)
    with pytest.raises(SpecError, match=r"TNLAYER_CACHE=.*expected 0 \(no cache\) or 1"):
        STORE.read(KEY)
    assert not base.exists()


def test_the_folder_that_is_named(
    base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Absolute, relative to where the process stands, or relative to the user's home."""
    assert cache_folder() == base
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TNLAYER_CACHE_DIR", "there/../here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TNLAYER_CACHE_DIR", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="each platform has its own folder")
def test_the_folder_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where none is named it is the user's cache folder; an empty name is none."""
    monkeypatch.delenv("TNLAYER_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tnlayer"
    monkeypatch.setenv("TNLAYER_CACHE_DIR", "")
    assert cache_folder() == tmp_path / "tnlayer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tnlayer"
    STORE.write(KEY, PAYLOAD)
    assert STORE.read(KEY) == PAYLOAD
    assert mode(tmp_path / ".cache") == 0o700


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that no table knows, without a home."""

    def unknown(user: int) -> None:
        msg = f"getpwuid(): uid not found: {user}"
        raise KeyError(msg)

    for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME", "USERNAME", "TNLAYER_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("named", [None, "~", "~/cache", "~someone/cache"])
@pytest.mark.usefixtures("nobody")
def test_without_a_home(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    named: str | None,
) -> None:
    """Without HOME and with an unmapped user id there is no cache, no error, and no folder ~."""
    monkeypatch.chdir(tmp_path)
    if named is not None:
        monkeypatch.setenv("TNLAYER_CACHE_DIR", named)
    check_not_used(tmp_path, caplog, "no cache")
    assert cache_folder() is None


def test_a_home_that_is_not_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Older platformdirs leave "~" where no home is known: no folder of that name is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TNLAYER_CACHE_DIR", raising=False)
    monkeypatch.setattr(
        platformdirs, "user_cache_path", lambda *_, **__: Path("~") / ".cache" / "tnlayer"
    )
    check_not_used(tmp_path, caplog, "this user has no home")
    assert cache_folder() is None


@needs_root
def test_a_user_that_nobody_knows() -> None:
    """A process of an unmapped user has no cache by default, and one where a folder is named."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, OTHER_USER, OTHER_USER)
        found = run_workers("unmapped", cache=Path(folder))
    assert found == {"without": None, "missed": True, "read": True}


@pytest.mark.parametrize("folder", ["/proc/tnlayer", "/dev/null/tnlayer", "/" + "x" * 300])
def test_where_no_folder_can_be_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    """A folder that cannot be made is no cache; writing says so in the log."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", folder)
    assert STORE.read(KEY) is None
    with caplog.at_level(logging.DEBUG, logger="tnlayer"):
        STORE.write(KEY, PAYLOAD)
    assert "not stored" in caplog.text or "no cache" in caplog.text
    assert STORE.read(KEY) is None
    assert STORE.entries() == ()


@pytest.mark.parametrize("function", ["mkdir", "lstat", "scandir", "open"])
def test_a_file_system_that_refuses(
    entry: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Whatever the system refuses, nothing is raised; afterwards the entry is still there."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        STORE.write("other/entry", b"new")
        STORE.read(KEY)
        STORE.entries()
        STORE.remove("other/entry")
    assert STORE.read(KEY) == PAYLOAD
    assert entry.exists()


def test_tests_have_a_cache_of_their_own() -> None:
    """What tests store goes into a temporary folder, never into the user's own cache."""
    folder = cache_folder()
    assert folder is not None
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder.name.startswith("tnlayer-cache-")
