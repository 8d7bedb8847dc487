"""From printed CUDA C++ to a cubin: NVRTC through cuda.core, and a cache of what it made.

Neither a GPU nor a driver is needed. A cubin is stored under a key made of the source, the
architecture, the version of NVRTC and the options, together with what ptxas said of it
(backends/cuda_resources.py reads that). The store (support/file_store.py) sees to whole files and
checksums: damage of any kind is a miss, and two processes that build the same kernel at once both
succeed.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...errors import BuildError, SpecError
from ...support.debug import debug
from ...support.file_store import Store
from ...support.locks import Lock

INSTALL = "pip install 'tnlayer[cuda]'"
STANDARD = "c++17"
PTXAS_OPTIONS = ("-v",)
_ARCH = re.compile(r"sm_\d{2,3}[af]?")
_STORE = Store("cubins")
_MOST_LINES = 20
_lock = Lock()
_built: dict[str, Cubin] = {}


@dataclass(frozen=True, slots=True)
class Nvrtc:
    """The compiler of the ``tnlayer[cuda]`` extra.

    Arguments:
        core: the module cuda.core.
        version: of NVRTC, such as "13.0".
        architectures: what it builds for, such as "sm_90".
    """

    core: Any
    version: str
    architectures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cubin:
    """A built translation unit.

    Arguments:
        binary: the ELF file that the driver loads.
        log: what ptxas said of each entry point.
        arch: what it was built for.
    """

    binary: bytes
    log: str
    arch: str


@lru_cache(maxsize=1)
def find_nvrtc() -> Nvrtc:
    """The NVRTC of this Python's packages.

    Raises:
        BuildError: a package is missing, or NVRTC does not load; says how to install it.
    """
    try:
        core = importlib.import_module("cuda.core")
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        (_, major, minor), (_, numbers) = nvrtc.nvrtcVersion(), nvrtc.nvrtcGetSupportedArchs()
    # Without the library the bindings raise errors of several kinds, some of their own.
    except Exception as error:
        msg = (
            "backend='cuda' needs cuda-core, cuda-bindings and nvidia-cuda-nvrtc: "
            f"{type(error).__name__}: {error}; install them with `{INSTALL}`, or use "
            "backend='torch'"
        )
        raise BuildError(msg) from error
    return Nvrtc(core, f"{major}.{minor}", tuple(f"sm_{number}" for number in numbers))


def check_arch(arch: str) -> str:
    """An architecture that this NVRTC builds for.

    Raises:
        SpecError: it is no architecture.
        BuildError: NVRTC is missing, or too old or too new for it.
    """
    if not isinstance(arch, str) or not _ARCH.fullmatch(arch):
        msg = (
            f"arch={arch!r} is no architecture; expected one like 'sm_90' (H100) or 'sm_80' (A100)"
        )
        raise SpecError(msg)
    nvrtc = find_nvrtc()
    if arch.rstrip("af") not in nvrtc.architectures:
        msg = (
            f"NVRTC {nvrtc.version} does not build for arch={arch!r}; it does for "
            f"{', '.join(nvrtc.architectures)}. Install another version of nvidia-cuda-nvrtc"
        )
        raise BuildError(msg)
    return arch


def compile_cubin(source: str, arch: str) -> Cubin:
    """Compile CUDA C++, or take it from the cache.

    Arguments:
        source: a translation unit whose entry points are ``extern "C"``.
        arch: architecture of the device, such as "sm_90".

    Raises:
        SpecError: ``arch`` is no architecture.
        BuildError: NVRTC is missing, does not know the architecture, or refuses the source.
    """
    key = _key(source, check_arch(arch), find_nvrtc())
    with _lock:
        found = _built.get(key)
    if found is None:
        # Not under the lock: NVRTC may be called from many threads, and takes seconds.
        found = _stored(key, arch)
        if found is None:
            found = _compile(source, arch, find_nvrtc())
            _STORE.write(key, _encode(found))
        else:
            debug(1, f"cubin {key} from the cache")
        debug(4, f"cubin {key}\n{source}")
        with _lock:
            found = _built.setdefault(key, found)
    return found


def _key(source: str, arch: str, nvrtc: Nvrtc) -> str:
    parts = (source, arch, nvrtc.version, STANDARD, *PTXAS_OPTIONS)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _encode(cubin: Cubin) -> bytes:
    """The log as one line of JSON, then the cubin."""
    return json.dumps(cubin.log).encode() + b"\n" + cubin.binary


def _stored(key: str, arch: str) -> Cubin | None:
    payload = _STORE.read(key)
    if payload is None:
        return None
    line, _, binary = payload.partition(b"\n")
    try:
        log = json.loads(line)
    except (ValueError, RecursionError):
        return None
    # What is no ELF file the driver would refuse, much later.
    if not isinstance(log, str) or not binary.startswith(b"\x7fELF"):
        return None
    return Cubin(binary, log, arch)


def _compile(source: str, arch: str, nvrtc: Nvrtc) -> Cubin:
    debug(1, f"building a cubin for {arch} with NVRTC {nvrtc.version}")
    log = io.StringIO()
    options = nvrtc.core.ProgramOptions(
        name="tnlayer.cu", arch=arch, std=STANDARD, ptxas_options=list(PTXAS_OPTIONS)
    )
    try:
        program = nvrtc.core.Program(source, "c++", options)
        binary = bytes(program.compile("cubin", logs=log).code)
    # The package's own errors have no public base class; the log is in their text.
    except Exception as error:
        shown = "\n".join(str(error).strip().splitlines()[:_MOST_LINES])
        msg = (
            f"NVRTC {nvrtc.version} refused generated CUDA C++ for {arch}:\n{shown}\n"
            "please report it; backend='torch' runs meanwhile"
        )
        raise BuildError(msg) from error
    return Cubin(binary, log.getvalue().rstrip("\0 \n"), arch)
