"""The fixed part of the printed CUDA C++: entries, their stored form, sums over a warp."""

from __future__ import annotations

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

_HALF = """\
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

_WIDE = {
    "bfloat16": "  return __uint_as_float((unsigned)v.bits << 16);",
    "float16": """  entry result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(v.bits));
  return result;""",
}
_KIND = {"bfloat16": "bf16", "float16": "f16"}

_PLAIN = """\
typedef entry stored;
__device__ __forceinline__ entry wide(stored v) { return v; }
__device__ __forceinline__ stored narrow(entry v) { return v; }
"""

_SUMS = """\
// target[k] += v[k] summed over the lanes of a warp, M a power of two of at most 32. Lanes halve
// what they hold: each exchange leaves half as many values to a lane.
template <int M, int N>
__device__ __forceinline__ void sum_warp(entry* target, const entry (&values)[N], int from) {
  const int lane = threadIdx.x % 32;
  entry v[M];
#pragma unroll
  for (int k = 0; k < M; k++) v[k] = from + k < N ? values[from + k < N ? from + k : 0] : entry{};
  int index = 0, mask = 16;
#pragma unroll
  for (int half = M / 2; half > 0; half /= 2) {
    const bool upper = lane & mask;
#pragma unroll
    for (int k = 0; k < half; k++) {
      const entry sent = upper ? v[k] : v[k + half], kept = upper ? v[k + half] : v[k];
      v[k] = kept + from_lane(sent, mask);
    }
    index += upper ? half : 0;
    mask /= 2;
  }
  const int first = mask;
#pragma unroll
  for (; mask > 0; mask /= 2) v[0] += from_lane(v[0], mask);
  if ((first == 0 || lane % (2 * first) == 0) && from + index < N) target[from + index] += v[0];
}
"""

_BYTES = {"float32": 4, "float64": 8, "complex64": 8, "complex128": 16}


def itemsize(scalar: str) -> int:
    """Bytes of an entry."""
    return _BYTES[scalar]


def cuda_prelude(scalar: str, stored: str) -> str:
    """Types and helpers for entries of one dtype that are stored as another one."""
    size = _BYTES[scalar]
    is_complex = scalar.startswith("complex")
    real = "float" if size // (2 if is_complex else 1) == 4 else "double"
    text = _COMPLEX.format(real=real, align=size) if is_complex else _REAL.format(real=real)
    if stored in _WIDE:
        text += _HALF.format(wide=_WIDE[stored], kind=_KIND[stored])
    else:
        text += _PLAIN
    return text + _SUMS
