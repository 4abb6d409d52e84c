"""Object code loaded without LLVM: the same functions, and nothing that is not understood."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from fathom.compile.function import native_wanted
from fathom.compile.native import elf
from fathom.compile.native.engine import Cache, Compiler

pytestmark = pytest.mark.skipif(
    not native_wanted() or (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="native code on Linux and x86-64",
)

TEXT = """
@elsewhere = external global i64
declare i64 @twice(i64)
declare ptr @memcpy(ptr, ptr, i64)
define internal i64 @inner(i64 %x) noinline {
  %y = call i64 @twice(i64 %x)
  ret i64 %y
}
define i64 @outer(i64 %x) {
  %y = call i64 @inner(i64 %x)
  %z = load i64, ptr @elsewhere
  %sum = add i64 %y, %z
  ret i64 %sum
}
define double @constant(double %x) {
  %y = fmul double %x, 1.25
  ret double %y
}
define void @copy(ptr %a, ptr %b, i64 %n) {
  %c = call ptr @memcpy(ptr %a, ptr %b, i64 %n)
  ret void
}
"""
TWICE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: 2 * x)
PLACE = ctypes.c_int64(5)
SYMBOLS = {
    "twice": ctypes.cast(TWICE, ctypes.c_void_p).value or 0,
    "elsewhere": ctypes.addressof(PLACE),
}


def code_of(text, tmp_path, symbols):
    compiler = Compiler(cache=tmp_path)
    compiler.compile(text, symbols)
    code = Cache(tmp_path).read(compiler.key(text))
    assert code is not None
    return code


def test_functions_constants_and_what_lies_outside(tmp_path):
    image = elf.load(code_of(TEXT, tmp_path, SYMBOLS), SYMBOLS)
    assert image is not None
    outer = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(image.addresses["outer"])
    constant = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(image.addresses["constant"])
    assert outer(10) == 25 and constant(2.0) == 2.5
    PLACE.value = 6
    assert outer(10) == 26
    PLACE.value = 5
    copy = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64)
    target = ctypes.create_string_buffer(6)
    copy(image.addresses["copy"])(target, b"hello", 6)  # type: ignore[arg-type]
    assert target.value == b"hello"


def test_a_symbol_that_nobody_knows_is_left_to_llvm(tmp_path):
    code = code_of(TEXT, tmp_path, SYMBOLS)
    assert elf.load(code, {"elsewhere": SYMBOLS["elsewhere"]}) is None


def test_data_that_changes_is_left_to_llvm(tmp_path):
    text = """
    @count = internal global i64 7
    define i64 @next() {
      %x = load i64, ptr @count
      %y = add i64 %x, 1
      store i64 %y, ptr @count
      ret i64 %y
    }"""
    assert elf.load(code_of(text, tmp_path, {}), {}) is None


@pytest.mark.parametrize("length", [0, 3, 40, 64, 200, 400])
def test_what_is_cut_off_is_refused(tmp_path, length):
    assert elf.load(code_of(TEXT, tmp_path, SYMBOLS)[:length], SYMBOLS) is None


def test_the_second_process_does_without_llvmlite(tmp_path, monkeypatch):
    program = (
        "import sys, fathom\n"
        "from fathom.compile.native import saved\n"
        "saved._sources = lambda: ''\n"
        "f = fathom.compile(lambda x: (x * 2).exp().sum(), backend='native')\n"
        "print(f(fathom.tensor([1.0, 2.0])).item(), 'llvmlite.binding' in sys.modules)\n"
    )
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    monkeypatch.setenv("FATHOM_NUM_THREADS", "1")
    found = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = (f.stdout.split() for f in found)
    assert first[0] == second[0]
    assert (first[1], second[1]) == ("True", "False")
