"""Runs printed CUDA C++ on the CPU: threads are fibers that stop at barriers and shuffles.

The text is compiled as it is, by the C++ compiler, against a few definitions. Between two barriers
threads run one after another, forwards and backwards in turns, and all memory starts as NaN: a
missing barrier, a shuffle that not all lanes reach and an entry that nobody wrote are found.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np

from tnlayer.kernels.cuda_source import CudaSource
from tnlayer.runtime.build import load_library

_HEAD = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>
#include <ucontext.h>
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static
struct Place { int x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> void __stcg(T* p, const T& v) { *p = v; }
static Place threadIdx, blockIdx, blockDim, gridDim;
extern "C" { alignas(16) char memory[1 << 18]; }

enum State { RUNS, WAITS_FOR_BLOCK, WAITS_FOR_WARP, DONE };
struct Fiber { ucontext_t context; State state; int turn; std::vector<char> stack; };
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static std::function<void()> kernel;
static double slots[2][64][32][2];

static void wait(State state) {
  Fiber& own = fibers[threadIdx.x];
  own.state = state;
  swapcontext(&own.context, &scheduler);
}
static void __syncthreads() { wait(WAITS_FOR_BLOCK); }
template <typename T> T __shfl_xor_sync(unsigned, T v, int mask) {
  Fiber& own = fibers[threadIdx.x];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, turn = own.turn++ % 2;
  memcpy(slots[turn][warp][lane], &v, sizeof v);
  wait(WAITS_FOR_WARP);
  memcpy(&v, slots[turn][warp][lane ^ mask], sizeof v);
  return v;
}
// Tensor cores: every lane shows its fragments, then sums up its own results by the tables of the
// PTX ISA ("Matrix Fragments for mma.m16n8k8" and "mma.m16n8k16").
#define EMULATED_TENSOR_CORES
#define APART __attribute__((noinline))
struct Fragments { unsigned a[4], b[2]; };
static Fragments fragments[2][64][32];
static float __uint_as_float(unsigned bits) { float f; memcpy(&f, &bits, 4); return f; }
static unsigned to_tf32(float v) {
  unsigned bits; memcpy(&bits, &v, 4);
  return v - v == 0 ? (bits + 0x1000u) & 0xffffe000u : bits;
}
static unsigned bf16_bits(float v) {
  unsigned bits; memcpy(&bits, &v, 4);
  return v - v == 0 ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : bits >> 16;
}
static unsigned to_bf16_pair(float low, float high) {
  return bf16_bits(high) << 16 | bf16_bits(low);
}
APART static const Fragments* shown(const unsigned (&a)[4], const unsigned (&b)[2]) {
  Fiber& own = fibers[threadIdx.x];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, turn = own.turn++ % 2;
  Fragments& mine = fragments[turn][warp][lane];
  memcpy(mine.a, a, sizeof a), memcpy(mine.b, b, sizeof b);
  wait(WAITS_FOR_WARP);
  return fragments[turn][warp];
}
static float half_of(unsigned pair, int upper) {
  return __uint_as_float(upper ? pair & 0xffff0000u : pair << 16);
}
APART static void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const Fragments* all = shown(a, b);
  const int lane = threadIdx.x % 32;
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
    for (int k = 0; k < 8; k++) {
      // a: row = group for a0 and a2, + 8 for a1 and a3; k = thread in group, + 4 for a2 and a3.
      const float x = __uint_as_float(all[row % 8 * 4 + k % 4].a[(row >= 8) + 2 * (k >= 4)]);
      const float y = __uint_as_float(all[column * 4 + k % 4].b[k >= 4]);
      d[i] += x * y;
    }
  }
}
APART static void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const Fragments* all = shown(a, b);
  const int lane = threadIdx.x % 32;
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
    for (int k = 0; k < 16; k++) {
      const int thread = k % 8 / 2;
      const unsigned x = all[row % 8 * 4 + thread].a[(row >= 8) + 2 * (k >= 8)];
      const unsigned y = all[column * 4 + thread].b[k >= 8];
      d[i] += half_of(x, k & 1) * half_of(y, k & 1);
    }
  }
}
static void start() {
  kernel();
  fibers[threadIdx.x].state = DONE;
  swapcontext(&fibers[threadIdx.x].context, &scheduler);
}
static int run_block(int threads) {
  fibers.resize(threads);
  for (auto& fiber : fibers) {
    fiber.stack.resize(1 << 16);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.state = RUNS;
    fiber.turn = 0;
    makecontext(&fiber.context, start, 0);
  }
  for (int pass = 0;; pass++) {
    for (int k = 0; k < threads; k++) {
      threadIdx.x = pass % 2 ? threads - 1 - k : k;
      Fiber& fiber = fibers[threadIdx.x];
      if (fiber.state == RUNS) swapcontext(&scheduler, &fiber.context);
    }
    auto all = [&](int first, int last, State state) {
      for (int t = first; t < last; t++) if (fibers[t].state != state) return false;
      return true;
    };
    auto wake = [&](int first, int last) {
      for (int t = first; t < last; t++) fibers[t].state = RUNS;
    };
    if (all(0, threads, DONE)) return 0;
    bool moves = false;
    if (all(0, threads, WAITS_FOR_BLOCK)) wake(0, threads), moves = true;
    for (int first = 0; first < threads; first += 32)
      if (all(first, first + 32, WAITS_FOR_WARP)) wake(first, first + 32), moves = true;
    if (!moves) return 1;
  }
}
static int launch(int blocks, int threads, std::function<void()> body) {
  kernel = body;
  gridDim = {blocks, 1, 1}, blockDim = {threads, 1, 1};
  for (int b = 0; b < blocks; b++) {
    blockIdx = {b, 0, 0};
    memset(memory, 0xff, sizeof memory);
    if (run_block(threads)) return 1;
  }
  return 0;
}
"""


