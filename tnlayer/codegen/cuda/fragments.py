"""An mma statement as CUDA C++: which entries each lane of a warp hands to the tensor cores.

The places of fragments are those of the PTX ISA (mma.m16n8k8 with .tf32, mma.m16n8k16 with .bf16),
with g = lane / 4 and t = lane % 4:

    tf32   a0 (g, t)   a1 (g + 8, t)   a2 (g, t + 4)   a3 (g + 8, t + 4)   b0 (t, g)  b1 (t + 4, g)
    bf16   a entries 2i, 2i + 1 share a register: (g, 2t) (g, 2t + 1), (g + 8, ...), then 8 further
           in k; b likewise (2t, g) (2t + 1, g), then (2t + 8, g) (2t + 9, g)
    both   c0 (g, 2t)  c1 (g, 2t + 1)  c2 (g + 8, 2t)  c3 (g + 8, 2t + 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir.loops import At, Mma, OffsetPairs

Value = Callable[[At, int, Sequence[str]], str]
Stored = Callable[[At, int, Sequence[str], str, str], str]

MMA_PRELUDE = """\
#ifndef EMULATED_TENSOR_CORES
__device__ __forceinline__ unsigned to_tf32(float v) {
  unsigned found;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(found) : "f"(v));
  return found;
}
__device__ __forceinline__ unsigned to_bf16_pair(float low, float high) {
  unsigned found;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(found) : "f"(high), "f"(low));
  return found;
}
__device__ __forceinline__ void mma_m16n8k8_tf32(
    float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_m16n8k16_bf16(
    float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
// The number itself, but a compiler does not know that it is the same for each sample and tile:
// fragments that were kept from one to the next would not fit the registers.
__device__ __forceinline__ int anew(int v) {
  asm volatile("" : "+r"(v));
  return v;
}
template <int N> __device__ __forceinline__ void parts_tf32(
    const float (&v)[N], unsigned (&big)[N], unsigned (&small)[N]) {
#pragma unroll
  for (int k = 0; k < N; k++) {
    big[k] = to_tf32(v[k]);
    small[k] = to_tf32(v[k] - __uint_as_float(big[k]));
  }
}
__device__ __forceinline__ void mma_tf32(
    float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  const unsigned x[4] = {to_tf32(a[0]), to_tf32(a[1]), to_tf32(a[2]), to_tf32(a[3])};
  const unsigned y[2] = {to_tf32(b[0]), to_tf32(b[1])};
  mma_m16n8k8_tf32(d, x, y);
}
// Both parts of both operands; the product of the small ones is below float32's rounding.
__device__ __forceinline__ void mma_3xtf32(
    float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  unsigned big_a[4], small_a[4], big_b[2], small_b[2];
  parts_tf32(a, big_a, small_a);
  parts_tf32(b, big_b, small_b);
  mma_m16n8k8_tf32(d, small_a, big_b);
  mma_m16n8k8_tf32(d, big_a, small_b);
  mma_m16n8k8_tf32(d, big_a, big_b);
}
__device__ __forceinline__ void mma_bf16(
    float (&d)[4], const float (&a)[8], const float (&b)[4]) {
  const unsigned x[4] = {to_bf16_pair(a[0], a[1]), to_bf16_pair(a[2], a[3]),
                         to_bf16_pair(a[4], a[5]), to_bf16_pair(a[6], a[7])};
  const unsigned y[2] = {to_bf16_pair(b[0], b[1]), to_bf16_pair(b[2], b[3])};
  mma_m16n8k16_bf16(d, x, y);
}
"""


def mma_lines(mma: Mma, size: int, value: Value, stored: Stored) -> list[str]:
    """The statement, done by the 32 lanes of a warp.

    Arguments:
        mma: what is done.
        size: entries of a copy of the target.
        value: text of an entry: place, a constant that is added, names that are added.
        stored: text that stores an entry there, by "=" or "+=".
    """
    rows, columns, sums = mma.rows, mma.columns, mma.sums
    packs = mma.precision == "bf16"
    # Bits of a sum's number that a lane's place in its group gives; packed pairs have the first.
    in_sums = (1, 2) if packs else (0, 1)
    of_group, of_columns = ("group", (0, 1, 2)), ("member", (1, 2))
    of_sums = ("member", in_sums)
    right_of_lane = f"{_bits(*of_group, columns, 0)} + {_bits(*of_sums, sums, 1)}"
    lines = [
        "{ const int group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;",
        f"  const int from_a = anew({_bits(*of_group, rows, 0)} + {_bits(*of_sums, sums, 0)});",
        f"  const int from_b = anew({right_of_lane});",
        f"  const int to_c = {_bits(*of_group, rows, 1)} + {_bits(*of_columns, columns, 1)};",
    ]
    groups = range(0, len(columns), 8)
    lines.append(f"  float {', '.join(f'sum{n}[4] = {{}}' for n in range(len(groups)))};")
    from_a, from_b = ["from_a"], ["from_b"]
    for number, axis in enumerate(mma.loops):
        end = "samples" if axis.of_samples else axis.count
        turn = f"k{number}++" if axis.step == 1 else f"k{number} += {axis.step}"
        lines.append(f"  for (int k{number} = {axis.first or 0}; k{number} < {end}; {turn}) {{")
        from_a.append(f"k{number} * {axis.left}")
        from_b.append(f"k{number} * {axis.right}")
    depth = 16 if packs else 8
    for k in range(0, len(sums), depth):
        # In the order of the registers: packed pairs, rows, then the second half of the sums.
        if packs:
            of_a = [(8 * h, k + 8 * j + e) for j in (0, 1) for h in (0, 1) for e in (0, 1)]
            of_b = [k + 8 * j + e for j in (0, 1) for e in (0, 1)]
        else:
            of_a = [(8 * h, k + 4 * j) for j in (0, 1) for h in (0, 1)]
            of_b = [k + 4 * j for j in (0, 1)]
        left = ", ".join(value(mma.left, rows[r][0] + sums[s][0], from_a) for r, s in of_a)
        lines.append(f"  {{ const float left[{len(of_a)}] = {{{left}}};")
        for n, first in enumerate(groups):
            right = ", ".join(
                value(mma.right, columns[first][0] + sums[s][1], from_b) for s in of_b
            )
            lines.append(
                f"    {{ const float right[{len(of_b)}] = {{{right}}}; "
                f"mma_{mma.precision}(sum{n}, left, right); }}"
            )
        lines.append("  }")
    lines += ["  }"] * len(mma.loops)
    sign = "+=" if mma.adds else "="
    to = ["to_c", *(f"{index} * {size * stride}" for index, stride in mma.copy)]
    for n, first in enumerate(groups):
        for k, (row, column) in enumerate(((0, 0), (0, 1), (8, 0), (8, 1))):
            at = rows[row][1] + columns[first + column][1]
            lines.append("  " + stored(mma.target, at, to, f"sum{n}[{k}]", sign))
    return [*lines, "}"]


def _bits(name: str, bits: Sequence[int], pairs: OffsetPairs, side: int) -> str:
    """How far the bits of a number move a place: bit k of it is bit ``bits[k]`` of the pairs'."""
    terms = [
        f"({name} >> {k} & 1) * {pairs[1 << bit][side] - pairs[0][side]}"
        for k, bit in enumerate(bits)
    ]
    return " + ".join(terms)
