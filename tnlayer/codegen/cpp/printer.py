"""The C++ printer: a loop program becomes readable source. It decides nothing.

Every step is a function of its own, called after the step of the plan that it does; its comment
says what it computes. Names are canonical: buffers are called as in the plan, nothing comes from
the user.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loops import (
    At,
    Axis,
    Barrier,
    Buffer,
    Fill,
    For,
    Gather,
    LoopProgram,
    LoopRegion,
    Mma,
    Permute,
    Prefetch,
    Statement,
    SumPartials,
    SumThreads,
    Threads,
    Tile,
    Transpose,
    buffers_of,
    counts_samples,
    prefetched,
    written_of,
)
from ...support.dtypes import DTYPES
from .entry_point import print_entry
from .permute import permute_lines
from .places import offset_table, pointer
from .prelude import prelude
from .sums_over_threads import sum_lines


def print_cpp(program: LoopProgram) -> str:
    """Source of a translation unit with one entry point, ``program.name``.

    It takes the addresses of the inputs and then of the outputs in order, the number of samples and
    the most threads to use, and returns 0, or 1 where no memory was left.
    """
    return prelude(program.scalar, program.width) + print_kernel(program)


def print_kernel(program: LoopProgram) -> str:
    """The program's own part, without the prelude: several may stand in one unit."""
    functions, rest = print_functions(program)
    return "".join((*functions, rest))


def print_functions(program: LoopProgram) -> tuple[list[str], str]:
    """The function of each step, and what calls them."""
    printer = _Printer(program)
    return printer.functions(), printer.frame() + print_entry(program)


