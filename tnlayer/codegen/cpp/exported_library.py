"""What stands around kernels that run without torch and Python: a header, the library that reads
the weights and calls the kernels, and a CMake file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEADER_NAME, LIBRARY_NAME, WEIGHTS_NAME = "tn_layer.h", "tn_layer.cpp", "weights.bin"


@dataclass(frozen=True, slots=True)
class ExportedKernel:
    """A kernel of the library.

    Arguments:
        entry: name of its function.
        arrays: for each argument before y the place of a weight, or -1 - k for input k.
    """

    entry: str
    arrays: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExportedLibrary:
    """A layer's forward as numbers.

    Arguments:
        c_type: of an entry, or of its real and imaginary parts.
        parts: 1, or 2 where entries are complex.
        inputs: parts of each input; of a sample, if it has the batch.
        batched: for each input whether it has the batch.
        outputs: parts of y, of a sample.
        weights: parts of each weight, in the order of the file; the bias is the last.
        has_bias: whether there is one.
        kernels: whose results are added.
        described: lines for the header: what the layer is, the shapes of its inputs.
    """

    c_type: str
    parts: int
    inputs: tuple[int, ...]
    batched: tuple[bool, ...]
    outputs: int
    weights: tuple[int, ...]
    has_bias: bool
    kernels: tuple[ExportedKernel, ...]
    described: tuple[str, ...]


def print_header(library: ExportedLibrary) -> str:
    """The header, for C and C++."""
    text = "\n".join(f" * {line}" for line in library.described)
    return f"""/*
{text}
 *
 * Entries lie in rows, the last axis first{_complex_note(library)}. One layer may be called by many
 * threads at once.
 */
#ifndef TN_LAYER_H
#define TN_LAYER_H
#ifdef __cplusplus
extern "C" {{
#endif

typedef struct TnLayer TnLayer;

/* Reads the weights from a file such as "{WEIGHTS_NAME}"; NULL: it cannot be read. */
TnLayer *tn_layer_open(const char *weights);

/* Fills y for a batch of samples on so many threads; 0, or 1 where memory is missing, or 2 where an
 * address is missing. */
int tn_layer_run(const TnLayer *layer, {_inputs(library)}{library.c_type} *y, long batch,
                 int threads);

void tn_layer_close(TnLayer *layer);

#ifdef __cplusplus
}}
#endif
#endif
"""


def print_library(library: ExportedLibrary) -> str:
    """The functions of the header, in C++."""
    kind = library.c_type
    starts, total = [0], 0
    for size in library.weights:
        total += size
        starts.append(total)
    declared = "\n".join(
        f'extern "C" int {kernel.entry}(void **arguments, long batch, int threads);'
        for kernel in library.kernels
    )
    calls = "\n".join(
        _call(kernel, starts, number) for number, kernel in enumerate(library.kernels)
    )
    several = len(library.kernels) > 1
    sum_of = f"""
  const size_t count = (size_t)rows * {library.outputs};
  {kind} *term = ({kind} *)malloc((count ? count : 1) * sizeof({kind}));
  if (!term) return 1;
"""
    bias = f"""
  const {kind} *bias = w + {starts[-2]};
  for (long row = 0; row < rows; row++)
    for (long k = 0; k < {library.outputs}; k++) y[row * {library.outputs} + k] += bias[k];
"""
    rows = "batch" if any(library.batched) else "1"
    return f"""#include "{HEADER_NAME}"

#include <cstddef>
#include <cstdio>
#include <cstdlib>

{declared}

struct TnLayer {{
  {kind} weights[{max(1, total)}];
}};

TnLayer *tn_layer_open(const char *weights) {{
  FILE *file = fopen(weights, "rb");
  if (!file) return NULL;
  TnLayer *layer = (TnLayer *)malloc(sizeof(TnLayer));
  const size_t wanted = {total};
  const bool whole = layer && fread(layer->weights, sizeof({kind}), wanted, file) == wanted;
  fclose(file);
  if (whole) return layer;
  free(layer);
  return NULL;
}}

int tn_layer_run(const TnLayer *layer, {_inputs(library)}{kind} *y, long batch, int threads) {{
  const {kind} *w = layer->weights;
  const long rows = {rows};
  int status = 0;
{sum_of if several else ""}{calls}
{"  free(term);" if several else ""}
  if (status) return status;
{bias if library.has_bias else ""}  return 0;
}}

void tn_layer_close(TnLayer *layer) {{ free(layer); }}
"""


def print_cmake(sources: Sequence[str], flags: Sequence[str]) -> str:
    """A CMake file that builds the library tn_layer."""
    return f"""cmake_minimum_required(VERSION 3.16)
project(tn_layer CXX)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(OpenMP REQUIRED)
add_library(tn_layer {LIBRARY_NAME} {" ".join(sources)})
target_include_directories(tn_layer PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_features(tn_layer PUBLIC cxx_std_17)
target_compile_options(tn_layer PRIVATE {" ".join(flags)})
set_target_properties(tn_layer PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_link_libraries(tn_layer PUBLIC OpenMP::OpenMP_CXX)
"""


def _inputs(library: ExportedLibrary) -> str:
    """The parameters of the inputs, and a comma."""
    return "".join(f"const {library.c_type} *x{k}, " for k in range(len(library.inputs)))


def _complex_note(library: ExportedLibrary) -> str:
    return ", the imaginary part of each behind the real one" if library.parts == 2 else ""


def _call(kernel: ExportedKernel, starts: Sequence[int], number: int) -> str:
    """The call of a kernel: the first one's result is y, others are added to it."""
    arguments = [f"(void *)(w + {starts[k]})" if k >= 0 else f"(void *)x{-1 - k}" for k in
                 kernel.arrays]  # fmt: skip
    result = "term" if number else "y"
    lines = [
        "  {",
        f"    void *arguments[] = {{{', '.join([*arguments, f'(void *){result}'])}}};",
        f"    if (!status) status = {kernel.entry}(arguments, batch, threads);",
    ]
    if number:
        lines.append("    for (size_t k = 0; !status && k < count; k++) y[k] += term[k];")
    return "\n".join([*lines, "  }"])
