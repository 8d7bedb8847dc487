"""The fixed part of the printed CUDA C++: entries, their stored form, sums over a warp."""

from __future__ import annotations

from ...support.dtypes import DTYPES

_REAL = """\
typedef {real} entry;
__device__ __forceinline__ entry from_lane(entry v, int mask) {{
  return __shfl_xor_sync(0xffffffffu, v, mask);
}}
"""

_COMPLEX = """\
struct __align__({align}) entry {{
  {real} re, im;
}};
__device__ __forceinline__ entry operator+(entry a, entry b) {{
  return {{a.re + b.re, a.im + b.im}};
}}
__device__ __forceinline__ entry& operator+=(entry& a, entry b) {{
  a.re += b.re, a.im += b.im;
  return a;
}}
__device__ __forceinline__ entry operator*(entry a, entry b) {{
  return {{a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}};
}}
__device__ __forceinline__ entry conj(entry a) {{ return {{a.re, -a.im}}; }}
__device__ __forceinline__ entry from_lane(entry v, int mask) {{
  return {{__shfl_xor_sync(0xffffffffu, v.re, mask), __shfl_xor_sync(0xffffffffu, v.im, mask)}};
}}
"""

# Of 16 bits, as all dtypes that are only stored (support/dtypes.py).
_STORED = """\
struct stored {{
  unsigned short bits;
}};
__device__ __forceinline__ entry wide(stored v) {{
{wide}
}}
__device__ __forceinline__ stored narrow(entry v) {{
  stored result;
  asm("cvt.rn.{kind}.f32 %0, %1;" : "=h"(result.bits) : "f"(v));
  return result;
}}
"""

_WIDE = """  entry result;
  asm("cvt.f32.{kind} %0, %1;" : "=f"(result) : "h"(v.bits));
  return result;"""
# The upper half of a float; older GPUs have no conversion.
_WIDE_BF16 = "  return __uint_as_float((unsigned)v.bits << 16);"

_PLAIN = """\
typedef entry stored;
__device__ __forceinline__ entry wide(stored v) { return v; }
__device__ __forceinline__ stored narrow(entry v) { return v; }
"""

_WIDE_ACCESS = """\
// Neighbouring entries that are one access of memory; a plain assignment may be split in four.
template <int BYTES> struct words;
template <> struct words<4> { typedef unsigned type; };
template <> struct words<8> { typedef uint2 type; };
template <> struct words<16> { typedef uint4 type; };
template <int N> struct together {
  stored v[N];
};
template <int N> __device__ __forceinline__ together<N> load(const stored* p, bool present) {
  typedef typename words<N * sizeof(stored)>::type word;
  word found = {};
  if (present) found = __ldg((const word*)p);
  together<N> run;
  memcpy(&run, &found, sizeof run);
  return run;
}
template <int N> __device__ __forceinline__ void store(stored* p, const together<N>& run) {
  typedef typename words<N * sizeof(stored)>::type word;
  word sent;
  memcpy(&sent, &run, sizeof run);
  __stcg((word*)p, sent);
}
"""

_SUMS = """\
// Lanes halve what they hold: each exchange leaves half as many values to a lane, and adds them up.
template <int HALF, int MASK, int M>
__device__ __forceinline__ void halve(entry (&v)[M], int& index) {
  if constexpr (HALF > 0) {
    const bool upper = threadIdx.x & MASK;
#pragma unroll
    for (int k = 0; k < HALF; k++) {
      const entry sent = upper ? v[k] : v[k + HALF], kept = upper ? v[k + HALF] : v[k];
      v[k] = kept + from_lane(sent, MASK);
    }
    index += upper ? HALF : 0;
    halve<HALF / 2, MASK / 2>(v, index);
  } else if constexpr (MASK > 0) {
    v[0] += from_lane(v[0], MASK);
    halve<0, MASK / 2>(v, index);
  }
}
// target[k] += values[FROM + k] summed over the lanes of a warp, for k below M, a power of two of
// at most 32. All lanes of the warp take part.
template <int M, int FROM, int N>
__device__ __forceinline__ void sum_warp(entry* target, const entry (&values)[N]) {
  entry v[M];
#pragma unroll
  for (int k = 0; k < M; k++) v[k] = FROM + k < N ? values[FROM + k < N ? FROM + k : 0] : entry{};
  int index = FROM;
  halve<M / 2, 16>(v, index);
  if (threadIdx.x % (32 / M) == 0 && index < N) target[index] += v[0];
}
"""

_ROWS = """\
// Entries at one place of the blocks' rows, each ``slices``-th of them, added in order: many loads
// are under way at once.
__device__ __forceinline__ entry sum_rows(
    const entry* place, long long row, int slice, int slices, int blocks) {{
  entry sum = entry{{}};
#pragma unroll 1
  for (int first = slice; first < blocks; first += {loads} * slices) {{
    entry found[{loads}];
#pragma unroll
    for (int k = 0; k < {loads}; k++) {{
      const int block = first + k * slices;
      found[k] = block < blocks ? place[block * row] : entry{{}};
    }}
#pragma unroll
    for (int k = 0; k < {loads}; k++) sum += found[k];
  }}
  return sum;
}}
"""


def cuda_prelude(scalar: str, stored: str, loads: int) -> str:
    """Types and helpers for entries of one dtype that are stored as another one.

    Arguments:
        scalar: dtype of the arithmetic.
        stored: dtype of the arguments.
        loads: of a thread that sums over blocks, under way together.
    """
    dtype, kind = DTYPES[scalar], DTYPES[stored].ptx
    entry = _COMPLEX if dtype.is_complex else _REAL
    text = entry.format(real=dtype.c_type, align=dtype.itemsize)
    if DTYPES[stored].is_stored_only:
        wide = _WIDE_BF16 if kind == "bf16" else _WIDE.format(kind=kind)
        assert DTYPES[stored].itemsize == 2, "conversions are written for 16 bits"
        text += _STORED.format(wide=wide, kind=kind)
    else:
        text += _PLAIN
    return text + _WIDE_ACCESS + _SUMS + _ROWS.format(loads=loads)
