"""The command line: ``python -m tnlayer COMMAND``, on a network or, ``profile``, on the machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import torch

from ..errors import BuildError, SpecError, TnlayerError
from ..graph.graph import Graph
from ..graph.network import Network
from ..ir.plan_text import table
from ..measure.median_time import median_seconds
from ..nn.layer import Layer
from ..report.compare import compare
from ..report.cost_of_network import cost
from ..support.json_text import canonical_json
from .networks import WAYS, load_network
from .profile_command import add_profile, run_profile

# torch.einsum takes 52 letters; the dense yardstick must fit in memory.
_EINSUM_LEGS = 52
_DENSE_ENTRIES = 2**28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 if the input is wrong."""
    options = _parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace], str]] = {
        "show": _show,
        "cost": _cost,
        "compare": _compare,
        "code": _code,
        "bench": _bench,
        "profile": run_profile,
    }
    try:
        print(commands[options.command](options), flush=True)
    except BrokenPipeError:
        # Whoever reads (a pager, head) has seen enough; what Python still flushes goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except TnlayerError as error:
        # One line, whatever the message quotes.
        print(f"tnlayer {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tnlayer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("show", "print the network"),
        ("cost", "print what it costs"),
        ("compare", "print what several cost, side by side"),
        ("code", "print the generated source"),
        ("bench", "time it against dense and the einsum chain"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        text = WAYS
        if name == "compare":
            command.add_argument("network", nargs="+", help=f"each {text}")
        else:
            command.add_argument("network", help=text)
        if name != "show":
            _add_batch(command, several=name == "bench")
            command.add_argument("--dtype", default=None, help="float32, float64, complex64, ...")
        if name == "cost":
            command.add_argument("--plan", action="store_true", help="print the steps too")
        if name in ("cost", "compare"):
            command.add_argument("--json", action="store_true", help="numbers as JSON")
    add_profile(commands)
    return parser


def _add_batch(command: argparse.ArgumentParser, *, several: bool) -> None:
    if several:
        text = "samples of one call; several make a table each"
        command.add_argument("--batch", type=int, nargs="+", default=[256], help=text)
    else:
        command.add_argument("--batch", type=int, default=256, help="samples of one call")


def _show(options: argparse.Namespace) -> str:
    return str(load_network(options.network))


def _cost(options: argparse.Namespace) -> str:
    counted = cost(load_network(options.network), batch=options.batch, dtype=options.dtype)
    if options.json:
        return canonical_json(counted.numbers(break_even=True))
    return f"{counted}\n\n{counted.steps_text()}" if options.plan else str(counted)


def _compare(options: argparse.Namespace) -> str:
    nets = [load_network(text) for text in options.network]
    compared = compare(nets, batch=options.batch, dtype=options.dtype)
    return canonical_json(compared.numbers()) if options.json else str(compared)


def _code(options: argparse.Namespace) -> str:
    net = load_network(options.network)
    return _layer(net, options.batch, options.dtype).source().rstrip()


def _layer(net: Network | Graph, batch: int, dtype_name: str | None) -> Layer:
    """The layer on the torch backend."""
    if batch < 1:
        msg = f"--batch {batch}: expected a positive number of samples"
        raise SpecError(msg)
    return Layer(net, backend="torch", batch=batch, dtype=dtype_name)


def _bench(options: argparse.Namespace) -> str:
    """One table a batch size."""
    net = load_network(options.network)
    layers = [_layer(net, batch, options.dtype) for batch in options.batch]
    tables = (_bench_one(layer, b) for layer, b in zip(layers, options.batch, strict=True))
    return "\n\n".join(tables)


def _bench_one(layer: Layer, batch: int) -> str:
    """Time forward and forward+backward of the layer, of dense and of one torch.einsum."""
    torch.manual_seed(0)
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
    forward = median_seconds({name: infer(name) for name in methods})
    training = median_seconds({name: train(name) for name in methods})
    rows = [("method", "forward ms", "x tnlayer", "forward+backward ms", "x tnlayer")]
    for name in methods:
        cells = [f"{1e3 * forward[name]:.3f}", f"{forward[name] / forward['tnlayer']:.2f}"]
        cells += [f"{1e3 * training[name]:.3f}", f"{training[name] / training['tnlayer']:.2f}"]
        rows.append((name, cells[0], cells[1], cells[2], cells[3]))
    head = (
        f"{graph.label or 'network'}, batch {batch}, {layer.dtype}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians"
    )
    return "\n".join((head, *table(rows), *notes))


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
