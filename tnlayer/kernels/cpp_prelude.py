"""The fixed part of the printed C++: vectors, transpositions, workspaces."""

from __future__ import annotations

_HEAD = """\
#include <cstdlib>
#include <cstring>
#include <omp.h>
#if defined(__SSE3__)
#include <immintrin.h>
#endif

#define STEP static __attribute__((noinline)) void
#define INLINE static inline __attribute__((always_inline))
// Keeps a compiler from holding what lies at these places in registers.
#define READ_ANEW(a, b) asm volatile("" : "+r"(a), "+r"(b))
"""

_REAL = """
typedef {real} entry;
typedef {real} vec __attribute__((vector_size({bytes}), aligned({size}), may_alias));
enum {{ W = {width} }};
INLINE vec load(const entry* p) {{ return *(const vec*)p; }}
INLINE void store(entry* p, vec v) {{ *(vec*)p = v; }}
INLINE vec splat(const entry* p) {{ return *p - vec{{}}; }}
{repeats}
INLINE entry scalar(const entry* p) {{ return *p; }}
INLINE void store(entry* p, entry v) {{ *p = v; }}
INLINE entry sum(vec v) {{
  entry z = 0;
  for (int j = 0; j < W; j++) z += v[j];
  return z;
}}
"""

_REPEAT = """\
// {run} entries again and again: one load that broadcasts.
INLINE vec repeat_{run}(const entry* p) {{
#ifdef {feature}
  return (vec){broadcast};
#else
  vec v;
  for (int j = 0; j < W; j++) v[j] = p[j % {run}];
  return v;
#endif
}}"""
# By the bytes of a vector and of what is repeated: compilers do not find these by themselves.
_BROADCASTS = {
    (64, 32): ("__AVX512F__", "_mm512_broadcast_f64x4(_mm256_loadu_pd((const double*)p))"),
    (64, 16): ("__AVX512F__", "_mm512_broadcast_f32x4(_mm_loadu_ps((const float*)p))"),
    (64, 8): ("__AVX512F__", "_mm512_broadcastsd_pd(_mm_load_sd((const double*)p))"),
    (32, 16): ("__AVX__", "_mm256_broadcast_pd((const __m128d*)p)"),
    (32, 8): ("__AVX__", "_mm256_broadcast_sd((const double*)p)"),
    (16, 8): ("__SSE3__", "_mm_loaddup_pd((const double*)p)"),
}

_COMPLEX = """
typedef {real} real_vec __attribute__((vector_size({bytes}), aligned({size}), may_alias));
enum {{ W = {width} }};
template <typename T> struct complex_of {{
  T re, im;
  INLINE_MEMBER complex_of& operator+=(const complex_of& o) {{
    re += o.re, im += o.im;
    return *this;
  }}
}};
template <typename T> INLINE complex_of<T> operator*(complex_of<T> a, complex_of<T> b) {{
  return {{a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}};
}}
template <typename T> INLINE complex_of<T> conj(complex_of<T> a) {{ return {{a.re, -a.im}}; }}
typedef complex_of<{real}> entry;
typedef complex_of<real_vec> vec;
// Real and imaginary parts alternate in memory and are vectors of their own in registers.
INLINE vec load(const entry* p) {{
  const real_vec a = *(const real_vec*)p, b = *(const real_vec*)((const {real}*)p + W);
  return {{__builtin_shufflevector(a, b, {even}), __builtin_shufflevector(a, b, {odd})}};
}}
INLINE void store(entry* p, vec v) {{
  *(real_vec*)p = __builtin_shufflevector(v.re, v.im, {low});
  *(real_vec*)(({real}*)p + W) = __builtin_shufflevector(v.re, v.im, {high});
}}
INLINE vec splat(const entry* p) {{ return {{p->re - real_vec{{}}, p->im - real_vec{{}}}}; }}
INLINE entry scalar(const entry* p) {{ return *p; }}
INLINE void store(entry* p, entry v) {{ *p = v; }}
INLINE entry sum(vec v) {{
  entry z = {{0, 0}};
  for (int j = 0; j < W; j++) z += entry{{v.re[j], v.im[j]}};
  return z;
}}
"""

_TRANSPOSE = """
// target[to[i] + j] = source[since[j] + i]
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  for (int i = 0; i < W; i++)
    for (int j = 0; j < W; j++) target[to[i] + j] = source[since[j] + i];
}
"""

