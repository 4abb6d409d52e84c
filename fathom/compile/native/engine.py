"""`Compiler`: LLVM IR text to machine code for the CPU at hand, kept on disk between runs.

llvmlite is imported when the first compiler is made, not before.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import itertools
import os
import platform
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from fathom.compile.native import elf
from fathom.engine.errors import ArgumentError, FathomError, suggest
from fathom.version import __version__

CACHE_BYTES = 256 << 20
FORMAT = b"fathom-native-1\n"  # first bytes of a cache entry; a digest and the object code follow
EXPORTED = re.compile(r'^define (?!internal|private)[^@]*@(?:"([^"]+)"|([-\w.$]+))\(', re.MULTILINE)
_lock = threading.RLock()  # LLVM is entered by one thread at a time
_numbers = itertools.count()


class MissingCompilerError(FathomError, ImportError):
    """Native code was asked for and llvmlite is not installed."""


class NativeError(FathomError, RuntimeError):
    """LLVM refused a module, or the machine refuses to run generated code."""


def _llvm() -> Any:
    try:
        import llvmlite.binding as llvm
    except ImportError as error:
        raise MissingCompilerError(
            f"native code needs llvmlite, which cannot be imported ({error})",
            fix="pip install llvmlite, or set FATHOM_NATIVE=0 to run on NumPy alone",
        ) from error
    return llvm


@dataclass(frozen=True)
class Machine:
    """What code is made for."""

    triple: str
    cpu: str
    features: str

    @property
    def fused(self) -> bool:
        """Whether a multiply-add is one instruction; `vecmath` is slow without."""
        return "+fma," in f"{self.features}," or self.triple.startswith(("aarch64", "arm64"))

    @property
    def lanes(self) -> int:
        """float32 numbers in the widest vector."""
        wide = {"+avx512f": 16, "+avx": 8}
        return next((n for f, n in wide.items() if f in self.features.split(",")), 4)


class Library:
    """Compiled functions: `library["name"]` is an address, valid while the library lives."""

    def __init__(
        self, owners: Any, addresses: dict[str, int], key: str = "", cached: bool = False
    ) -> None:
        self._owners = owners  # they keep the code in memory
        self.addresses = addresses
        self.key = key
        self.cached = cached

    def __getitem__(self, name: str) -> int:
        try:
            return self.addresses[name]
        except KeyError:
            raise ArgumentError(
                f"no compiled function {name!r}", fix=suggest(name, self.addresses)
            ) from None

    def function(self, name: str, *arguments: Any, result: Any = None) -> Any:
        """The function for `ctypes`, which keeps the library alive.

        `arguments` and `result` are ctypes types.
        """
        made: Any = ctypes.CFUNCTYPE(result, *arguments)(self[name])
        made.library = self
        return made


class Compiler:
    """Compile LLVM IR text for this machine.

    Parameters
    ----------
    width : bits of the vectors LLVM's vectorizers should prefer (256 or 512 on x86); None
        takes what LLVM holds best for the CPU.
    machine : another machine, to read its `assembly`; None is the host.
    cache : folder for object code, None for the user's (`$FATHOM_CACHE/native`), False for none.
    cache_bytes : the folder is kept below this size; what was used longest ago goes first.

    Raises `MissingCompilerError` without llvmlite. May be used from several threads.

    >>> compiler = Compiler(cache=False)
    >>> library = compiler.compile('''
    ... define double @twice(double %x) {
    ...   %y = fadd double %x, %x
    ...   ret double %y
    ... }''')
    >>> library.function("twice", ctypes.c_double, result=ctypes.c_double)(21.0)
    42.0
    """

    def __init__(
        self,
        *,
        width: int | None = None,
        machine: Machine | None = None,
        cache: Path | str | bool | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._llvm = _llvm()
        self.width = width
        self._given = machine
        self.cache = None if cache is False else Cache(_folder(cache), cache_bytes)

    @cached_property
    def machine(self) -> Machine:
        """What code is made for: the host, if nothing else was asked for."""
        llvm = self._llvm
        if self._given is not None:
            return self._given
        with _lock:
            features = llvm.get_host_cpu_features().flatten()
            if self.width is not None and "avx512f" in features:
                features += f",{'+' if self.width <= 256 else '-'}prefer-256-bit"
            return Machine(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)

    @cached_property
    def _target(self) -> Any:
        llvm, machine = self._llvm, self.machine
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_triple(machine.triple)
        return target.create_target_machine(
            cpu=machine.cpu, features=machine.features, opt=3, reloc="pic", codemodel="default"
        )

    @cached_property
    def _jit(self) -> Any:
        try:
            self._llvm.check_jit_execution()
        except OSError as error:
            raise NativeError(
                f"this system does not run generated code: {error}",
                fix="set FATHOM_NATIVE=0 to run on NumPy alone",
            ) from error
        return self._llvm.create_lljit_compiler(self._target, suppress_errors=True)

    def key(self, text: str) -> str:
        """What the object code of a text depends on, as one hexadecimal number."""
        llvm, machine = self._llvm, self.machine
        version = ".".join(map(str, llvm.llvm_version_info))
        parts = (__version__, version, machine.triple, machine.cpu, machine.features, text)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def compile(self, text: str, symbols: Mapping[str, int] | None = None) -> Library:
        """Machine code of a module.

        `symbols`: addresses of functions that the text declares and does not define. Pass what
        differs between processes here, or as arguments, never as a number in the text: the text
        is the key of the cache.

        Raises `NativeError` with LLVM's message and the line for text that is no valid module.
        """
        with _lock:
            key = self.key(text)
            names = [a or b for a, b in EXPORTED.findall(text)]
            known = self.load(key, names, symbols)
            if known is not None:  # if it does not fit, it is made anew
                return known
            code = self._target.emit_object(self.optimize(text))
            library = self._link(code, names, symbols or {}, key, cached=False)
            if self.cache:
                self.cache.write(key, code)
            return library

    def load(
        self, key: str, names: Sequence[str], symbols: Mapping[str, int] | None = None
    ) -> Library | None:
        """The functions of a module that was compiled before; None if the cache has it not."""
        code = self.cache.read(key) if self.cache else None
        with _lock, contextlib.suppress(NativeError):
            if code is not None:
                return self._link(code, names, symbols or {}, key, cached=True)
        return None

    def optimize(self, text: str) -> Any:
        """The module after LLVM's passes (O3, loops and straight-line code vectorized)."""
        llvm = self._llvm
        with _lock:
            module = self._parse(text)
            module.triple, module.data_layout = self.machine.triple, str(self._target.target_data)
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization = options.slp_vectorization = True
            options.loop_interleaving = True
            options.loop_unrolling = False  # costs several times the compilation, gains -20 to 12 %
            passes = llvm.create_pass_builder(self._target, options)
            passes.getModulePassManager().run(module, passes)
            return module

    def assembly(self, text: str) -> str:
        """The machine code in readable form."""
        with _lock:
            found: str = self._target.emit_assembly(self.optimize(text))
            return found

    def _parse(self, text: str) -> Any:
        try:
            module = self._llvm.parse_assembly(text, self._llvm.create_context())
            module.verify()
        except RuntimeError as error:
            raise NativeError(f"LLVM does not take this module: {error}") from error
        return module

    def _link(
        self, code: bytes, names: Sequence[str], symbols: Mapping[str, int], key: str, cached: bool
    ) -> Library:
        builder = self._llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for symbol, address in symbols.items():
            builder.import_symbol(symbol, address)
        for name in names:
            builder.export_symbol(name)
        try:
            tracker = builder.link(self._jit, f"fathom{next(_numbers)}")
        except RuntimeError as error:
            raise NativeError(f"the compiled module cannot be linked: {error}") from error
        addresses = {name: tracker[name] for name in names}
        return Library((self._jit, tracker), addresses, key, cached)


