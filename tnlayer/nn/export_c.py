"""layer.export_c(folder): the compiled forward as C++ that needs neither torch nor Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..codegen.cpp.exported_library import (
    HEADER_NAME,
    LIBRARY_NAME,
    WEIGHTS_NAME,
    ExportedKernel,
    ExportedLibrary,
    print_cmake,
    print_header,
    print_library,
)
from ..dispatch.compile import compile
from ..errors import SpecError
from ..graph.graph import Graph
from ..ir.backend_names import CPP
from ..planning.request import INFER
from ..runtime.program import Program
from ..support.dtypes import DTYPES
from .layer_inputs import dtype_name
from .stored_arrays import BIAS

_FLAGS = ("-O3", "-march=native", "-fno-math-errno")


def export_c(
    where: str,
    graphs: Sequence[Graph],
    arrays: Mapping[str, torch.Tensor],
    folder: Path,
    batch: int,
) -> tuple[Path, ...]:
    """Write a layer's forward as a C++ library.

    Arguments:
        where: whose it is, for errors and for the header.
        graphs: the networks that are summed.
        arrays: by name; "bias" among them, if there is one.
        folder: is made; files of these names are written anew.
        batch: samples of a usual call; every other number works too.

    Returns:
        the files.
    """
    dtype = next(iter(arrays.values())).dtype if arrays else torch.float32
    known = DTYPES[dtype_name(dtype)]
    if known.arithmetic != known.name or not known.c_type:
        msg = (
            f"{where}: export_c: expected float32, float64, complex64 or complex128, got {dtype}; "
            "export layer.float()"
        )
        raise SpecError(msg)
    programs = [
        compile(graph, backend=CPP, objective=INFER, dtype=known.name, batch=batch)
        for graph in graphs
    ]
    names = list(dict.fromkeys(name for one in programs for name in one.parameter_order))
    names += [BIAS] if BIAS in arrays else []
    parts = 2 if dtype.is_complex else 1
    library = _library(where, graphs[0], programs, names, arrays, known.c_type, parts)
    files = {
        HEADER_NAME: print_header(library),
        LIBRARY_NAME: print_library(library),
    }
    sources: list[str] = []
    for program, kernel in zip(programs, library.kernels, strict=True):
        source = program.forward_source(kernel.entry)
        if source is None:
            msg = f"{where}: export_c: {program!r} is no compiled kernel for the CPU"
            raise SpecError(msg)
        sources.append(f"{kernel.entry}.cpp")
        files[sources[-1]] = source
    files["CMakeLists.txt"] = print_cmake(sources, _FLAGS)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / WEIGHTS_NAME).write_bytes(b"".join(_bytes(arrays[name]) for name in names))
    return tuple(folder / name for name in (*files, WEIGHTS_NAME))


def _library(
    where: str,
    graph: Graph,
    programs: Sequence[Program],
    names: Sequence[str],
    arrays: Mapping[str, torch.Tensor],
    c_type: str,
    parts: int,
) -> ExportedLibrary:
    ports = graph.inputs
    shapes = [graph.input_shape(port) for port in ports]
    inputs = [-1 - number for number in range(len(ports))]
    kernels = tuple(
        ExportedKernel(
            f"tn_kernel_{number}",
            (*inputs, *(names.index(name) for name in program.parameter_order)),
        )
        for number, program in enumerate(programs)
    )
    batched = any(port.batched for port in ports)
    lines = [where, ""]
    for number, (port, shape) in enumerate(zip(ports, shapes, strict=True)):
        sizes = ("batch", *shape) if port.batched else shape
        lines.append(f"x{number}: port {port.name!a}, ({', '.join(map(str, sizes))})")
    lines.append(f"y: ({'batch, ' if batched else ''}{graph.out_features})")
    return ExportedLibrary(
        c_type,
        parts,
        tuple(math.prod(shape) * parts for shape in shapes),
        tuple(port.batched for port in ports),
        graph.out_features * parts,
        tuple(arrays[name].numel() * parts for name in names),
        BIAS in names,
        kernels,
        tuple(line.replace("*/", "* /") for line in lines),
    )


def _bytes(array: torch.Tensor) -> bytes:
    """Entries in a row."""
    dense = array.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return dense.numpy().tobytes()