def emulated(source: CudaSource) -> str:
    """A translation unit for the C++ compiler: the text in a namespace, a function a kernel."""
    text = source.text.replace("extern __shared__", "extern").replace('extern "C" ', "")
    place = f"in_{source.program.name}"
    lines = [f"namespace {place} {{", text.replace("extern __align__(16) char memory[];", "")]
    for entry in source.entries:
        pointers = ", ".join(f"(stored*)a[{n}]" for n in range(len(source.arguments)))
        lines.append(
            f'extern "C" int run_{entry.name}(void** a, void* w, long long batch, int blocks, '
            f"int grid) {{ return launch(grid, {entry.threads}, "
            f"[=] {{ {entry.name}({pointers}, (entry*)w, batch, blocks); }}); }}"
        )
    return "\n".join([*lines, "}", ""])


def compile_emulated(sources: list[CudaSource]) -> ctypes.CDLL:
    """All sources in one library."""
    return load_library(_HEAD + "".join(map(emulated, sources)), optimise="-O1")


def run_emulated(
    source: CudaSource,
    library: ctypes.CDLL,
    given: Mapping[str, np.ndarray],
    batch: int,
    blocks: int,
) -> dict[str, np.ndarray]:
    """Launch all kernels in order, as the launcher does; outputs and workspace start as NaN."""
    dtype = np.dtype(source.stored)
    arrays = [
        np.full(a.size * (batch if a.batched else 1), np.nan, dtype)
        if a.is_output
        else np.ascontiguousarray(given[a.name], dtype)
        for a in source.arguments
    ]
    entries = source.call_entries + blocks * source.block_entries
    workspace = np.full(entries + 1, np.nan, np.dtype(source.scalar))
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    for entry in source.entries:
        grid = blocks if entry.grid == "persistent" else entry.blocks
        function = getattr(library, f"run_{entry.name}")
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int,
                             ctypes.c_int)  # fmt: skip
        failed = function(pointers, workspace.ctypes.data, batch, blocks, grid)
        assert not failed, f"{entry.name}: threads wait for each other in vain"
    return {a.name: array for a, array in zip(source.arguments, arrays, strict=True) if a.is_output}
