"""The function of a kernel that is called from outside, in C++.

It gives each thread a run of blocks of samples and memory of its own, fills up the ragged block,
and calls the steps; sums over samples are carried on the way (sums_over_threads.py)::

    before                      once: steps on parameters
    threads  0: samples of blocks 0 1 2 ...     each into partial sums of its own
             1: samples of blocks 7 8 9 ...
    after                       once: partial sums of all threads become gradients
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loops import Buffer, LoopProgram, counts_samples, prefetched
from . import stored_arguments
from .sums_over_threads import carry

# What a function returns where an array that has entries has no address: it was given back.
NO_ADDRESS = 2
# Behind a function's name, the name of the one that gives its memory back.
RELEASE = "_release"


def print_entry(program: LoopProgram) -> str:
    """The function that is called from outside."""
    name = program.name
    arguments = program.of("input", "output")
    batched = [buffer for buffer in arguments if buffer.batched]
    workspace = program.workspace
    assert workspace is not None, "the workspace is laid out before printing"
    carries = carry(program.carried, workspace.partial)
    is_stored = bool(program.arguments)
    pointers = "\n".join(
        f"  whole.{buffer.name} = (entry*)arguments[{number}];"
        for number, buffer in enumerate(arguments)
        if not is_stored
    )
    work = _stored_samples(program, batched) if is_stored else _samples(program, batched)
    return stored_arguments.print_types(program) + _ENTRY.format(
        name=name,
        count=len(arguments),
        batched=", ".join(str(int(buffer.batched)) for buffer in arguments),
        no_address=NO_ADDRESS,
        release=RELEASE,
        block=program.block,
        pointers=pointers,
        shared=workspace.shared,
        line=workspace.line_bytes,
        partial=workspace.partial,
        after_partials=workspace.thread,
        run=carries.run,
        carried=carries.each_run,
        carried_last=carries.last,
        own=workspace.own,
        ragged_at=workspace.ragged,
        blocks=f"(batch + {program.block - 1}) / {program.block}" if batched else "0",
        block_of="blocks - 1 - turn" if program.starts_ragged else "turn",
        next_of="block - 1" if program.starts_ragged else "block + 1",
        work=work,
        begins=_line(stored_arguments.call_begins(program)) if is_stored else "",
        ends=_line(stored_arguments.call_ends(program)) if is_stored else "",
        most=", int most" if is_stored else "",
        allowed=", most" if is_stored else "",
        keeps="  const int most = threads;\n" if is_stored else "",
    )


def _line(text: str) -> str:
    return f"{text}\n" if text else ""


def _stored_samples(program: LoopProgram, batched: Sequence[Buffer]) -> str:
    """A block whose samples are stored in another dtype."""
    return stored_arguments.block(
        program,
        batched,
        counts=counts_samples(program.samples),
        cleared=_CLEARED.format(entries=program.size_of("partial"))
        if program.starts_ragged
        else "",
    )


def _samples(program: LoopProgram, batched: Sequence[Buffer]) -> str:
    """A block whose samples are read where they lie; the ragged one is a copy."""
    ragged = _ragged(program, batched) if program.block > 1 else ""
    return f"{_advance(program, batched)}\n{ragged}\n      {program.name}_samples(f);"


def _advance(program: LoopProgram, batched: Sequence[Buffer]) -> str:
    block = program.block
    ahead = prefetched(program.samples)
    lines = [
        f"      f.{to}{buffer.name} = whole.{buffer.name} + (size_t){which} * "
        f"{buffer.size * block};"
        for to, which in (("", "block"), ("next_", "next"))
        for buffer in batched
        if not to or buffer.name in ahead
    ]
    if counts_samples(program.samples):
        lines.append(f"      f.samples = {block};")
    return "\n".join(lines)


def _ragged(program: LoopProgram, batched: Sequence[Buffer]) -> str:
    """The last block, where samples are missing, runs on copies with zeros for those."""
    block = program.block
    copies, results, at = [], [], 0
    counts = counts_samples(program.samples)
    for buffer in batched:
        size = buffer.size
        if buffer.space == "input":
            copies += [
                f"        memcpy((void*)(room + {at}), f.{buffer.name}, "
                f"valid * sizeof(entry) * {size});",
                f"        memset((void*)(room + {at} + valid * {size}), 0, "
                f"({block} - valid) * sizeof(entry) * {size});",
                f"        f.{buffer.name} = room + {at};",
            ]
        else:
            copies += [
                f"        entry* out_{buffer.name} = f.{buffer.name};",
                f"        f.{buffer.name} = room + {at};",
            ]
            results.append(
                f"        memcpy((void*)out_{buffer.name}, room + {at}, "
                f"valid * sizeof(entry) * {size});"
            )
        at += size * block
    cleared = _CLEARED.format(entries=program.size_of("partial"))
    return "\n".join(
        [
            f"      const size_t valid = batch - block * {block};",
            f"      if (valid < {block}) {{",
            "        entry* room = own + ROOM;",
            *copies,
            *(["        f.samples = (int)valid;"] if counts else []),
            f"        {program.name}_samples(f);",
            *results,
            *([cleared] if program.starts_ragged else []),
            "        continue;",
            "      }",
        ]
    )


_CLEARED = """\
        // Of a sample that is missing, 0 x inf must be in no sum.
        for (size_t at = 0; at < {entries}; at += W)
          for (size_t j = valid; j < W; j++) f.partial[at + j] = entry{{}};"""

_ENTRY = """
static int {name}_run(Room& room, void** arguments, long batch, long blocks, int threads{most}) {{
  {name}_frame whole = {{}};
{pointers}
  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + {line} - 1) / {line};
  entry* call = room.call.get({shared} + lines * ({line} / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * ({line} / sizeof(entry));
  int team = 1;
{begins}  {name}_before(whole);
  int failed = 0;
  enum {{ ROOM = {ragged_at} }};
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {{
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    {name}_frame f = whole;
    entry* own = room.own[me].get({own});
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + {after_partials};
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, {partial} * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
{run}    for (long turn = start; turn < end; turn++) {{
{carried}      const long block = {block_of}, next = turn + 1 < end ? {next_of} : block;
{work}
    }}
{carried_last}  }}
  if (failed) return 1;
  whole.team = team;
  {name}_after(whole);
{ends}  return 0;
}}

extern "C" int {name}(void** arguments, long batch, int threads) {{
  static const bool batched[] = {{{batched}}};
  for (int k = 0; k < {count}; k++)
    if (!arguments[k] && (batch || !batched[k])) return {no_address};
  const long blocks = {blocks};
  if (omp_in_parallel()) threads = 1;
{keeps}  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  Room* room = take_room(threads);
  if (!room) return 1;
  const int status = {name}_run(*room, arguments, batch, blocks, threads{allowed});
  leave_room(room);
  return status;
}}

// Gives back what calls keep; the next call takes memory anew.
extern "C" void {name}{release}() {{ drop_rooms(); }}
"""