class _Printer:
    """Prints one program."""

    def __init__(self, program: LoopProgram) -> None:
        self.program = program
        self.buffers = {buffer.name: buffer for buffer in program.buffers}
        self.places = {name: place for place, name in enumerate(self.buffers)}
        self.parts = {
            "before": program.before,
            "samples": program.samples,
            "after": program.after,
        }

    # -- steps as functions ----------------------------------------------------------------

    def steps(self, part: str) -> list[tuple[str, LoopRegion]]:
        """The steps of a part with the names of their functions."""
        found = [step for step in self.parts[part] if isinstance(step, LoopRegion)]
        assert len(found) == len(self.parts[part]), "a part is a list of steps"
        name = self.program.name
        return [(f"{name}_{part}{number}_{s.name}", s) for number, s in enumerate(found)]

    def used(self, step: LoopRegion) -> list[Buffer]:
        """Buffers that a step touches, in the program's order."""
        names = sorted(buffers_of(step.body), key=self.places.__getitem__)
        return [self.buffers[name] for name in names]

    def functions(self) -> list[str]:
        """One function a step."""
        return [self.function(name, step) for part in self.parts for name, step in self.steps(part)]

    def function(self, name: str, step: LoopRegion) -> str:
        written = written_of(step.body)
        arguments: list[str] = []
        for buffer in self.used(step):
            if buffer.space == "partial" and buffer.name not in written:
                team = "" if "team" in "".join(arguments) else "entry* const* partials, int team, "
                arguments.append(f"{team}size_t at_{buffer.name}")
            else:
                const = "" if buffer.name in written else "const "
                arguments.append(f"{const}entry* __restrict {buffer.name}")
        if counts_samples(step.body):
            arguments.append("int samples")
        arguments += [f"const entry* next_{name}" for name in prefetched(step.body)]
        lines = [f"\n// {step.comment}", f"STEP {name}({', '.join(arguments)}) {{"]
        lines += self.body(step.body, 1)
        return "\n".join([*lines, "}\n"])

    def call(self, name: str, step: LoopRegion) -> str:
        """The call of a step's function inside the driver."""
        written = written_of(step.body)
        arguments: list[str] = []
        for buffer in self.used(step):
            if buffer.space == "partial" and buffer.name not in written:
                team = "" if "f.team" in "".join(arguments) else "f.partials, f.team, "
                arguments.append(f"{team}{buffer.offset}")
            elif buffer.space in ("input", "output"):
                arguments.append(f"f.{buffer.name}")
            else:
                arguments.append(f"f.{buffer.space} + {buffer.offset}")
        if counts_samples(step.body):
            arguments.append("f.samples")
        arguments += [f"f.next_{name}" for name in prefetched(step.body)]
        return f"{name}({', '.join(arguments)});"

    # -- statements ------------------------------------------------------------------------

    def body(self, body: Sequence[Statement], depth: int) -> list[str]:
        lines: list[str] = []
        for statement in body:
            lines += ["  " * depth + line for line in self.statement(statement)]
        return lines

    def statement(self, statement: Statement) -> list[str]:
        match statement:
            case LoopRegion():
                return [f"// {statement.comment}", *self.body(statement.body, 0)]
            case For():
                index = statement.index
                return [_loop(index, statement), *self.body(statement.body, 1), "}"]
            case Tile():
                return self.tile(statement)
            case Transpose():
                to, since = (
                    offset_table("to", statement.targets),
                    offset_table("since", statement.sources),
                )
                target, source = pointer(statement.target), pointer(statement.source)
                shape = f"{len(statement.targets)}, {len(statement.sources)}"
                name = f"transpose<{shape}, {'true' if statement.padding else 'false'}>"
                return [f"{{ {to} {since}", f"  {name}({target}, to, {source}, since); }}"]
            case Permute():
                target, source = pointer(statement.target), pointer(statement.source)
                head = f"{{ const entry* a = {source}; entry* c = {target};"
                is_complex = DTYPES[self.program.scalar].is_complex
                lines = permute_lines(statement, self.program.width, is_complex=is_complex)
                return [head, *(f"  {line}" for line in lines), "}"]
            case Gather():
                target, source = pointer(statement.target), pointer(statement.source)
                count = len(statement.offsets)
                if statement.offsets == tuple(range(count)):
                    name = f"copy<{count}, {'true' if statement.padding else 'false'}>"
                    return [f"{name}({target}, {source});"]
                table = offset_table("offsets", statement.offsets)
                call = f"gather({target}, {source}, offsets, {count}, {statement.padding})"
                return [f"{{ {table}", f"  {call}; }}"]
            case Fill():
                count = f"{statement.count} * sizeof(entry)"
                return [f"memset((void*)({pointer(statement.target)}), 0, {count});"]
            case SumPartials():
                return sum_lines(statement, self.program.width)
            case Prefetch():
                writes = "true" if statement.writes else "false"
                return [f"prefetch<{writes}>(next_{pointer(statement.source)}, {statement.count});"]
            case Mma() | Threads() | Barrier() | SumThreads():
                msg = f"a CPU has no {type(statement).__name__}; interpret the program"
                raise NotImplementedError(msg)

    def tile(self, tile: Tile) -> list[str]:
        """Accumulators as named variables: an array of vectors would live in memory."""
        kind = "entry" if tile.target.form == "scalar" else "vec"
        lines = [f"{{ const entry *a = {pointer(tile.left)};"]
        if tile.right is not None:
            lines[0] += f" const entry *b = {pointer(tile.right)};"
        lines[0] += f" entry *c = {pointer(tile.target)};"
        if tile.right is not None and not tile.keeps_weights:
            lines.append("  READ_ANEW(a, b);")
        inner = "  " * (len(tile.loops) + 1)
        if tile.loops:
            starts = (
                f"y{r}_{c} = {{}}" for r in range(len(tile.rows)) for c in range(len(tile.columns))
            )
            lines.append(f"  {kind} {', '.join(starts)};")
        for number, axis in enumerate(tile.loops):
            lines.append("  " * (number + 1) + _loop(f"k{number}", axis))
        offsets = self.offsets(tile)
        for number, (left, right) in enumerate(tile.sums):
            opens = number == 0 and not tile.loops
            lines.append(inner + self.products(tile, left, right, offsets, kind, opens))
        lines += ["  " * (number + 1) + "}" for number in reversed(range(len(tile.loops)))]
        for r, (_, row) in enumerate(tile.rows):
            stores = (
                f"store(c + {row + column}, {self.total(tile, f'y{r}_{c}', row + column)});"
                for c, (_, column) in enumerate(tile.columns)
            )
            lines.append("  " + " ".join(stores))
        lines[-1] += " }"
        return lines

    def in_order(self, tile: Tile, name: str) -> str:
        """A result with its lanes in the target's order."""
        if not tile.order:
            return name
        return f"__builtin_shufflevector({name}, {name}, {', '.join(map(str, tile.order))})"

    def total(self, tile: Tile, name: str, offset: int) -> str:
        """What is stored of a result. The target is added last: terms that were added to it one by
        one would each be rounded to the digits of the whole sum."""
        result = self.in_order(tile, name)
        if not tile.adds:
            return result
        reader = "scalar" if tile.target.form == "scalar" else "load"
        return f"{result} + {reader}(c + {offset})"

    def offsets(self, tile: Tile) -> tuple[str, str]:
        """Offsets of left and right by the indices of the tile's loops."""
        sides: list[str] = []
        for side in ("left", "right"):
            terms = [
                f" + k{number} * {getattr(axis, side)}"
                for number, axis in enumerate(tile.loops)
                if getattr(axis, side)
            ]
            sides.append("".join(terms))
        return sides[0], sides[1]

    def products(
        self, tile: Tile, left: int, right: int, offsets: tuple[str, str], kind: str, opens: bool
    ) -> str:
        """One term of the sum for all rows and columns: loads, then multiply-adds."""
        read = {"vector": "load", "splat": "splat", "scalar": "scalar"}
        sign = "=" if opens else "+="

        def value(at: At, name: str, offset: int, moved: str) -> str:
            reader = read.get(at.form, f"repeat_{at.run}")
            text = f"{reader}({name} + {offset}{moved})"
            return f"conj({text})" if at.conj else text

        rows = [value(tile.left, "a", row + left, offsets[0]) for row, _ in tile.rows]
        if tile.right is None:
            sums = " ".join(f"y{r}_0 {sign} {text};" for r, text in enumerate(rows))
            return f"{kind} {sums}" if opens and len(rows) == 1 else _opened(kind, sums, opens)
        columns = [value(tile.right, "b", column + right, offsets[1]) for column, _ in tile.columns]
        names = ", ".join(f"y{r}_{c}" for r in range(len(rows)) for c in range(len(columns)))
        head = f"{kind} {names}; " if opens else ""
        if tile.holds == "left":
            loads = ", ".join(f"x{r} = {text}" for r, text in enumerate(rows))
            sums = " ".join(
                f"{{ const {kind} g = {text}; "
                + " ".join(f"y{r}_{c} {sign} g * x{r};" for r in range(len(rows)))
                + " }"
                for c, text in enumerate(columns)
            )
            return f"{head}{{ const {kind} {loads}; {sums} }}"
        loads = ", ".join(f"g{c} = {text}" for c, text in enumerate(columns))
        sums = " ".join(
            f"{{ const {kind} x = {text}; "
            + " ".join(f"y{r}_{c} {sign} g{c} * x;" for c in range(len(columns)))
            + " }"
            for r, text in enumerate(rows)
        )
        return f"{head}{{ const {kind} {loads}; {sums} }}"

    # -- the frame ------------------------------------------------------------------------

    def frame(self) -> str:
        """What the steps of a call share."""
        program, name = self.program, self.program.name
        lines = [f"\nstruct {name}_frame {{"]
        for buffer in program.of("input", "output"):
            const = "const " if buffer.space == "input" else ""
            lines.append(f"  {const}entry* {buffer.name};")
        lines += [f"  const entry* next_{name};" for name in prefetched(program.samples)]
        lines += ["  entry *shared, *thread, *partial;", "  entry** partials;", "  int team;"]
        lines += ["  int samples;", "};"] if counts_samples(program.samples) else ["};"]
        for part in self.parts:
            lines.append(f"\nSTEP {name}_{part}(const {name}_frame& f) {{")
            lines += [f"  {self.call(step_name, step)}" for step_name, step in self.steps(part)]
            lines.append("}")
        return "\n".join(lines) + "\n"


def _loop(index: str, loop: For | Axis) -> str:
    """The head of a loop."""
    end = "samples" if loop.of_samples else loop.count
    return f"for (int {index} = 0; {index} < {end}; {index}++) {{"


def _opened(kind: str, sums: str, opens: bool) -> str:
    """Declarations of several accumulators that are set at once."""
    if not opens:
        return sums
    return f"{kind} " + sums.rstrip(";").replace("; ", ", ") + ";"
