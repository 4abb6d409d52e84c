"""`Compiler`: machine code from text, and its cache on disk."""

import ctypes
import gc
import importlib.util
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fathom.compile.native.engine import (
    Cache,
    Compiler,
    Library,
    MissingCompilerError,
    NativeError,
)
from fathom.engine.errors import ArgumentError, FathomError

needs_llvm = pytest.mark.skipif(
    importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed"
)


def adds(number: float) -> str:
    """A module with `add`, which adds a number to a double."""
    bits = struct.unpack("<Q", struct.pack("<d", number))[0]
    return f"""
define double @add(double %x) {{
  %y = fadd double %x, 0x{bits:016X}
  ret double %y
}}
"""


def call(library: Library, x: float, name: str = "add") -> float:
    return library.function(name, ctypes.c_double, result=ctypes.c_double)(x)


@needs_llvm
def test_code_runs_and_outlives_its_library_object() -> None:
    compiler = Compiler(cache=False)
    function = compiler.compile(adds(2.0)).function("add", ctypes.c_double, result=ctypes.c_double)
    del compiler
    gc.collect()
    assert function(40.0) == 42.0


@needs_llvm
def test_a_second_compiler_finds_the_code_on_disk(tmp_path: Path) -> None:
    first = Compiler(cache=tmp_path).compile(adds(1.0))
    again = Compiler(cache=tmp_path).compile(adds(1.0))
    other = Compiler(cache=tmp_path).compile(adds(3.0))
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert [call(lib, 1.0) for lib in (first, again, other)] == [2.0, 2.0, 4.0]
    assert len(list(tmp_path.iterdir())) == 2  # nothing aside is left


@needs_llvm
@pytest.mark.parametrize("damage", ["short", "empty", "flipped", "other"])
def test_damaged_entries_are_ignored_and_rewritten(tmp_path: Path, damage: str) -> None:
    compiler = Compiler(cache=tmp_path)
    compiler.compile(adds(1.0))
    path = Cache(tmp_path).path(compiler.key(adds(1.0)))
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    bad = {"short": good[:-9], "empty": b"", "flipped": bytes(flipped), "other": b"x" * 99}[damage]
    path.write_bytes(bad)
    library = compiler.compile(adds(1.0))
    assert not library.cached
    assert call(library, 1.0) == 2.0
    assert path.read_bytes()[:48] == good[:48]
    assert compiler.compile(adds(1.0)).cached


@needs_llvm
def test_an_entry_that_is_whole_but_no_object_code_is_made_anew(tmp_path: Path) -> None:
    compiler = Compiler(cache=tmp_path)
    Cache(tmp_path).write(compiler.key(adds(1.0)), b"not object code")
    library = compiler.compile(adds(1.0))
    assert not library.cached
    assert call(library, 1.0) == 2.0


@needs_llvm
def test_a_folder_that_cannot_be_used_costs_only_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert call(Compiler(cache=blocked).compile(adds(1.0)), 1.0) == 2.0


@needs_llvm
def test_another_process_uses_the_folder_of_fathom_cache(tmp_path: Path) -> None:
    code = (
        "from fathom.compile.native.engine import Compiler\n"
        f"print(Compiler().compile({adds(1.0)!r}).cached)"
    )
    env = {**os.environ, "FATHOM_CACHE": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        for _ in range(2)
    ]
    assert [r.stdout.strip() for r in runs] == ["False", "True"], runs[0].stderr
    assert list((tmp_path / "native").glob("*.o"))


def test_what_was_used_longest_ago_is_removed_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=3000)
    for i, key in enumerate("abc"):
        cache.write(key, bytes(900))
        os.utime(cache.path(key), ns=(i, i))
    assert cache.read("a") is not None  # now the youngest
    cache.write("d", bytes(900))
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["a", "c", "d"]


def test_what_a_killed_process_left_aside_goes_with_age(tmp_path: Path) -> None:
    left = tmp_path / ".a.1.2.tmp"
    left.write_bytes(bytes(900))
    os.utime(left, ns=(1, 1))
    cache = Cache(tmp_path, limit=1500)
    cache.write("b", bytes(900))
    assert [p.name for p in tmp_path.iterdir()] == ["b.o"]


def test_an_entry_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=100)
    cache.write("a", bytes(900))
    assert cache.read("a") is None


@needs_llvm
def test_the_key_depends_on_text_and_machine(tmp_path: Path) -> None:
    plain, narrow = Compiler(cache=False), Compiler(cache=False, width=256)
    assert plain.key("a") != plain.key("b")
    assert plain.key("a") == Compiler(cache=False).key("a")
    if "avx512f" in plain.machine.features:
        assert plain.key("a") != narrow.key("a")
    assert plain.machine.lanes in (4, 8, 16)


@needs_llvm
def test_symbols_are_given_by_address() -> None:
    seen: list[float] = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_double)(seen.append)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    text = """
declare void @tell(double)
define void @"say it"(double %x) {
  call void @tell(double %x)
  ret void
}
"""
    library = Compiler(cache=False).compile(text, {"tell": address})
    library.function("say it", ctypes.c_double)(2.5)
    assert seen == [2.5]


@needs_llvm
def test_errors_name_what_is_wrong() -> None:
    compiler = Compiler(cache=False)
    with pytest.raises(NativeError, match="does not take this module"):
        compiler.compile("define double @f( {")
    with pytest.raises(NativeError, match="does not take this module"):
        compiler.compile("define double @f(double %x) {\n  ret double %z\n}")
    missing = "declare void @fathom_nowhere()\ndefine void @f() {\n"
    with pytest.raises(NativeError, match="cannot be linked"):
        compiler.compile(missing + "  call void @fathom_nowhere()\n  ret void\n}")
    with pytest.raises(ArgumentError, match="did you mean 'add'"):
        compiler.compile(adds(1.0))["ad"]
    assert call(compiler.compile(adds(1.0)), 1.0) == 2.0  # usable after all that


@needs_llvm
def test_threads_compile_at_once(tmp_path: Path) -> None:
    compiler, results = Compiler(cache=tmp_path), {}

    def work(i: int) -> None:
        results[i] = call(compiler.compile(adds(float(i % 4))), 10.0)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {i: 10.0 + i % 4 for i in range(16)}


def test_without_llvmlite_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    with pytest.raises(MissingCompilerError, match="pip install llvmlite") as caught:
        Compiler()
    assert isinstance(caught.value, FathomError) and isinstance(caught.value, ImportError)


def test_llvmlite_is_imported_late() -> None:
    code = "import fathom.compile.native.engine, fathom.compile.native.vecmath, sys\n"
    code += "print('llvmlite' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
