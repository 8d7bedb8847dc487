"""What this machine can do: multiply-adds in registers and copies between caches or memory."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from tnlayer.runtime.build import load_library

# Independent sums: two units with four cycles of latency need eight; 16 registers bound them.
SUMS, STEPS = 14, 8
TURNS = 300_000
# Bytes that a measurement of copies moves, so that it takes milliseconds at any size.
COPIED = 2**30

_SOURCE = """
#include <omp.h>
#include <cstdlib>
#include <cstring>
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
extern "C" double copies(long bytes, int turns, int threads) {
  double start = 0, seconds = 0;
  #pragma omp parallel num_threads(threads)
  {
    char *a = (char*)malloc(bytes), *b = (char*)malloc(bytes);
    memset(a, 1, bytes); memset(b, 1, bytes);
    #pragma omp barrier
    #pragma omp master
    start = omp_get_wtime();
    for (int i = 0; i < turns; i++) { memcpy(b, a, bytes); asm volatile("" : : "r"(b) : "memory"); }
    #pragma omp barrier
    #pragma omp master
    seconds = omp_get_wtime() - start;
    free(a); free(b);
  }
  return seconds;
}
"""


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine can do on all of torch's threads.

    Arguments:
        flops: float32 multiply-adds in registers, two FLOPs each, a second.
        bandwidth: bytes read plus bytes written a second by copies.
        copied_bytes: bytes that each thread copied again and again.
    """

    flops: float
    bandwidth: float
    copied_bytes: int


def measure_peaks(copied_bytes: int, vector_bytes: int, runs: int = 5) -> Peaks:
    """The best of some runs.

    Arguments:
        copied_bytes: a thread's share of what the timed call reads: copies of that size run in the
            cache where the call's x and y lie.
        vector_bytes: of a vector register.
        runs: how often each is measured.
    """
    names = [f"a{number}" for number in range(SUMS)]
    source = _SOURCE.replace("VECTOR_BYTES", str(vector_bytes))
    source = source.replace("ACCUMULATORS", ", ".join(f"{name} = x" for name in names))
    steps = " ".join(f"{name} = {name} * x + y;" for name in names * STEPS)
    source = source.replace("MULTIPLY_ADDS", steps)
    register = "v" if vector_bytes == 64 else "x"
    source = source.replace("KEPT", ", ".join(f'"+{register}"({name})' for name in names))
    library = load_library(source)
    library.multiply_adds.restype = library.copies.restype = ctypes.c_double
    library.multiply_adds.argtypes = (ctypes.c_long, ctypes.c_int)
    library.copies.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int)
    threads = torch.get_num_threads()
    turns = max(1, COPIED // (2 * copied_bytes * threads))
    flops = TURNS * STEPS * SUMS * 2 * (vector_bytes // 4) * threads
    moved = turns * 2 * copied_bytes * threads
    return Peaks(
        flops / min(library.multiply_adds(TURNS, threads) for _ in range(runs)),
        moved / min(library.copies(copied_bytes, turns, threads) for _ in range(runs)),
        copied_bytes,
    )
