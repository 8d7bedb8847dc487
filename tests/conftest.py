"""What all tests share: one thread a worker, fixed seeds, a private cache, and golden files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import matplotlib
import pytest
import torch

from tests.support.cpp_units import has_compiler
from tests.support.crossed import mark_crossed
from tests.support.each_backend import BACKENDS, default_backend
from tests.support.golden import GOLDEN_ROOT, Golden
from tests.support.profiles import fixed_profile
from tnlayer.dispatch import tiers
from tnlayer.hardware.profile.load import reload_profiles, use_profile
from tnlayer.support import told

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # each worker has a core to itself
matplotlib.use("agg")

# The same examples on every machine: a red run can be repeated. A deadline would measure the
# machine. `--hypothesis-profile explore` draws new examples.
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile("fixed")

# Names the folder of compiled kernels that all workers of one run share.
SHARED_KERNELS = "TNLAYER_TEST_KERNELS"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )


def pytest_configure(config: pytest.Config) -> None:
    """No test touches the user's own cache: an empty one a worker, for its subprocesses as well.

    A fixture of this file would not reach the examples in the package's docstrings.
    """
    folder = tempfile.mkdtemp(prefix="tnlayer-cache-")
    os.environ["TNLAYER_CACHE_DIR"] = folder
    _share_kernels(config, Path(folder))
    os.environ.pop("TNLAYER_CACHE", None)
    # Else the suite would compile hundreds of kernels; tests of "auto" unset it.
    os.environ["TNLAYER_BACKEND"] = "torch"
    # A call runs what is planned for it; tests of the background say so (test_tiers.py).
    tiers.can_build = lambda: False
    # Plans are the same on every machine of a kind; tests of the measurement unset it.
    os.environ["TNLAYER_PROFILE"] = "shipped"
    # What takes long on a busy machine is no part of what a test reads from stderr (test_told.py).
    told._PATIENCE = 3600.0
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # Each plan that is stored would wait for the disk twice, and no test cuts the power. Writers
    # that die around a sync are processes of their own, which do sync (store_workers.py).
    os.fsync = _no_sync


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most of the crossed cases to the full series."""
    mark_crossed(items)


def _no_sync(_: int) -> None:
    """Leave a file in the system's memory."""


def _share_kernels(config: pytest.Config, folder: Path) -> None:
    """What one worker has compiled the others load: of all caches this one alone is shared."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shared = tempfile.mkdtemp(prefix="tnlayer-kernels-")
        os.environ[SHARED_KERNELS] = shared
        config.add_cleanup(lambda: shutil.rmtree(shared, ignore_errors=True))
    (folder / "kernels").symlink_to(os.environ[SHARED_KERNELS])


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once for each backend: layers and programs that name none take this one.

    A test that is about one backend only says so with
    ``@pytest.mark.parametrize("backend", ["torch"], indirect=True)``.
    """
    if request.param == "cpp" and not has_compiler():
        pytest.skip("no C++ compiler")
    with default_backend(request.param):
        yield request.param


@pytest.fixture
def own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache; what was loaded before is forgotten, and what is loaded here as well."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path / "cache"))
    reload_profiles()
    yield
    monkeypatch.undo()
    reload_profiles()


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same torch seed, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """Golden files of the running test: ``golden.check(text)``; plans follow a fixed profile."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in request.node.name).strip("-")
    folder = GOLDEN_ROOT / request.path.stem.removeprefix("test_")
    with use_profile(fixed_profile()):
        yield Golden(folder, name, bool(request.config.getoption("--update-golden")))
