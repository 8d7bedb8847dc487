"""Layers on several processes: data and tensor parallel, sharded, in a pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from tests.support.subprocesses import ROOT
from tnlayer.nn.leg_parallel import _axes  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.full)])
def test_three_steps_are_those_of_one_process(processes: int, tmp_path: Path) -> None:
    """DDP, FSDP2 with a checkpoint, legs over processes, a pipeline: parameters, results and
    gradients are those of a process that is alone."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.distributed_cases", str(processes), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    names = ["data_parallel", "fully_sharded", "along_legs", "split_batches", "pipeline"]
    assert done.stdout.split() == names


def test_legs_that_cannot_be_split_are_refused() -> None:
    """Unknown legs, sizes that do not divide, fixed legs: each with the legs that fit."""
    net = tn.Network("net")
    net.input(i=6)
    net.output(o=4)
    net.bond(k=3)
    net.tensor("A", "i k")
    net.tensor("B", "k o")
    graph = net.freeze()
    assert _axes(graph, "i", 2) == {"A": 0}
    with pytest.raises(tn.SpecError, match=r"has no leg 'kk' \(did you mean 'k'\?\)"):
        _axes(graph, "kk", 2)
    with pytest.raises(tn.SpecError, match=r"leg 'k' of 'net' has size 3, .* fit: i o"):
        _axes(graph, "k", 2)


def test_other_modules_are_refused() -> None:
    """A dense layer has no legs."""
    with pytest.raises(tn.SpecError, match=r"expected a tn\.Layer of one network"):
        tn.LegParallel("k")._apply(torch.nn.Linear(2, 2), None)  # pyright: ignore