class Cache:
    """Object code and more in a folder, an entry a file. What cannot be read is not there."""

    def __init__(self, folder: Path, limit: int = CACHE_BYTES) -> None:
        self.folder = folder
        self.limit = limit

    def path(self, key: str, ending: str = ".o") -> Path:
        return self.folder / f"{key}{ending}"

    def read(self, key: str, ending: str = ".o") -> bytes | None:
        """The code, or None where there is none that is whole."""
        path = self.path(key, ending)
        try:
            entry = path.read_bytes()
            code = entry[len(FORMAT) + 32 :]
            if entry != FORMAT + hashlib.sha256(code).digest() + code:
                return None
            os.utime(path)  # used now
        except OSError:
            return None
        return code

    def write(self, key: str, code: bytes, ending: str = ".o") -> None:
        """Keep the code: written aside and renamed, so that no reader meets half of it."""
        path = self.path(key, ending)
        aside = path.with_name(f".{key}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside.write_bytes(FORMAT + hashlib.sha256(code).digest() + code)
            os.replace(aside, path)
            self._prune()
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()

    def _prune(self) -> None:
        # halves that a killed process left aside count too, and go with age
        files = [*self.folder.glob("*.o"), *self.folder.glob("*.json"), *self.folder.glob(".*.tmp")]
        entries = sorted(map(_facts, files), reverse=True)
        total = 0
        for _, size, path in entries:
            total += size
            if total > self.limit:
                Path(path).unlink(missing_ok=True)


def _facts(path: Path) -> tuple[int, int, str]:
    """Time of last use, size, name; zeros for what another process has removed."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, str(path)
    return found.st_mtime_ns, found.st_size, str(path)


def _folder(given: Path | str | bool | None) -> Path:
    if isinstance(given, (str, Path)):
        return Path(given)
    root = os.environ.get("FATHOM_CACHE")
    if root:
        return Path(root) / "native"
    import platformdirs  # what pooch asks, which takes far longer to come in

    return Path(platformdirs.user_cache_dir("fathom")) / "native"


def default_cache() -> Cache:
    """The user's cache."""
    return Cache(_folder(None))


def load(key: str, names: Sequence[str], symbols: Mapping[str, int]) -> Library | None:
    """Functions from the user's cache; without llvmlite if the object code is simple enough."""
    code = default_cache().read(key)
    image = None if code is None else elf.load(code, symbols)
    if image is not None and image.addresses.keys() >= set(names):
        return Library(image, {name: image.addresses[name] for name in names}, key, cached=True)
    return None if code is None else Compiler().load(key, names, symbols)


@cache
def processor() -> str:
    """The processor and the compiler at hand, as far as can be told without llvmlite."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = file.read(1 << 13).split("\n\n")[0].splitlines()  # of the first core
        facts = [line for line in lines if not line.startswith(("cpu MHz", "bogomips", "Bogo"))]
    except OSError:
        facts = list(astuple(Compiler(cache=False).machine))
    found = importlib.util.find_spec("llvmlite")
    if found is not None and found.origin is not None:
        with contextlib.suppress(OSError):
            facts.append(Path(found.origin).with_name("_version.py").read_text())
    return "\n".join([platform.machine(), *facts])
