"""``tnlayer bench``: time a layer against dense and one torch.einsum."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import BuildError
from ..ir.table_text import table
from ..measure.median_time import median_seconds
from ..nn.layer import Layer
from ..support.json_text import canonical_json
from .network_commands import layer_of
from .networks import load_network
from .shared_options import add_network, add_planning

# torch.einsum takes 52 letters; the dense yardstick must fit in memory.
_EINSUM_LEGS = 52
_DENSE_ENTRIES = 2**28


def add_bench(commands: Any) -> None:
    """Add the command to those of the command line."""
    text = "time it against dense and the einsum chain"
    command: argparse.ArgumentParser = commands.add_parser("bench", help=text, description=text)
    command.set_defaults(run=run_bench)
    add_network(command)
    add_planning(command, batches=True)


def run_bench(options: argparse.Namespace) -> str:
    """One table a batch size; or all times as JSON."""
    net = load_network(options.network)
    layers = [layer_of(net, options, batch) for batch in options.batch]
    found = [Timed(layer, b) for layer, b in zip(layers, options.batch, strict=True)]
    if options.json:
        return canonical_json([one.numbers() for one in found])
    return "\n\n".join(map(str, found))


class Timed:
    """Times of forward and forward+backward of a layer, of dense and of one torch.einsum.

    Arguments:
        layer: what is timed.
        batch: samples of one call.

    Raises:
        BuildError: the methods disagree; then nothing is timed.
    """

    def __init__(self, layer: Layer, batch: int) -> None:
        self.layer, self.batch = layer, batch
        torch.manual_seed(0)
        layer.prepare((batch,))
        graph = layer.graph
        inputs = tuple(
            torch.randn(
                (*((batch,) if port.batched else ()), *graph.input_shape(port)),
                dtype=layer.dtype,
                requires_grad=True,
            )
            for port in graph.inputs
        )
        methods: dict[str, Callable[[], torch.Tensor]] = {"tnlayer": lambda: layer(*inputs)}
        wanted = {"tnlayer": [*inputs, *_trainable(layer)]}
        notes: list[str] = []
        dense = _dense(layer, notes)
        if dense is not None:
            # What torch.nn.Linear(bias=False) runs, with the network's own matrix as its weight.
            methods["dense"] = lambda: torch.nn.functional.linear(inputs[0], dense)
            wanted["dense"] = [inputs[0], *([dense] if dense.requires_grad else [])]
        einsum = _einsum(layer, notes)
        if einsum is not None:
            methods["einsum"] = lambda: einsum(inputs[0])
            wanted["einsum"] = wanted["tnlayer"]
        gradient = torch.randn_like(layer(*inputs).detach())

        def train(name: str) -> Callable[[], tuple[torch.Tensor, ...]]:
            return lambda: torch.autograd.grad(methods[name](), wanted[name], gradient)

        def infer(name: str) -> Callable[[], torch.Tensor]:
            return torch.no_grad()(methods[name])

        results = {name: (infer(name)(), train(name)()) for name in methods}
        notes += _agreement(results)
        self.forward = median_seconds({name: infer(name) for name in methods})
        self.training = median_seconds({name: train(name) for name in methods})
        self.notes = notes

    def numbers(self) -> dict[str, Any]:
        """Seconds by method."""
        return {
            "label": self.layer.graph.label,
            "batch": self.batch,
            "dtype": str(self.layer.dtype),
            "threads": torch.get_num_threads(),
            "forward_seconds": self.forward,
            "training_seconds": self.training,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        rows = [("method", "forward ms", "x tnlayer", "forward+backward ms", "x tnlayer")]
        for name in self.forward:
            both = (self.forward, self.training)
            first, second = ((t[name], t[name] / t["tnlayer"]) for t in both)
            cells = [f"{1e3 * first[0]:.3f}", f"{first[1]:.2f}"]
            cells += [f"{1e3 * second[0]:.3f}", f"{second[1]:.2f}"]
            rows.append((name, cells[0], cells[1], cells[2], cells[3]))
        head = (
            f"{self.layer.graph.label or 'network'}, batch {self.batch}, {self.layer.dtype}, "
            f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians"
        )
        return "\n".join((head, *table(rows), *self.notes))


def _agreement(results: Mapping[str, tuple[torch.Tensor, tuple[torch.Tensor, ...]]]) -> list[str]:
    """How far each method's y and gradients are from tnlayer's, relative to the largest entry.

    Dense has no gradients of the network's tensors: of its gradients x's alone is compared.

    Raises:
        BuildError: a difference is above the square root of the dtype's precision.
    """
    y, gradients = results["tnlayer"]
    allowed = torch.finfo(y.dtype).eps ** 0.5
    notes: list[str] = []
    for name, (other_y, other_gradients) in results.items():
        if name == "tnlayer":
            continue
        compared = 1 if name == "dense" else len(gradients)
        pairs = zip(other_gradients[:compared], gradients[:compared], strict=True)
        of_y = _difference(other_y, y)
        of_gradients = [_difference(other, ours) for other, ours in pairs]
        # Not `>`: a NaN must fail.
        if not all(found <= allowed for found in (of_y, *of_gradients)):
            msg = (
                f"{name} and tnlayer disagree: y by {of_y:.1e}, gradients by "
                f"{', '.join(f'{found:.1e}' for found in of_gradients)} of the largest entry; "
                f"expected at most {allowed:.1e}; nothing was timed; try a wider --dtype"
            )
            raise BuildError(msg)
        notes.append(
            f"{name}: agrees with tnlayer, largest difference of y {of_y:.1e}, "
            f"of gradients {max(of_gradients):.1e}, relative to the largest entry"
        )
    return notes


def _difference(other: torch.Tensor, ours: torch.Tensor) -> float:
    scale = ours.abs().max().clamp_min(torch.finfo(ours.dtype).tiny)
    return float((other - ours).abs().max() / scale)


def _trainable(layer: Layer) -> list[torch.Tensor]:
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def _dense(layer: Layer, notes: list[str]) -> torch.Tensor | None:
    """The dense matrix of the layer, or a note why there is none."""
    ports = layer.graph.inputs
    if len(ports) != 1 or ports[0].product or not ports[0].batched:
        notes.append("dense: left out, it needs one batched input that is no product")
        return None
    if layer.in_features * layer.out_features > _DENSE_ENTRIES:
        notes.append(f"dense: left out, it has more than {_DENSE_ENTRIES} entries")
        return None
    dense = layer.to_dense().detach().clone()
    # A frozen network is timed against a frozen matrix.
    return dense.requires_grad_(bool(_trainable(layer)))


def _einsum(layer: Layer, notes: list[str]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """One torch.einsum over x and all tensors, or a note why there is none."""
    graph = layer.graph
    ports = graph.inputs
    reason = ""
    if len(ports) != 1 or ports[0].product or not ports[0].batched:
        reason = "it needs one batched input that is no product"
    elif graph.fixed or any(t.share or t.conj for t in graph.tensors):
        reason = "the network fixes legs, or shares or conjugates tensors"
    elif len(graph.leg_sizes) >= _EINSUM_LEGS:
        reason = f"torch.einsum has no letters for {len(graph.leg_sizes)} legs"
    if reason:
        notes.append(f"einsum: left out, {reason}")
        return None
    letter = {leg: index + 1 for index, (leg, _) in enumerate(graph.leg_sizes)}
    operands: list[object] = []
    arrays = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    for tensor in graph.tensors:
        operands += [arrays[tensor.name], [letter[leg] for leg in tensor.legs]]
    shape = graph.shape_of(ports[0].legs)
    x_legs = [0, *(letter[leg] for leg in ports[0].legs)]
    y_legs = [0, *(letter[leg] for leg in graph.output)]
    chain = "found by opt_einsum" if torch.backends.opt_einsum.is_available() else "left to right"
    notes.append(f"einsum: one torch.einsum over all tensors, order {chain} in every call")

    def contract(x: torch.Tensor) -> torch.Tensor:
        y = torch.einsum(x.reshape(-1, *shape), x_legs, *operands, y_legs)
        return y.reshape(x.shape[0], -1)

    return contract
