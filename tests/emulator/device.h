// CUDA C++ on a CPU: each thread of a block is a fiber, blocks run one after another.
//
// Fibers change at barriers and shuffles only, in ascending or descending order: what differs
// between the two is a race. Shared memory starts as NaN in each block.
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __constant__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct Index { unsigned x, y, z; };
static Index threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, blockDim{1, 1, 1}, gridDim{1, 1, 1};
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline float __uint_as_float(unsigned bits) { float f; memcpy(&f, &bits, 4); return f; }
static inline unsigned __float_as_uint(float f) { unsigned bits; memcpy(&bits, &f, 4); return bits; }
static inline float from_f16(unsigned short bits) {
  _Float16 half;
  memcpy(&half, &bits, 2);
  return (float)half;
}
static inline unsigned short to_f16(float f) {
  _Float16 half = (_Float16)f;
  unsigned short bits;
  memcpy(&bits, &half, 2);
  return bits;
}
static inline unsigned short to_bf16(float f) {
  unsigned bits = __float_as_uint(f);
  if (f != f) return (unsigned short)0x7fff;
  return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline void __stcg(T* p, const T& v) { *p = v; }

namespace emulator {
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Fiber {
  ucontext_t context;
  State state;
  char slot[16];  // what a shuffle shows to the warp
};
static const unsigned WARP = 32, STACK = 256 * 1024;
static std::vector<Fiber> fibers;
static std::vector<char> stacks;
static ucontext_t scheduler;
static unsigned me;
static void (*kernel)(void**);
static void** parameters;

static void body() {
  kernel(parameters);
  fibers[me].state = DONE;
}

static void wait(State state) {
  unsigned own = me;
  fibers[own].state = state;
  swapcontext(&fibers[own].context, &scheduler);
}

static bool release(unsigned first, unsigned last, State kind) {
  bool any = false;
  for (unsigned k = first; k < last; ++k) {
    if (fibers[k].state != kind && fibers[k].state != DONE) return false;
    any |= fibers[k].state == kind;
  }
  for (unsigned k = first; any && k < last; ++k)
    if (fibers[k].state == kind) fibers[k].state = READY;
  return any;
}

static int run_block(unsigned threads, bool descending) {
  for (unsigned k = 0; k < threads; ++k) {
    getcontext(&fibers[k].context);
    fibers[k].context.uc_stack.ss_sp = stacks.data() + (size_t)k * STACK;
    fibers[k].context.uc_stack.ss_size = STACK;
    fibers[k].context.uc_link = &scheduler;
    fibers[k].state = READY;
    makecontext(&fibers[k].context, body, 0);
  }
  while (true) {
    for (unsigned turn = 0; turn < threads; ++turn) {
      unsigned k = descending ? threads - 1 - turn : turn;
      if (fibers[k].state != READY) continue;
      me = k;
      threadIdx = {k, 0, 0};
      swapcontext(&scheduler, &fibers[k].context);
    }
    bool moved = release(0, threads, AT_BLOCK), done = true;
    for (unsigned first = 0; first < threads; first += WARP)
      moved |= release(first, first + WARP < threads ? first + WARP : threads, AT_WARP);
    for (unsigned k = 0; k < threads; ++k) done &= fibers[k].state == DONE;
    if (done) return 0;
    if (!moved) {
      fprintf(stderr, "emulator: threads of block %u wait at different barriers\n", blockIdx.x);
      return 1;
    }
  }
}

template <class T> static T exchange(T value, unsigned lane) {
  unsigned first = me / WARP * WARP;
  memcpy(fibers[me].slot, &value, sizeof value);
  wait(AT_WARP);
  T found = value;
  if (lane < WARP && first + lane < fibers.size() && fibers[first + lane].state != DONE)
    memcpy(&found, fibers[first + lane].slot, sizeof found);
  wait(AT_WARP);
  return found;
}

template <class... A, size_t... I>
static void call(void (*f)(A...), void** p, std::index_sequence<I...>) { f(*(A*)p[I]...); }
template <class... A> static void call(void (*f)(A...), void** p) {
  call(f, p, std::index_sequence_for<A...>());
}
}  // namespace emulator

static inline void __syncthreads() { emulator::wait(emulator::AT_BLOCK); }
static inline void __syncwarp(unsigned = 0xffffffffu) { emulator::wait(emulator::AT_WARP); }
template <class T> static inline T __shfl_sync(unsigned, T v, int lane, int = 32) {
  return emulator::exchange(v, (unsigned)lane & 31u);
}
template <class T> static inline T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
  return emulator::exchange(v, (threadIdx.x & 31u) ^ (unsigned)mask);
}
template <class T> static inline T __shfl_down_sync(unsigned, T v, unsigned d, int = 32) {
  unsigned lane = (threadIdx.x & 31u) + d;
  return emulator::exchange(v, lane < 32u ? lane : threadIdx.x & 31u);
}
static inline int __any_sync(unsigned, int v) {
  for (int mask = 16; mask; mask /= 2) v |= __shfl_xor_sync(0u, v, mask);
  return v;
}

// Tensor cores: every lane shows its fragments, then sums up its own results by the tables of the
// PTX ISA ("Matrix Fragments for mma.m16n8k8" and "mma.m16n8k16").
#define EMULATED_TENSOR_CORES
#define APART __attribute__((noinline))
struct Fragments { unsigned a[4], b[2]; };
static Fragments fragments[64][32];
static unsigned to_tf32(float v) {
  return v - v == 0 ? (__float_as_uint(v) + 0x1000u) & 0xffffe000u : __float_as_uint(v);
}
static unsigned bf16_bits(float v) {
  const unsigned bits = __float_as_uint(v);
  return v - v == 0 ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : bits >> 16;
}
static unsigned to_bf16_pair(float low, float high) {
  return bf16_bits(high) << 16 | bf16_bits(low);
}
static float half_of(unsigned pair, int upper) {
  return __uint_as_float(upper ? pair & 0xffff0000u : pair << 16);
}
APART static const Fragments* shown(const unsigned (&a)[4], const unsigned (&b)[2]) {
  Fragments& mine = fragments[emulator::me / 32][emulator::me % 32];
  memcpy(mine.a, a, sizeof a), memcpy(mine.b, b, sizeof b);
  emulator::wait(emulator::AT_WARP);
  return fragments[emulator::me / 32];
}
APART static void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const Fragments* all = shown(a, b);
  const int lane = emulator::me % 32;
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
    for (int k = 0; k < 8; k++) {
      // a: row = group for a0 and a2, + 8 for a1 and a3; k = thread in group, + 4 for a2 and a3.
      const float x = __uint_as_float(all[row % 8 * 4 + k % 4].a[(row >= 8) + 2 * (k >= 4)]);
      const float y = __uint_as_float(all[column * 4 + k % 4].b[k >= 4]);
      d[i] += x * y;
    }
  }
  emulator::wait(emulator::AT_WARP);
}
APART static void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const Fragments* all = shown(a, b);
  const int lane = emulator::me % 32;
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
    for (int k = 0; k < 16; k++) {
      const int thread = k % 8 / 2;
      const unsigned x = all[row % 8 * 4 + thread].a[(row >= 8) + 2 * (k >= 8)];
      const unsigned y = all[column * 4 + thread].b[k >= 8];
      d[i] += half_of(x, k & 1) * half_of(y, k & 1);
    }
  }
  emulator::wait(emulator::AT_WARP);
}
