"""Layers in the formats of others: ONNX, and AOTInductor's packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

import tnlayer as tn

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: tn.topologies.mera(4, 2, 2),
    "btt": lambda: tn.topologies.btt((4, 4), (4, 4), 2),
}
BATCHES = (5, 1, 9)


def a_layer(name: str) -> tuple[tn.Layer, torch.Tensor]:
    """A layer and an input to trace it with."""
    torch.manual_seed(0)
    layer = tn.Layer(NETWORKS[name](), bias=True).eval()
    return layer, torch.randn(3, layer.in_features)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx(name: str, tmp_path: Path) -> None:
    """onnxruntime gives what the layer gives, for any batch size."""
    runtime: Any = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer, x = a_layer(name)
    path = tmp_path / "layer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own parts
        program = torch.onnx.export(
            layer, (x,), dynamo=True, dynamic_shapes=({0: Dim("b")},), verbose=False
        )
        assert program is not None
        program.save(str(path))
    session = runtime.InferenceSession(str(path))
    for batch in BATCHES:
        given = torch.randn(batch, layer.in_features)
        (y,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), layer(given).detach())


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_aot_inductor(name: str, tmp_path: Path) -> None:
    """A package of torch's compiler gives what the layer gives, for any batch size."""
    layer, x = a_layer(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(layer, (x,), dynamic_shapes=({0: Dim("b")},))
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "layer.pt2")
        )
        run: Any = torch._inductor.aoti_load_package(path)
    for batch in BATCHES:
        given = torch.randn(batch, layer.in_features)
        torch.testing.assert_close(run(given), layer(given))
