"""Transpositions in registers as C++, for any width of vector and any entries.

A register of ``lanes`` 128-bit lanes is transposed in two steps, since most instructions work
inside such lanes: squares inside the lanes by zips of neighbours, then the lanes themselves. With
n entries in a register that makes n log2(n) shuffles for n x n entries, each one instruction on
AVX-512, AVX2, SSE and NEON.
"""

from __future__ import annotations

LANE_BYTES = 16

_PARTS = """
// The first COUNT numbers at p, then zeros; and the way back.
template <int COUNT> INLINE reg part(const {real}* p) {{
  if constexpr (COUNT >= REG) return *(const reg*)p;
{loads}  reg v = {{}};
  memcpy(&v, p, COUNT * sizeof({real}));
  return v;
}}
template <int COUNT> INLINE void put({real}* p, reg v) {{
  if constexpr (COUNT >= REG) {{ *(reg*)p = v; return; }}
{stores}  memcpy((void*)p, &v, COUNT * sizeof({real}));
}}
"""

_MASKED = {
    64: ("""\
#ifdef __AVX512F__
  return (reg)_mm512_maskz_loadu_{s}((1 << COUNT) - 1, p);
#endif
""", """\
#ifdef __AVX512F__
  _mm512_mask_storeu_{s}(p, (1 << COUNT) - 1, v);
  return;
#endif
"""),
    32: ("""\
#ifdef __AVX2__
  return (reg)_mm256_maskload_{s}(p, first_lanes<COUNT>());
#endif
""", """\
#ifdef __AVX2__
  _mm256_maskstore_{s}(p, first_lanes<COUNT>(), v);
  return;
#endif
"""),
}  # fmt: skip

_FIRST_LANES = """
#ifdef __AVX2__
template <int COUNT> INLINE __m256i first_lanes() {{
  reg_index v;
  for (int j = 0; j < REG; j++) v[j] = j < COUNT ? -1 : 0;
  return (__m256i)v;
}}
#endif
"""


def print_parts(real: str, size: int, register_bytes: int) -> str:
    """Reading and writing a part of a register."""
    loads, stores = _MASKED.get(register_bytes, ("", ""))
    suffix = "ps" if size == 4 else "pd"
    first = _FIRST_LANES.format() if register_bytes == 32 else ""
    return first + _PARTS.format(
        real=real, loads=loads.replace("{s}", suffix), stores=stores.replace("{s}", suffix)
    )


def print_transpose(size: int, unit: int, register_bytes: int) -> str:
    """The function ``transpose`` for squares of the width of a vector.

    Arguments:
        size: bytes of a real number.
        unit: numbers in an entry: 1, or 2 of a complex one.
        register_bytes: of one register.
    """
    count = register_bytes // (size * unit)
    names = [f"r{k}" for k in range(count)]
    lines = [
        "",
        f"// The transpose of {count} registers of {count} entries.",
        f"INLINE void square({', '.join(f'reg& {name}' for name in names)}) {{",
        *(f"  {line}" for line in _square(names, size, unit, register_bytes)),
        "}",
        "// target[to[i] + j] = source[since[j] + i] for i < COLUMNS, j < ROWS; zeros for other j",
        "// where the target's vectors are PADDED.",
        "template <int COLUMNS, int ROWS, bool PADDED>",
        "STEP transpose(entry* target, const int* to, const entry* source, const int* since) {",
        f"  enum {{ N = {count} }};",
    ]
    for column in range(0, unit * count, count):
        for row in range(0, unit * count, count):
            lines += _block(names, column, row, unit)
    return "\n".join([*lines, "}", ""])


def _block(names: list[str], column: int, row: int, unit: int) -> list[str]:
    """One square of registers: read, transposed, written."""
    read = f"(COLUMNS - {column}) * {unit}"
    write = f"(PADDED ? N : ROWS - {row}) * {unit}"
    lines = [f"  if constexpr (COLUMNS > {column} && (PADDED || ROWS > {row})) {{"]
    lines += [f"    reg {', '.join(f'{name} = {{}}' for name in names)};"]
    for number, name in enumerate(names):
        at = row + number
        lines.append(
            f"    if constexpr (ROWS > {at}) "
            f"{name} = part<{read}>((const real*)(source + since[{at}] + {column}));"
        )
    lines.append(f"    square({', '.join(names)});")
    for number, name in enumerate(names):
        at = column + number
        lines.append(
            f"    if constexpr (COLUMNS > {at}) "
            f"put<{write}>((real*)(target + to[{at}] + {row}), {name});"
        )
    return [*lines, "  }"]


def _square(names: list[str], size: int, unit: int, register_bytes: int) -> list[str]:
    """Shuffles that transpose registers in place."""
    lanes = max(register_bytes // LANE_BYTES, 1)
    inside = max(len(names) // lanes, 1)
    lines: list[str] = []
    now = list(names)
    made = 0

    def shuffle(left: str, right: str, picks: list[int]) -> str:
        nonlocal made
        name = f"t{made}"
        made += 1
        numbers = [pick * unit + k for pick in picks for k in range(unit)]
        lines.append(f"const reg {name} = SHUFFLE({left}, {right}, {_list(numbers)});")
        return name

    low, high = _zips(lanes, inside)
    for group in range(0, len(names), inside):
        for _ in range(inside.bit_length() - 1):
            part, half = now[group : group + inside], inside // 2
            now[group : group + inside] = [
                shuffle(part[k], part[k + half], picks)
                for k in range(half)
                for picks in (low, high)
            ]
    for rest in range(inside):
        rows = now[rest::inside]
        for halves in _lane_rounds(lanes):
            first, second = (_of_lanes(picks, lanes, inside) for picks in halves)
            half = len(rows) // 2
            pairs = [(rows[2 * k], rows[2 * k + 1]) for k in range(half)]
            rows = [shuffle(a, b, first) for a, b in pairs] + [
                shuffle(a, b, second) for a, b in pairs
            ]
        for lane, name in zip(_lane_order(lanes), rows, strict=True):
            now[lane * inside + rest] = name
    return [*lines, *(f"{a} = {b};" for a, b in zip(names, now, strict=True))]


def _zips(lanes: int, inside: int) -> tuple[list[int], list[int]]:
    """Neighbours from two registers in turn, from the low and the high half of each lane."""
    count, half = lanes * inside, inside // 2
    found: list[list[int]] = []
    for first in (0, half):
        starts = [lane * inside + first + k for lane in range(lanes) for k in range(half)]
        found.append([at for start in starts for at in (start, count + start)])
    return found[0], found[1]


def _lane_rounds(lanes: int) -> list[tuple[list[int], list[int]]]:
    """Rounds over 128-bit lanes of two registers: first their halves, then every other one."""
    if lanes == 1:
        return []
    half = lanes // 2
    halves = ([*range(half), *range(lanes, lanes + half)],
              [*range(half, lanes), *range(lanes + half, 2 * lanes)])  # fmt: skip
    if lanes == 2:
        return [halves]
    return [halves, ([0, 2, 4, 6], [1, 3, 5, 7])]


def _lane_order(lanes: int) -> list[int]:
    """Which lane each result of the rounds holds."""
    return {1: [0], 2: [0, 1], 4: [0, 2, 1, 3]}[lanes]


def _of_lanes(picks: list[int], lanes: int, inside: int) -> list[int]:
    """Picks of whole lanes as picks of entries."""
    return [pick * inside + k for pick in picks for k in range(inside)]


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
