"""A Permute as C++: registers are read, shuffled by a network, and written."""

from __future__ import annotations

from ...ir.loops import Permute


def permute_lines(permute: Permute, width: int, *, is_complex: bool) -> list[str]:
    """Statements between ``a``, the source, and ``c``, the target."""
    unit = 2 if is_complex else 1
    network = permute.network
    assert network is not None, "shuffles are found before printing"
    lines: list[str] = []
    for number, offset in enumerate(permute.sources):
        for part in range(unit):
            count = min(width, unit * permute.read - part * width)
            if count > 0:
                place = f"(const real*)(a + {offset}) + {part * width}"
                lines.append(f"const reg r{unit * number + part} = part<{count}>({place});")
    for shuffle in network.shuffles:
        picks = ", ".join(map(str, shuffle.picks))
        lines.append(
            f"const reg r{shuffle.result} = SHUFFLE(r{shuffle.left}, r{shuffle.right}, {picks});"
        )
    for number, result in enumerate(network.results):
        offset, part = permute.targets[number // unit], number % unit
        place = f"(real*)(c + {offset}) + {part * width}"
        row = permute.entries[number // unit]
        count = max(0, min(width, unit * len(row) - part * width))
        value = "reg{}" if result is None else f"r{result}"
        if permute.padding:
            if 0 < count < width:
                picks = ", ".join(str(k if k < count else width + k) for k in range(width))
                value = f"SHUFFLE({value}, reg{{}}, {picks})"
            lines.append(f"put<{width}>({place}, {value});")
        elif count:
            lines.append(f"put<{count}>({place}, {value});")
    return lines
