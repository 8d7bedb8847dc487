"""A Permute as C++: registers are read, shuffled by a network, and written."""

from __future__ import annotations

from ...ir.loops import Permute
from ...lowering.cpu.shuffle_network import Register, find_network


def wanted_registers(permute: Permute, width: int, *, is_complex: bool) -> list[Register]:
    """What the registers of the targets hold; a complex vector has two, of numbers in turn.

    Arguments:
        permute: the statement.
        width: entries of a vector: numbers of one register.
        is_complex: whether an entry is two numbers.
    """
    unit = 2 if is_complex else 1
    found: list[Register] = []
    for row in permute.entries:
        numbers = [(s, unit * lane + k) for s, lane in row for k in range(unit)]
        entries = [(unit * s + at // width, at % width) for s, at in numbers]
        for part in range(unit):
            own = entries[part * width : (part + 1) * width]
            found.append((*own, *([None] * (width - len(own)))))
    return found


def permute_lines(permute: Permute, width: int, *, is_complex: bool) -> list[str]:
    """Statements between ``a``, the source, and ``c``, the target."""
    unit = 2 if is_complex else 1
    wanted = wanted_registers(permute, width, is_complex=is_complex)
    network = find_network(unit * len(permute.sources), wanted)
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
    for number, (result, register) in enumerate(zip(network.results, wanted, strict=True)):
        offset, part = permute.targets[number // unit], number % unit
        place = f"(real*)(c + {offset}) + {part * width}"
        count = sum(entry is not None for entry in register)
        value = "reg{}" if result is None else f"r{result}"
        if permute.padding:
            if 0 < count < width:
                picks = ", ".join(str(k if k < count else width + k) for k in range(width))
                value = f"SHUFFLE({value}, reg{{}}, {picks})"
            lines.append(f"put<{width}>({place}, {value});")
        elif count:
            lines.append(f"put<{count}>({place}, {value});")
    return lines
