"""Layers with random entries, held against the oracle: values and all gradients."""

from __future__ import annotations

import numpy as np
import torch

import tnlayer as tn
from tests.support import oracle
from tests.support.strategies import LEADS, Case, random_array
from tnlayer.graph.graph import Graph, Port

KINDS = {"float64": torch.float64, "complex128": torch.complex128}


def laid_out(array: np.ndarray, layout: str) -> torch.Tensor:
    """A tensor with these entries in an unusual layout; what lies between them is NaN.

    An expanded one repeats its first entries, for else it could not have stride 0.
    """
    x = torch.from_numpy(np.array(array))
    if layout == "strided" and x.ndim:
        wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan, dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "transposed" and x.ndim > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "expanded" and x.ndim and x.shape[0]:
        return x[:1].expand_as(x)
    if layout == "offset":
        padded = torch.full((x.numel() + 3,), torch.nan, dtype=x.dtype)
        padded[3:] = x.flatten()
        return padded[3:].view(x.shape)
    return x


def draw_inputs(
    graph: Graph,
    case: Case,
    lead: tuple[int, ...],
    random: np.random.Generator,
    is_complex: bool,
    single: bool = False,
) -> list[torch.Tensor]:
    """One input a port; in a complex network about half of those that may be real are real.

    In single precision if ``single``, where a port names no other dtype, else in double.
    """

    def draw(port: Port, layout: str) -> torch.Tensor:
        shape = (*(lead if port.batched else ()), *oracle.input_shapes(graph)[port.name])
        dtype_is_complex = is_complex and (port.dtype is not None or random.random() < 0.5)
        entries = random_array(random, shape, dtype_is_complex)
        if single and port.dtype is None:
            entries = entries.astype(np.complex64 if dtype_is_complex else np.float32)
        return laid_out(entries, layout)

    return [draw(port, layout) for port, layout in zip(graph.inputs, case.layouts, strict=False)]


def fill(
    layer: tn.Layer, graph: Graph, random: np.random.Generator, is_complex: bool
) -> dict[str, np.ndarray]:
    """Check what the layer stores, put random entries into all but constants, return a copy."""
    state = layer.state_dict()
    assert {name: tuple(t.shape) for name, t in state.items()} == oracle.stored_shapes(graph)
    for name, value in oracle.stored_values(graph).items():
        entries = state[name].numpy()
        np.testing.assert_array_equal(entries, value.astype(entries.dtype))
    assert {name for name, _ in layer.named_buffers()} == {
        t.name for t in graph.tensors if t.value is not None and not t.trainable
    }
    with torch.no_grad():
        for _, parameter in layer.named_parameters():
            entries = random_array(random, tuple(parameter.shape), is_complex)
            parameter.copy_(torch.from_numpy(entries))
    return {name: numpy_of(tensor) for name, tensor in layer.state_dict().items()}


def freeze_some(layer: tn.Layer, inputs: list[torch.Tensor], frozen_seed: int) -> None:
    """Let all inputs and parameters take gradients, save a random subset."""
    random = np.random.default_rng(frozen_seed)
    trainable = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert trainable == {t.name for t in layer.graphs[0].tensors if t.share is None and t.trainable}
    for tensor in (*inputs, *(layer.get_parameter(name) for name in sorted(trainable))):
        tensor.requires_grad_(frozen_seed == 0 or random.random() < 0.5)


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    """The entries, copied; in double precision, as the oracle computes."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().resolve_conj().to(wide, copy=True).numpy()


def allowed(dtype: torch.dtype) -> float:
    """The largest error that the oracle's comparison allows, as a part of the terms' sizes."""
    return 1e-10 if torch.finfo(dtype).bits == 64 else 1e-5


def check_forward(
    graph: Graph, y: torch.Tensor, inputs: list[torch.Tensor], stored: dict[str, np.ndarray]
) -> None:
    """The value of y must be the oracle's."""
    arrays = [numpy_of(x) for x in inputs]
    magnitude = oracle.evaluate(
        graph, [np.abs(x) for x in arrays], {name: np.abs(w) for name, w in stored.items()}
    )
    expected = oracle.evaluate(graph, arrays, stored)
    oracle.assert_close(numpy_of(y), expected, magnitude, "y", allowed(y.dtype))


def check_backward(
    layer: tn.Layer,
    graph: Graph,
    inputs: list[torch.Tensor],
    stored: dict[str, np.ndarray],
    grad_y: torch.Tensor,
) -> None:
    """Each gradient must be the oracle's, and there must be none where none was asked for."""
    arrays, slope = [numpy_of(x) for x in inputs], numpy_of(grad_y)
    of_inputs, of_stored = oracle.gradients(graph, arrays, stored, slope)
    sizes_of_inputs, sizes_of_stored = oracle.gradients(
        graph,
        [np.abs(x) for x in arrays],
        {name: np.abs(w) for name, w in stored.items()},
        np.abs(slope),
    )
    compared = [
        *zip([p.name for p in graph.inputs], inputs, of_inputs, sizes_of_inputs, strict=True),
        *((n, p, of_stored[n], sizes_of_stored[n]) for n, p in layer.named_parameters()),
    ]
    for name, tensor, expected, magnitude in compared:
        if not tensor.requires_grad:
            assert tensor.grad is None, f"{name} is frozen and has a gradient"
            continue
        assert tensor.grad is not None, f"{name} has no gradient"
        assert tensor.grad.dtype == tensor.dtype
        # A real array in a complex network has the real part of its complex gradient.
        real = expected if tensor.is_complex() else np.real(expected)
        what = f"gradient of {name}"
        oracle.assert_close(numpy_of(tensor.grad), real, magnitude, what, allowed(layer.dtype))


def check_case(case: Case, dtype: torch.dtype, backend: str = "torch") -> None:
    """Value, gradients, and the value once more at another batch size without gradients."""
    graph, is_complex = case.net.freeze(), dtype.is_complex
    random = np.random.default_rng(case.seed)
    layer = tn.Layer(case.net, dtype=dtype, backend=backend)
    assert layer.graphs == (graph,)
    stored = fill(layer, graph, random, is_complex)
    inputs = draw_inputs(graph, case, case.lead, random, is_complex)
    freeze_some(layer, inputs, case.frozen)
    y = layer(*inputs)
    assert y.dtype == dtype
    check_forward(graph, y, inputs, stored)
    takers = [*inputs, *layer.parameters()]
    assert y.requires_grad == any(tensor.requires_grad for tensor in takers)
    if y.requires_grad:
        slope = random_array(random, tuple(y.shape), is_complex)
        grad_y = laid_out(slope, case.layouts[-1])
        y.backward(grad_y)
        check_backward(layer, graph, inputs, stored, grad_y)
    other_lead = LEADS[case.seed % len(LEADS)]
    inputs = draw_inputs(graph, case, other_lead, random, is_complex)
    with torch.no_grad():
        check_forward(graph, layer(*inputs), inputs, stored)
