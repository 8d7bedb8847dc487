"""What a GPU runs: the instructions of a cubin, and of its loop over samples, as nvdisasm lists
them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# Instructions of the FMA pipe.
MULTIPLIES = ("FFMA", "FMUL", "FADD")
_KERNEL = re.compile(r"^\.text\.(\w+):")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)(.*)")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")


@dataclass(frozen=True)
class Kernel:
    """Instructions in order, and for each label how many stand before it.

    Arguments:
        code: name with suffixes and operands of each instruction.
        labels: places that branches name.
    """

    code: tuple[tuple[str, str], ...]
    labels: dict[str, int]

    def loop(self) -> tuple[tuple[str, str], ...]:
        """The longest loop that holds barriers: that over samples.

        What runs once a block, before and after it, is not in it.
        """
        first, last = self._span()
        return self.code[first:last]

    def is_straight(self) -> bool:
        """Whether the loop over samples has no loop inside, so that each instruction in it runs
        once a turn, or not at all."""
        first, last = self._span()
        return not any(first < a and b < last for a, b in self._loops())

    def _span(self) -> tuple[int, int]:
        waits = [
            (first, last)
            for first, last in self._loops()
            if any(name.startswith("BAR") for name, _ in self.code[first:last])
        ]
        return max(waits, key=lambda span: span[1] - span[0])

    def _loops(self) -> list[tuple[int, int]]:
        """Stretches of code that end by a jump to their beginning."""
        found: list[tuple[int, int]] = []
        for number, (name, operands) in enumerate(self.code):
            target = _TARGET.search(operands) if name.startswith("BRA") else None
            first = self.labels[target[1]] if target else number
            if first < number:
                found.append((first, number + 1))
        return found


@lru_cache(maxsize=1)
def find_nvdisasm() -> Path | None:
    """The tool of the package nvidia-cuda-nvdisasm, if that is installed."""
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations if spec is not None else None
    tools = [tool for place in places or () for tool in Path(place).glob("*/bin/nvdisasm")]
    return tools[0] if tools else None


def disassembled(cubin: bytes) -> dict[str, Kernel]:
    """The kernels of a cubin by name.

    Raises:
        FileNotFoundError: nvdisasm is not installed.
    """
    tool = find_nvdisasm()
    if tool is None:
        raise FileNotFoundError("nvdisasm: pip install nvidia-cuda-nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-c", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels: dict[str, Kernel] = {}
    for block in re.split(r"(?m)^(?=\.text\.)", text)[1:]:
        code, labels = list[tuple[str, str]](), dict[str, int]()
        for line in block.splitlines():
            if label := _LABEL.match(line):
                labels[label[1]] = len(code)
            elif found := _INSTRUCTION.search(line):
                code.append((found[1], found[2]))
        name = _KERNEL.match(block)
        assert name is not None
        kernels[name[1]] = Kernel(tuple(code), labels)
    return kernels


def between_barriers(code: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Stretches without a barrier: a thread loop each, for a barrier stands between two of them."""
    found: list[list[tuple[str, str]]] = [[]]
    for instruction in code:
        if instruction[0].startswith("BAR"):
            found.append([])
        else:
            found[-1].append(instruction)
    return found


def share(code: Sequence[tuple[str, str]]) -> float:
    """Part of the instructions that go through the FMA pipe and multiply or add: those that move,
    ``FADD r, RZ, x``, do not count."""
    pipe = [
        operands
        for name, operands in code
        if name.split(".")[0] in MULTIPLIES and not re.match(r"\s*R\d+, RZ, R\d+ ;", operands)
    ]
    return len(pipe) / len(code)
