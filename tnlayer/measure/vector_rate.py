"""How fast compiled code multiplies and adds vectors that lie in registers."""

from __future__ import annotations

import ctypes

from ..backends.toolchains.cpp_build import load_library

# Independent sums: two units with four cycles of latency need eight; 16 registers bound them.
SUMS, STEPS = 14, 8
# A run takes a third of a millisecond: most of them end before another program gets the core.
TURNS, RUNS = 10_000, 60

_SOURCE = """
#include <omp.h>
typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
extern "C" double multiply_adds(long turns, int threads) {
  double start = 0, seconds = 0;
  #pragma omp parallel num_threads(threads)
  {
    vec x = vec{} + .999f, y = vec{} + .001f;
    vec ACCUMULATORS;
    #pragma omp barrier
    #pragma omp master
    start = omp_get_wtime();
    for (long i = 0; i < turns; i++) { MULTIPLY_ADDS asm volatile("" : KEPT); }
    #pragma omp barrier
    #pragma omp master
    seconds = omp_get_wtime() - start;
  }
  return seconds;
}
"""


def multiply_add_seconds(vector_bytes: int, threads: int, runs: int = RUNS) -> float:
    """Seconds of one multiply-add of float32 vectors while all threads do the same: the best run.

    Arguments:
        vector_bytes: of a vector register.
        threads: that run at once.
        runs: how often it is measured.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    names = [f"a{number}" for number in range(SUMS)]
    source = _SOURCE.replace("VECTOR_BYTES", str(vector_bytes))
    source = source.replace("ACCUMULATORS", ", ".join(f"{name} = x" for name in names))
    steps = " ".join(f"{name} = {name} * x + y;" for name in names * STEPS)
    source = source.replace("MULTIPLY_ADDS", steps)
    register = "v" if vector_bytes == 64 else "x"
    source = source.replace("KEPT", ", ".join(f'"+{register}"({name})' for name in names))
    library = load_library(source)
    library.multiply_adds.restype = ctypes.c_double
    library.multiply_adds.argtypes = (ctypes.c_long, ctypes.c_int)
    best = min(library.multiply_adds(TURNS, threads) for _ in range(runs))
    return best / (TURNS * STEPS * SUMS)
