"""Replay: what the compiler makes of many networks, recorded at one commit and held at another.

A refactoring must not change what runs. ``record`` writes, for some hundred networks, the plans and
the generated sources of every backend to a folder, one file each; ``compare`` makes them again with
the code as it is now and lists what differs.

    python -m tests.support.replay record /tmp/before           # at the commit to hold on to
    python -m tests.support.replay compare /tmp/before          # after each move
    python -m tests.support.replay compare /tmp/before --rename old_name=new_name --without-comments

Only the public face and a fixed device profile are used, so that the tool survives the moves that
it watches over. Networks are recorded as JSON, so that a change of their generators is not taken
for one of the compiler. Record and compare on one machine: kernels are made for its processor.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from hypothesis import given

import tnlayer as tn
from tests.support.profiles import fixed_profile
from tests.support.strategies import DEFAULT_BOUNDS, fixed_series, networks
from tnlayer.hardware.profile.load import use_profile

RANDOM = 60
RANDOM_COMPLEX = 14
SEED = 20_211
# What schedules of compiled kernels are made for.
THREADS = 2

# Which of the generated texts a network gets: name, and what makes it.
Maker = Callable[[tn.Network, str], str]


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to compile, and in which dtypes.

    Arguments:
        name: name of its files.
        document: the network as JSON.
        dtypes: of the arithmetic.
    """

    name: str
    document: str
    dtypes: tuple[str, ...] = ("float32",)


# -- networks ----------------------------------------------------------------------------------


def _topologies() -> Iterator[tuple[str, tn.Network, tuple[str, ...]]]:
    """Every ready-made topology: small in all dtypes, and some at the sizes that people use."""
    make = tn.topologies
    every = ("float32", "float64", "complex64", "bfloat16")
    small = {
        "tensor_train": make.tensor_train((3, 4, 2), (2, 4, 3), rank=3),
        "tensor_ring": make.tensor_ring((3, 4, 2), (2, 4, 3), rank=3),
        "tree": make.tree(4, 2, 3),
        "mera": make.mera(4, 2, 2),
        "tucker": make.tucker((3, 4), (4, 3), rank=2),
        "cp": make.cp((3, 4), (4, 3), rank=5),
        "block_term": make.block_term((3, 4), (4, 3), rank=2, terms=3),
        "kronecker": make.kronecker((3, 4), (4, 3)),
        "low_rank": make.low_rank(20, 24, rank=4),
        "monarch": make.monarch((4, 4), (4, 4)),
        "btt": make.btt((4, 6), (6, 4), rank=2),
        "butterfly": make.butterfly(16),
        "peps": make.peps(2, 3, 2, 2),
        "brickwall": make.brickwall(6, 2, depth=3),
    }
    for name, net in small.items():
        yield name, net, every
    large = {
        "mera-12-2": make.mera(12, 2, 2),
        "mera-12-3": make.mera(12, 2, 3),
        "tree-12-2": make.tree(12, 2, 2),
        "tree-12-3": make.tree(12, 2, 3),
        "train-12-3": make.tensor_train((2,) * 12, (2,) * 12, rank=3),
        "train-12-7": make.tensor_train((2,) * 12, (2,) * 12, rank=7),
        "train-16-16": make.tensor_train((16,) * 3, (16,) * 3, rank=16),
        "ring-8": make.tensor_ring((8, 8, 8), (8, 8, 8), rank=4),
        "butterfly-12": make.butterfly(4096),
        "btt-64": make.btt((64, 64), (64, 64), rank=1),
        "monarch-1024": make.monarch((32, 32), (32, 32)),
        "kronecker-64": make.kronecker((64, 64), (64, 64)),
        "low_rank-768": make.low_rank(768, 3072, rank=16),
        "brickwall-12": make.brickwall(12, 2, depth=6),
    }
    for name, net in large.items():
        yield name, net, ("float32",)


def _random(is_complex: bool, count: int) -> list[tn.Network]:
    """Random networks, the same in every run."""
    found: list[tn.Network] = []

    @given(networks(is_complex, DEFAULT_BOUNDS))
    def collect(net: tn.Network) -> None:
        found.append(net)

    fixed_series(SEED + is_complex, count, shrink=False)(collect)()
    return found[:count]


def subjects() -> list[Subject]:
    """All networks, the slow ones first so that two workers end together."""
    found = [Subject(name, net.to_json(), dtypes) for name, net, dtypes in _topologies()]
    for number, net in enumerate(_random(False, RANDOM)):
        found.append(Subject(f"random-{number:02}", net.to_json(), ("float32",)))
    for number, net in enumerate(_random(True, RANDOM_COMPLEX)):
        found.append(Subject(f"complex-{number:02}", net.to_json(), ("complex64",)))
    return sorted(found, key=lambda subject: len(subject.document), reverse=True)


# -- texts -------------------------------------------------------------------------------------


def _plans(net: tn.Network, dtype: str) -> str:
    """Forward and backward plan for torch calls, at a batch size where W is rebuilt and without."""
    texts: list[str] = []
    for batch in (1, 64, 1024):
        plan = tn.plan(net, batch=batch, dtype=dtype)
        texts += [f"== batch {batch}", str(plan), str(tn.backward_plan(plan))]
    return "\n".join(texts)


def _source(**options: object) -> Maker:
    def make(net: tn.Network, dtype: str) -> str:
        return tn.compile(net, dtype=dtype, **options).source()  # pyright: ignore

    return make


