"""What this machine can do: multiply-adds in registers and copies between caches or memory."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.measure.vector_rate import multiply_add_seconds

# Bytes that a measurement of copies moves, so that it takes milliseconds at any size.
COPIED = 2**30

_SOURCE = """
#include <omp.h>
#include <cstdlib>
#include <cstring>
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
    library = load_library(_SOURCE)
    library.copies.restype = ctypes.c_double
    library.copies.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int)
    threads = torch.get_num_threads()
    turns = max(1, COPIED // (2 * copied_bytes * threads))
    flops = 2 * (vector_bytes // 4) * threads
    moved = turns * 2 * copied_bytes * threads
    return Peaks(
        flops / multiply_add_seconds(vector_bytes, threads, runs),
        moved / min(library.copies(copied_bytes, turns, threads) for _ in range(runs)),
        copied_bytes,
    )