_TRANSPOSE_16 = """
// Four rows a, b, c, d: in each quarter of a vector the 4 x 4 transpose.
#define QUARTERS(a, b, c, d, A, B, C, D) { \\
  __m512 l0 = _mm512_unpacklo_ps(a, b), h0 = _mm512_unpackhi_ps(a, b); \\
  __m512 l1 = _mm512_unpacklo_ps(c, d), h1 = _mm512_unpackhi_ps(c, d); \\
  A = (__m512)_mm512_unpacklo_pd((__m512d)l0, (__m512d)l1); \\
  B = (__m512)_mm512_unpackhi_pd((__m512d)l0, (__m512d)l1); \\
  C = (__m512)_mm512_unpacklo_pd((__m512d)h0, (__m512d)h1); \\
  D = (__m512)_mm512_unpackhi_pd((__m512d)h0, (__m512d)h1); }
// The transpose of the quarters themselves, stored as rows k, 4 + k, 8 + k, 12 + k.
#define ACROSS(a, b, c, d, k) { \\
  __m512 e = _mm512_shuffle_f32x4(a, b, 0x44), f = _mm512_shuffle_f32x4(a, b, 0xee); \\
  __m512 g = _mm512_shuffle_f32x4(c, d, 0x44), h = _mm512_shuffle_f32x4(c, d, 0xee); \\
  _mm512_storeu_ps(target + to[k], _mm512_shuffle_f32x4(e, g, 0x88)); \\
  _mm512_storeu_ps(target + to[4 + k], _mm512_shuffle_f32x4(e, g, 0xdd)); \\
  _mm512_storeu_ps(target + to[8 + k], _mm512_shuffle_f32x4(f, h, 0x88)); \\
  _mm512_storeu_ps(target + to[12 + k], _mm512_shuffle_f32x4(f, h, 0xdd)); }
#define ROW(j) _mm512_loadu_ps(source + since[j])
// target[to[i] + j] = source[since[j] + i]
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  __m512 r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15;
  QUARTERS(ROW(0), ROW(1), ROW(2), ROW(3), r0, r1, r2, r3)
  QUARTERS(ROW(4), ROW(5), ROW(6), ROW(7), r4, r5, r6, r7)
  QUARTERS(ROW(8), ROW(9), ROW(10), ROW(11), r8, r9, r10, r11)
  QUARTERS(ROW(12), ROW(13), ROW(14), ROW(15), r12, r13, r14, r15)
  ACROSS(r0, r4, r8, r12, 0)
  ACROSS(r1, r5, r9, r13, 1)
  ACROSS(r2, r6, r10, r14, 2)
  ACROSS(r3, r7, r11, r15, 3)
}
"""

_TAIL = """
// target[j] = source[offsets[j]] for j < count, then zeros up to padding.
INLINE void gather(entry* target, const entry* source, const int* offsets, int count, int padding) {
  for (int j = 0; j < count; j++) target[j] = source[offsets[j]];
  if (padding > count) memset(target + count, 0, (padding - count) * sizeof(entry));
}

// A thread keeps its workspace: fresh pages at each call would cost more than a step.
struct Workspace {
  char* start = nullptr;
  size_t size = 0;
  ~Workspace() { free(start); }
  entry* get(size_t entries) {
    size_t bytes = (entries * sizeof(entry) + 4095) / 4096 * 4096;
    if (bytes > size) {
      free(start);
      size = 0;
      start = (char*)aligned_alloc(4096, bytes);
      if (!start) return nullptr;
      memset(start, 0, bytes);
      size = bytes;
    }
    return (entry*)start;
  }
};
static thread_local Workspace call_workspace, own_workspace;
"""

_BYTES = {"float32": 4, "float64": 8, "complex64": 4, "complex128": 8}


def prelude(scalar: str, width: int) -> str:
    """Types and helpers for entries of a dtype and vectors of so many entries."""
    size = _BYTES[scalar]
    names = {"real": "float" if size == 4 else "double", "size": size}
    shuffles: dict[str, list[int]] = {
        "even": [2 * k for k in range(width)],
        "odd": [2 * k + 1 for k in range(width)],
        "low": [k // 2 + width * (k % 2) for k in range(width)],
        "high": [(width + k) // 2 + width * (k % 2) for k in range(width)],
    }
    lists = {name: ", ".join(map(str, which)) for name, which in shuffles.items()}
    lists["repeats"] = "\n".join(
        _REPEAT.format(run=run, feature=feature, broadcast=broadcast)
        for run in (width // 2, width // 4, width // 8)
        if run > 1
        for feature, broadcast in (_BROADCASTS[width * size, run * size],)
    )
    is_complex = scalar.startswith("complex")
    kind = _COMPLEX.replace("INLINE_MEMBER", "__attribute__((always_inline))")
    types = (kind if is_complex else _REAL).format(
        **names, **lists, width=width, bytes=width * size
    )
    wide = scalar == "float32" and width == 16
    return _HEAD + types + (_TRANSPOSE_16 if wide else _TRANSPOSE) + _TAIL
