"""Arguments of 16 bits as C++: they become float32 on the way in, and are rounded on the way out.

Parameters are read once a call, samples block by block into the copies that a ragged block has as
well, so that they are still in the first cache when a step reads them. Arithmetic is float32's::

    of the call     w -> float32 | before, samples, after | gradients of w -> 16 bits
    of each block   x -> float32 | samples | y -> 16 bits
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loops import Buffer, LoopProgram

# Entries of a parameter that are worth a turn of all threads.
_MANY = 1 << 16

_TYPES = {
    "bfloat16": """
#ifndef HAS_BFLOAT16
#define HAS_BFLOAT16
// The upper half of a float32.
struct bfloat16 { unsigned short bits; };
typedef unsigned short half_reg __attribute__((vector_size(2 * REG), aligned(2), may_alias));
typedef unsigned reg_bits __attribute__((vector_size(4 * REG)));
INLINE float wide(bfloat16 h) {
  const unsigned bits = (unsigned)h.bits << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
INLINE reg wide(const bfloat16* p) {
  return (reg)(__builtin_convertvector(*(const half_reg*)p, reg_bits) << 16);
}
// To the nearest, ties to even; what is no number stays none.
INLINE bfloat16 narrow(float f) {
  unsigned bits;
  memcpy(&bits, &f, 4);
  return {(unsigned short)(f == f ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0)};
}
INLINE void narrow(bfloat16* p, reg v) {
  const reg_bits bits = (reg_bits)v;
  const reg_bits nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const reg_bits number = (reg_bits)(v == v);
  *(half_reg*)p = __builtin_convertvector((number & nearest) | (~number & 0x7fc0), half_reg);
}
#endif
""",
    "float16": """
#ifndef HAS_FLOAT16
#define HAS_FLOAT16
// A sign, 5 bits of exponent and 10 of mantissa.
struct float16 { unsigned short bits; };
INLINE float wide(float16 h) {
#ifdef __F16C__
  return _cvtsh_ss(h.bits);
#else
  // The exponent is 112 less than that of float32, which the product mends for all numbers.
  unsigned bits = (h.bits & 0x7fffu) << 13;
  float f;
  memcpy(&f, &bits, 4);
  f *= 0x1p112f;
  memcpy(&bits, &f, 4);
  if ((h.bits & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= (h.bits & 0x8000u) << 16;
  memcpy(&f, &bits, 4);
  return f;
#endif
}
// To the nearest, ties to even; beyond the range infinite; what is no number stays none.
INLINE float16 narrow(float f) {
#ifdef __F16C__
  return {(unsigned short)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)};
#else
  unsigned bits, size;
  memcpy(&bits, &f, 4);
  size = bits & 0x7fffffffu;
  unsigned half;
  if (size > 0x7f800000u) half = 0x7e00u;
  else if (size >= 0x477ff000u) half = 0x7c00u;
  else if (size >= 0x38800000u) half = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
  else {
    // Below the least normal number the last bit is 2^-24: added to 0.5, it is that of float32.
    float sum;
    memcpy(&sum, &size, 4);
    sum += 0.5f;
    memcpy(&half, &sum, 4);
    half -= 0x3f000000u;
  }
  return {(unsigned short)(half | (bits >> 16 & 0x8000u))};
#endif
}
INLINE reg wide(const float16* p) {
  reg v;
{load}  for (int j = 0; j < REG; j++) v[j] = wide(p[j]);
  return v;
}
INLINE void narrow(float16* p, reg v) {
{store}  for (int j = 0; j < REG; j++) p[j] = narrow(v[j]);
}
#endif
""",
}

# Instructions for whole registers of float16, by the entries of a register.
_LOAD = {
    16: """\
#ifdef __AVX512F__
  return (reg)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#endif
""",
    8: """\
#ifdef __F16C__
  return (reg)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#endif
""",
}
_STORE = {
    16: """\
#ifdef __AVX512F__
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
  return;
#endif
""",
    8: """\
#ifdef __F16C__
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
  return;
#endif
""",
}

_RUNS = """
#ifndef HAS_STORED_RUNS
#define HAS_STORED_RUNS
template <typename T> INLINE void widen(entry* target, const T* source, size_t count) {
  size_t k = 0;
  for (; k + REG <= count; k += REG) *(reg*)(target + k) = wide(source + k);
  for (; k < count; k++) target[k] = wide(source[k]);
}
template <typename T> INLINE void narrow(T* target, const entry* source, size_t count) {
  size_t k = 0;
  for (; k + REG <= count; k += REG) narrow(target + k, *(const reg*)(source + k));
  for (; k < count; k++) target[k] = narrow(source[k]);
}
// A share of a long run for each thread, in whole vectors.
template <typename T, typename S, typename F>
INLINE void share(T* target, S* source, size_t count, int threads, F convert) {
  #pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; t++) {
    const size_t vectors = (count + REG - 1) / REG;
    const size_t start = vectors * t / threads * REG, past = vectors * (t + 1) / threads * REG;
    const size_t end = past < count ? past : count;
    if (start < end) convert(target + start, source + start, end - start);
  }
}
#endif
"""


def print_types(program: LoopProgram) -> str:
    """Types and conversions of arguments; "" where they are entries. Several kernels in one unit
    may bring them."""
    if not program.arguments:
        return ""
    types = _TYPES[program.arguments]
    for name, lines in (("load", _LOAD), ("store", _STORE)):
        types = types.replace(f"{{{name}}}", lines.get(program.width, ""))
    return types + _RUNS


def call_begins(program: LoopProgram) -> str:
    """Unbatched arguments get their float32 arrays; inputs are read."""
    lines: list[str] = []
    for number, buffer, at in _unbatched(program):
        lines.append(f"  whole.{buffer.name} = whole.shared + {at};")
        if buffer.space == "input":
            pointer = f"(const {program.arguments}*)arguments[{number}]"
            lines.append(_converted("widen", f"whole.shared + {at}", pointer, buffer.size))
    return "\n".join(lines)


def call_ends(program: LoopProgram) -> str:
    """Unbatched results are rounded."""
    return "\n".join(
        _converted(
            "narrow",
            f"({program.arguments}*)arguments[{number}]",
            f"(const entry*)whole.shared + {at}",
            buffer.size,
        )
        for number, buffer, at in _unbatched(program)
        if buffer.space == "output"
    )


def _unbatched(program: LoopProgram) -> list[tuple[int, Buffer, int]]:
    """Number, buffer and place of each argument without samples."""
    assert program.workspace is not None, "the workspace is laid out before printing"
    places = dict(program.workspace.widened)
    arguments = enumerate(program.of("input", "output"))
    return [(n, buffer, places[buffer.name]) for n, buffer in arguments if not buffer.batched]


def _converted(how: str, target: str, source: str, count: int) -> str:
    if count < _MANY:
        return f"  {how}({target}, {source}, {count});"
    body = f"[](auto* t, auto* s, size_t n) {{ {how}(t, s, n); }}"
    return f"  share({target}, {source}, {count}, most, {body});"


def block(program: LoopProgram, batched: Sequence[Buffer], *, counts: bool, cleared: str) -> str:
    """What a thread does with a block: samples become float32, missing ones zeros."""
    size, kind = program.block, program.arguments
    places = {buffer.name: number for number, buffer in enumerate(program.of("input", "output"))}
    reads, writes, at = [], [], 0
    for buffer in batched:
        stored = f"(({kind}*)arguments[{places[buffer.name]}] + block * {size * buffer.size})"
        reads.append(f"      f.{buffer.name} = room + {at};")
        if buffer.space == "input":
            reads.append(f"      widen(room + {at}, {stored}, valid * {buffer.size});")
            if size > 1:
                reads.append(
                    f"      memset((void*)(room + {at} + valid * {buffer.size}), 0, "
                    f"({size} - valid) * sizeof(entry) * {buffer.size});"
                )
        else:
            writes.append(f"      narrow({stored}, room + {at}, valid * {buffer.size});")
        at += buffer.size * size
    valid = f"batch - block * {size} < {size} ? batch - block * {size} : {size}"
    return "\n".join(
        [
            f"      const size_t valid = {valid};",
            "      entry* room = own + ROOM;",
            *reads,
            *(["      f.samples = (int)valid;"] if counts else []),
            f"      {program.name}_samples(f);",
            *writes,
            *([f"      if (valid < {size})", cleared] if cleared else []),
        ]
    )
