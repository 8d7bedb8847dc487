"""The fixed part of the printed C++: vectors, transpositions, workspaces."""

from __future__ import annotations

from ...support.dtypes import DTYPES
from .transpose import print_parts, print_transpose

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
// Entries of two registers, by constants.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (reg_index){{__VA_ARGS__}})
#endif

typedef {real} real;
typedef {real} reg __attribute__((vector_size({bytes}), aligned({size}), may_alias));
typedef {index} reg_index __attribute__((vector_size({bytes})));
enum {{ W = {width}, REG = {width} }};
"""

_REAL = """
typedef {real} entry;
typedef reg vec;
INLINE vec load(const entry* p) {{ return *(const vec*)p; }}
INLINE void store(entry* p, vec v) {{ *(vec*)p = v; }}
INLINE vec splat(const entry* p) {{ return *p - vec{{}}; }}
// Two floats as the eight bytes that a broadcast takes; they may lie anywhere.
INLINE double pair(const entry* p) {{
  double bytes;
  memcpy(&bytes, p, sizeof(bytes));
  return bytes;
}}
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
    (64, 8): ("__AVX512F__", "_mm512_set1_pd(pair(p))"),
    (32, 16): ("__AVX__", "_mm256_broadcast_pd((const __m128d*)p)"),
    (32, 8): ("__AVX__", "_mm256_set1_pd(pair(p))"),
    (16, 8): ("__SSE3__", "_mm_set1_pd(pair(p))"),
}

_COMPLEX = """
template <typename T> struct complex_of {{
  T re, im;
  INLINE_MEMBER complex_of& operator+=(const complex_of& o) {{
    re += o.re, im += o.im;
    return *this;
  }}
}};
template <typename T> INLINE complex_of<T> operator+(complex_of<T> a, complex_of<T> b) {{
  return {{a.re + b.re, a.im + b.im}};
}}
template <typename T> INLINE complex_of<T> operator*(complex_of<T> a, complex_of<T> b) {{
  return {{a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}};
}}
template <typename T> INLINE complex_of<T> conj(complex_of<T> a) {{ return {{a.re, -a.im}}; }}
typedef complex_of<{real}> entry;
typedef complex_of<reg> vec;
// Real and imaginary parts alternate in memory and are vectors of their own in registers.
INLINE vec load(const entry* p) {{
  const reg a = *(const reg*)p, b = *(const reg*)((const {real}*)p + W);
  return {{SHUFFLE(a, b, {even}), SHUFFLE(a, b, {odd})}};
}}
INLINE void store(entry* p, vec v) {{
  *(reg*)p = SHUFFLE(v.re, v.im, {low});
  *(reg*)(({real}*)p + W) = SHUFFLE(v.re, v.im, {high});
}}
INLINE vec splat(const entry* p) {{ return {{p->re - reg{{}}, p->im - reg{{}}}}; }}
INLINE entry scalar(const entry* p) {{ return *p; }}
INLINE void store(entry* p, entry v) {{ *p = v; }}
INLINE entry sum(vec v) {{
  entry z = {{0, 0}};
  for (int j = 0; j < W; j++) z += entry{{v.re[j], v.im[j]}};
  return z;
}}
"""

_TAIL = """
// target[j] = source[offsets[j]] for j < count, then zeros up to padding.
INLINE void gather(entry* target, const entry* source, const int* offsets, int count, int padding) {
  for (int j = 0; j < count; j++) target[j] = source[offsets[j]];
  if (padding > count) memset((void*)(target + count), 0, (padding - count) * sizeof(entry));
}
// Lines of the next block, on their way while this one is computed.
template <bool WRITES> INLINE void prefetch(const entry* start, int count) {
  for (const char *p = (const char*)start, *end = (const char*)(start + count); p < end; p += 64)
    __builtin_prefetch(p, WRITES, 2);
}
// A vector or a part of one: COUNT entries in a row, then zeros where the target is PADDED.
template <int COUNT, bool PADDED> INLINE void copy(entry* target, const entry* source) {
  enum { ALL = COUNT * (sizeof(entry) / sizeof(real)) };
  enum { FIRST = ALL < REG ? ALL : REG, SECOND = ALL - FIRST };
  put<PADDED ? REG : FIRST>((real*)target, part<FIRST>((const real*)source));
  if constexpr (sizeof(entry) > sizeof(real) && (PADDED || ALL > REG))
    put<PADDED ? REG : SECOND>((real*)target + REG, part<SECOND>((const real*)source + REG));
}

// Memory that is kept between calls: fresh pages at each call would cost more than a step.
struct Workspace {
  char* start;
  size_t size;
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
// What one call works in: its own memory, and that of each of its threads.
struct Room {
  Workspace call, *own;
  int threads;
};
// Rooms that no call is in. Each call takes one out, so that calls may run side by side; there is
// no lock, for a fork could leave it locked.
static Room* rooms[64];

static void drop_room(Room* room) {
  for (int t = 0; t < room->threads; t++) free(room->own[t].start);
  free(room->own);
  free(room->call.start);
  free(room);
}
static Room* take_room(int threads) {
  Room* room = nullptr;
  for (Room*& place : rooms)
    if (__atomic_load_n(&place, __ATOMIC_RELAXED)) {
      room = __atomic_exchange_n(&place, (Room*)nullptr, __ATOMIC_ACQUIRE);
      if (room) break;
    }
  if (!room) room = (Room*)calloc(1, sizeof(Room));
  if (!room || room->threads >= threads) return room;
  Workspace* own = (Workspace*)realloc((void*)room->own, threads * sizeof(Workspace));
  if (!own) {
    drop_room(room);
    return nullptr;
  }
  memset((void*)(own + room->threads), 0, (threads - room->threads) * sizeof(Workspace));
  room->own = own;
  room->threads = threads;
  return room;
}
static void leave_room(Room* room) {
  for (Room*& place : rooms) {
    Room* none = nullptr;
    if (__atomic_compare_exchange_n(&place, &none, room, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
      return;
  }
  drop_room(room);
}
static void drop_rooms() {
  for (Room*& place : rooms)
    if (Room* room = __atomic_exchange_n(&place, (Room*)nullptr, __ATOMIC_ACQUIRE)) drop_room(room);
}
"""


def prelude(scalar: str, width: int) -> str:
    """Types and helpers for entries of a dtype and vectors of so many entries."""
    size = DTYPES[scalar].part_bytes
    names = {
        "real": DTYPES[scalar].c_type,
        "index": "int" if size == 4 else "long",
        "size": size,
    }
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
    is_complex = DTYPES[scalar].is_complex
    kind = _COMPLEX.replace("INLINE_MEMBER", "__attribute__((always_inline))")
    types = (_HEAD + (kind if is_complex else _REAL)).format(
        **names, **lists, width=width, bytes=width * size
    )
    real = str(names["real"])
    moves = print_parts(real, size, width * size)
    if width > 1:
        moves += print_transpose(size, 2 if is_complex else 1, width * size)
    return types + moves + _TAIL