def _choice(net: tn.Network, dtype: str) -> str:
    """What auto takes, with its predicted costs."""
    texts: list[str] = []
    for batch in (1, 64, 1024):
        program = tn.compile(net, dtype=dtype, batch=batch, backend="auto")
        regions = [(span.backend, span.steps) for span in program.plan.regions]
        texts += [f"== batch {batch}: {program.plan.backend} {regions}", str(program.plan)]
    texts.append(str(tn.cost(net, batch=64, dtype=dtype)))
    return "\n".join(texts)


_CUDA = {"backend": "cuda"}
MAKERS: dict[str, Maker] = {
    "plans.txt": _plans,
    "choice.txt": _choice,
    "torch.py": _source(backend="torch", batch=64),
    "few.cpp": _source(backend="cpp", batch=1),
    "many.cpp": _source(backend="cpp", batch=256),
    "sm_80.cu": _source(**_CUDA, arch="sm_80"),
    "sm_90.cu": _source(**_CUDA, arch="sm_90"),
    "tf32.cu": _source(**_CUDA, arch="sm_90", tensor_cores="tf32"),
}


def texts_of(subject: Subject, kinds: list[str]) -> dict[str, str]:
    """The texts of a network by file name; an error's words where it is refused."""
    # This is a process of its own: nothing is read from a store, nothing named by the environment.
    os.environ["TNLAYER_CACHE"] = "0"
    os.environ.pop("TNLAYER_BACKEND", None)
    torch.set_num_threads(THREADS)
    found: dict[str, str] = {}
    net = tn.Network.from_json(subject.document)
    for dtype in subject.dtypes:
        for kind in kinds:
            try:
                with use_profile(fixed_profile(dtype=dtype)):
                    text = MAKERS[kind](net, dtype)
            except tn.TnlayerError as error:
                text = f"{type(error).__name__}: {error}"
            except Exception:  # a fault of the compiler is a finding of the replay, not its end
                text = traceback.format_exc(limit=1)
            found[f"{subject.name}.{dtype}.{kind}"] = text.rstrip("\n") + "\n"
    return found


# -- record and compare ------------------------------------------------------------------------


def _make_all(
    wanted: list[Subject], kinds: list[str], jobs: int
) -> Iterator[tuple[str, dict[str, str]]]:
    """The texts of all networks, as they come."""
    # Spawned: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [(s, pool.submit(texts_of, s, kinds)) for s in wanted]
        for subject, future in futures:
            yield subject.name, future.result()


def record(folder: Path, wanted: list[Subject], kinds: list[str], jobs: int) -> None:
    """Write the networks and their texts."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject in wanted:
        lines = "\n".join(("+".join(subject.dtypes), subject.document))
        (folder / f"{subject.name}.net").write_text(lines, encoding="utf-8")
    for name, texts in _make_all(wanted, kinds, jobs):
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        print(name, flush=True)


def recorded(folder: Path) -> list[Subject]:
    """The networks of a record."""
    found: list[Subject] = []
    for path in folder.glob("*.net"):
        dtypes, _, document = path.read_text(encoding="utf-8").partition("\n")
        found.append(Subject(path.stem, document, tuple(dtypes.split("+"))))
    return sorted(found, key=lambda subject: len(subject.document), reverse=True)


@dataclass(frozen=True, slots=True)
class Lens:
    """Through which two texts are looked at.

    Arguments:
        renames: (old, new) words; the old text is read with the new ones.
        comments: whether comments count.
    """

    renames: tuple[tuple[str, str], ...] = ()
    comments: bool = True

    def old(self, text: str) -> str:
        """A recorded text as it should look now."""
        for before, after in self.renames:
            text = re.sub(rf"\b{re.escape(before)}\b", after, text)
        return self.new(text)

    def new(self, text: str) -> str:
        """A text of today."""
        if self.comments:
            return text
        lines = (re.sub(r"\s*(//|#(?!\w)).*$", "", line) for line in text.splitlines())
        return "\n".join(line for line in lines if line) + "\n"


def compare(
    folder: Path, wanted: list[Subject], kinds: list[str], jobs: int, lens: Lens, shown: int
) -> int:
    """Print what differs from the record; returns the number of texts that do."""
    different = total = 0
    for name, texts in _make_all(wanted, kinds, jobs):
        for file, text in texts.items():
            path = folder / file
            if not path.exists():
                continue
            total += 1
            old, new = lens.old(path.read_text(encoding="utf-8")), lens.new(text)
            if old == new:
                continue
            different += 1
            print(f"DIFFERS {file}")
            changes = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
            print("\n".join(f"    {line}" for line in list(changes)[2 : 2 + shown]), flush=True)
        print(name, file=sys.stderr, flush=True)
    print(f"{different} of {total} texts differ from the record")
    return different


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.replay")
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="networks whose name has this in it")
    parser.add_argument("--kinds", default=",".join(MAKERS), help="which texts, by comma")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--without-comments", action="store_true")
    parser.add_argument("--shown", type=int, default=12, help="lines of each difference")
    asked = parser.parse_args(arguments)
    kinds = asked.kinds.split(",")
    every = subjects() if asked.action == "record" else recorded(asked.folder)
    wanted = [subject for subject in every if asked.only in subject.name]
    if asked.action == "record":
        record(asked.folder, wanted, kinds, asked.jobs)
        return 0
    renames = tuple((old, new) for old, _, new in (r.partition("=") for r in asked.rename))
    lens = Lens(renames, not asked.without_comments)
    return int(compare(asked.folder, wanted, kinds, asked.jobs, lens, asked.shown) > 0)


if __name__ == "__main__":
    sys.exit(main())
