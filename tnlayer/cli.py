"""The command line: ``python -m tnlayer show | cost | code | bench NETWORK``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tnlayer.errors import SpecError, TnlayerError
from tnlayer.graph import Graph
from tnlayer.network import Network
from tnlayer.nn.layer import Layer
from tnlayer.plan.text import table
from tnlayer.report import cost
from tnlayer.runtime.measure import median_seconds

# torch.einsum takes 52 letters; the dense yardstick must fit in memory.
_EINSUM_LEGS = 52
_DENSE_ENTRIES = 2**28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 if the input is wrong."""
    options = _parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace], str]] = {
        "show": _show,
        "cost": _cost,
        "code": _code,
        "bench": _bench,
    }
    try:
        print(commands[options.command](options))
    except TnlayerError as error:
        print(f"tnlayer {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


def load_network(text: str) -> Network:
    """A network from a JSON file or from MODULE:FUNCTION, a function without arguments.

    Raises:
        SpecError: the file, module or function is not there, or gives no Network.

    >>> load_network("tnlayer.topologies:mera").parameter_count
    304
    """
    if ":" not in text or Path(text).exists():
        try:
            return Network.from_json(Path(text).read_bytes())
        except OSError as error:
            msg = f"{text!r} cannot be read ({error.strerror}); pass a JSON file or MODULE:FUNCTION"
            raise SpecError(msg) from error
    module_name, _, function_name = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        made = getattr(importlib.import_module(module_name), function_name)()
    except (ImportError, AttributeError, TypeError) as error:
        msg = f"{text!r}: {error}; expected MODULE:FUNCTION, a function that needs no arguments"
        raise SpecError(msg) from error
    if not isinstance(made, Network):
        msg = f"{text!r} returned {type(made).__name__}; expected a tnlayer.Network"
        raise SpecError(msg)
    return made


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tnlayer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("show", "print the network"),
        ("cost", "print what it costs"),
        ("code", "print the generated source"),
        ("bench", "time it against dense and the einsum chain"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("network", help="a net.json, or MODULE:FUNCTION")
        if name != "show":
            command.add_argument("--batch", type=int, default=256, help="samples of one call")
            command.add_argument("--dtype", default=None, help="float32, float64, complex64, ...")
        if name == "cost":
            command.add_argument("--plan", action="store_true", help="print the steps too")
            command.add_argument("--json", action="store_true", help="numbers as JSON")
    return parser


def _show(options: argparse.Namespace) -> str:
    return str(load_network(options.network))


def _cost(options: argparse.Namespace) -> str:
    counted = cost(load_network(options.network), batch=options.batch, dtype=options.dtype)
    if options.json:
        return json.dumps(counted.numbers(), sort_keys=True, indent=2)
    return f"{counted}\n\n{counted.plan}" if options.plan else str(counted)


def _code(options: argparse.Namespace) -> str:
    return _layer(load_network(options.network), options).source().rstrip()


def _layer(net: Network | Graph, options: argparse.Namespace) -> Layer:
    """The layer on the torch backend."""
    if options.batch < 1:
        msg = f"--batch {options.batch}: expected a positive number of samples"
        raise SpecError(msg)
    dtype = None if options.dtype is None else getattr(torch, options.dtype, None)
    if options.dtype is not None and not isinstance(dtype, torch.dtype):
        msg = f"--dtype {options.dtype!r} is no dtype of torch; expected for example float32"
        raise SpecError(msg)
    return Layer(net, backend="torch", batch=options.batch, dtype=dtype)


def _bench(options: argparse.Namespace) -> str:
    """Time forward and forward+backward of the layer, of dense and of one torch.einsum."""
    torch.manual_seed(0)
    layer = _layer(load_network(options.network), options)
    graph = layer.graph
    lead = tuple((options.batch,) if port.batched else () for port in graph.inputs)
    shapes = (graph.input_shape(port) for port in graph.inputs)
    inputs = tuple(
        torch.randn((*batch, *shape), dtype=layer.dtype, requires_grad=True)
        for batch, shape in zip(lead, shapes, strict=True)
    )
    y = layer(*inputs).detach()
    gradient = torch.randn_like(y)
    methods: dict[str, Callable[[], torch.Tensor]] = {"tnlayer": lambda: layer(*inputs)}
    wanted = {"tnlayer": [*inputs, *_trainable(layer)]}
    notes: list[str] = []
    dense = _dense(layer, notes)
    if dense is not None:
        methods["dense"] = lambda: torch.nn.functional.linear(inputs[0], dense)
        wanted["dense"] = [inputs[0], dense]
    einsum = _einsum(layer, notes)
    if einsum is not None:
        methods["einsum"] = lambda: einsum(inputs[0])
        wanted["einsum"] = wanted["tnlayer"]
    for name, method in methods.items():
        error = float((method().detach() - y).abs().max() / y.abs().max().clamp_min(1e-30))
        notes.append(f"{name}: largest difference from tnlayer {error:.1e} of the largest |y|")

    def train(name: str) -> Callable[[], object]:
        return lambda: torch.autograd.grad(methods[name](), wanted[name], gradient)

    def infer(name: str) -> Callable[[], object]:
        return torch.no_grad()(methods[name])

    forward = median_seconds({name: infer(name) for name in methods})
    training = median_seconds({name: train(name) for name in methods})
    rows = [("method", "forward ms", "x tnlayer", "forward+backward ms", "x tnlayer")]
    for name in methods:
        cells = [f"{1e3 * forward[name]:.3f}", f"{forward[name] / forward['tnlayer']:.2f}"]
        cells += [f"{1e3 * training[name]:.3f}", f"{training[name] / training['tnlayer']:.2f}"]
        rows.append((name, cells[0], cells[1], cells[2], cells[3]))
    head = (
        f"{graph.label or 'network'}, batch {options.batch}, {layer.dtype}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians"
    )
    return "\n".join((head, *table(rows), *notes))


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
    return layer.to_dense().detach().clone().requires_grad_()


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
    notes.append(f"einsum: one torch.einsum over all tensors, order {chain}")

    def contract(x: torch.Tensor) -> torch.Tensor:
        y = torch.einsum(x.reshape(-1, *shape), x_legs, *operands, y_legs)
        return y.reshape(x.shape[0], -1)

    return contract
