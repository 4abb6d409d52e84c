"""Threads for large loops: a pool that native code hands its parts to, without the interpreter.

A task is a function of a part number. `fork` writes the task into the pool, and everybody, the
caller too, takes the next part as long as there is one. Ticket and generation are one number, so
a thread that comes late can never take a part of another task. Who waits spins for a moment, then
sleeps in the kernel (a futex on Linux, short naps elsewhere). If the pool is at work for somebody
else, `fork` does all parts itself: it never waits for others to finish.

The workers are Python threads inside a native function, without the interpreter's lock.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import sys
import threading
from typing import Any

import numpy as np

# the pool's fields, each on a cache line of its own: byte offsets
TICKET, DONE, BUSY, STOP, SLEEPERS = 0, 64, 128, 192, 256
TASK, TABLE, NUMBERS, PARTS = 320, 328, 336, 344
BYTES = 384
SPIN = 20_000  # turns of waiting before a worker sleeps, a few hundred microseconds

_FUTEX = {"x86_64": 202, "AMD64": 202, "aarch64": 98, "arm64": 98}

TEXT = f"""
declare i64 @fathom.syscall(i64, ...)
declare i32 @fathom.usleep(i32)

define internal ptr @fathom.field(ptr %pool, i64 %at) alwaysinline {{
  %p = getelementptr i8, ptr %pool, i64 %at
  ret ptr %p
}}

define internal void @fathom.work(ptr %pool) {{
entry:
  %done = call ptr @fathom.field(ptr %pool, i64 {DONE})
  %taskp = call ptr @fathom.field(ptr %pool, i64 {TASK})
  %tablep = call ptr @fathom.field(ptr %pool, i64 {TABLE})
  %numbersp = call ptr @fathom.field(ptr %pool, i64 {NUMBERS})
  %partsp = call ptr @fathom.field(ptr %pool, i64 {PARTS})
  br label %take
take:
  %ticket = load atomic i64, ptr %pool acquire, align 8
  %part = and i64 %ticket, 65535
  %parts = load atomic i64, ptr %partsp acquire, align 8
  %some = icmp ult i64 %part, %parts
  br i1 %some, label %try, label %out
try:
  %task = load atomic ptr, ptr %taskp monotonic, align 8
  %table = load atomic ptr, ptr %tablep monotonic, align 8
  %numbers = load atomic ptr, ptr %numbersp monotonic, align 8
  %next = add i64 %ticket, 1
  %pair = cmpxchg ptr %pool, i64 %ticket, i64 %next acq_rel acquire
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %run, label %take
run:
  call void %task(ptr %table, ptr %numbers, i64 %part)
  %before = atomicrmw add ptr %done, i64 1 release
  br label %take
out:
  ret void
}}

define void @fathom.fork(ptr %pool, ptr %task, ptr %table, ptr %numbers, i64 %parts) noinline {{
entry:
  %busy = call ptr @fathom.field(ptr %pool, i64 {BUSY})
  %pair = cmpxchg ptr %busy, i64 0, i64 1 acquire monotonic
  %free = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %free, label %share, label %alone
alone:
  %k = phi i64 [0, %entry], [%k1, %alone]
  call void %task(ptr %table, ptr %numbers, i64 %k)
  %k1 = add i64 %k, 1
  %again = icmp ult i64 %k1, %parts
  br i1 %again, label %alone, label %out
share:
  %old = load atomic i64, ptr %pool monotonic, align 8
  %generation = and i64 %old, -65536
  %between = add i64 %generation, 65536
  %closed = or i64 %between, 65535
  store atomic i64 %closed, ptr %pool seq_cst, align 8
  %done = call ptr @fathom.field(ptr %pool, i64 {DONE})
  store atomic i64 0, ptr %done monotonic, align 8
  %taskp = call ptr @fathom.field(ptr %pool, i64 {TASK})
  store atomic ptr %task, ptr %taskp monotonic, align 8
  %tablep = call ptr @fathom.field(ptr %pool, i64 {TABLE})
  store atomic ptr %table, ptr %tablep monotonic, align 8
  %numbersp = call ptr @fathom.field(ptr %pool, i64 {NUMBERS})
  store atomic ptr %numbers, ptr %numbersp monotonic, align 8
  %partsp = call ptr @fathom.field(ptr %pool, i64 {PARTS})
  store atomic i64 %parts, ptr %partsp release, align 8
  %fresh = add i64 %between, 65536
  store atomic i64 %fresh, ptr %pool seq_cst, align 8
  %sleepersp = call ptr @fathom.field(ptr %pool, i64 {SLEEPERS})
  %sleepers = load atomic i64, ptr %sleepersp seq_cst, align 8
  %asleep = icmp ne i64 %sleepers, 0
  br i1 %asleep, label %wake, label %begin
wake:
  call void @fathom.wake(ptr %pool)
  br label %begin
begin:
  call void @fathom.work(ptr %pool)
  br label %wait
wait:
  %ready = load atomic i64, ptr %done acquire, align 8
  %all = icmp uge i64 %ready, %parts
  br i1 %all, label %finish, label %pause
pause:
  call void @fathom.pause()
  br label %wait
finish:
  store atomic i64 0, ptr %partsp monotonic, align 8
  store atomic i64 0, ptr %busy release, align 8
  br label %out
out:
  ret void
}}

define void @fathom.worker(ptr %pool) {{
entry:
  %stopp = call ptr @fathom.field(ptr %pool, i64 {STOP})
  %sleepersp = call ptr @fathom.field(ptr %pool, i64 {SLEEPERS})
  %partsp = call ptr @fathom.field(ptr %pool, i64 {PARTS})
  br label %fresh
fresh:
  %seen = load atomic i64, ptr %pool acquire, align 8
  br label %watch
watch:
  %turn = phi i64 [0, %fresh], [%turn1, %idle]
  %now = load atomic i64, ptr %pool acquire, align 8
  %part = and i64 %now, 65535
  %parts = load atomic i64, ptr %partsp monotonic, align 8
  %some = icmp ult i64 %part, %parts
  br i1 %some, label %go, label %look
go:
  call void @fathom.work(ptr %pool)
  br label %fresh
look:
  %stop = load atomic i64, ptr %stopp monotonic, align 8
  %end = icmp ne i64 %stop, 0
  br i1 %end, label %leave, label %idle
idle:
  call void @fathom.pause()
  %turn1 = add i64 %turn, 1
  %long = icmp ugt i64 %turn1, {SPIN}
  br i1 %long, label %sleep, label %watch
sleep:
  %one = atomicrmw add ptr %sleepersp, i64 1 seq_cst
  %still = load atomic i64, ptr %pool seq_cst, align 8
  %same = icmp eq i64 %still, %now
  br i1 %same, label %doze, label %up
doze:
  call void @fathom.doze(ptr %pool, i64 %now)
  br label %up
up:
  %less = atomicrmw sub ptr %sleepersp, i64 1 seq_cst
  br label %fresh
leave:
  ret void
}}
"""

_PAUSE = {
    "x86_64": "  call void @llvm.x86.sse2.pause()",
    "AMD64": "  call void @llvm.x86.sse2.pause()",
    "aarch64": "  call void @llvm.aarch64.hint(i32 1)",
    "arm64": "  call void @llvm.aarch64.hint(i32 1)",
}
_DECLARE = {
    "x86_64": "declare void @llvm.x86.sse2.pause()",
    "AMD64": "declare void @llvm.x86.sse2.pause()",
    "aarch64": "declare void @llvm.aarch64.hint(i32)",
    "arm64": "declare void @llvm.aarch64.hint(i32)",
}


def _function(head: str, body: str) -> str:
    return f"define internal void {head} {{\n{body}\n  ret void\n}}"


def text() -> str:
    """The pool's functions for this machine."""
    machine = platform.machine()
    pause, declared = _PAUSE.get(machine, ""), _DECLARE.get(machine, "")
    number = _FUTEX.get(machine) if sys.platform == "linux" else None
    if number is None:
        wake = ""
        doze = "  %r = call i32 @fathom.usleep(i32 50)"
    else:  # FUTEX_WAKE_PRIVATE 129, FUTEX_WAIT_PRIVATE 128, on the lower half of the ticket
        call = f"  %r = call i64 (i64, ...) @fathom.syscall(i64 {number}, ptr %pool, "
        wake = f"{call}i32 129, i32 1024)"
        doze = f"  %low = trunc i64 %seen to i32\n{call}i32 128, i32 %low, ptr null)"
    return "\n".join([
        declared,
        _function("@fathom.pause() alwaysinline", pause),
        _function("@fathom.wake(ptr %pool) noinline", wake),
        _function("@fathom.doze(ptr %pool, i64 %seen) noinline", doze),
        TEXT,
    ])  # fmt: skip


def symbols() -> dict[str, int]:
    """Addresses of the two system functions the pool calls."""
    library = ctypes.CDLL(None)
    found = {"fathom.usleep": ctypes.cast(library.usleep, ctypes.c_void_p).value or 0}
    call = getattr(library, "syscall", None)
    found["fathom.syscall"] = ctypes.cast(call or library.usleep, ctypes.c_void_p).value or 0
    return found


def count() -> int:
    """Threads to use: FATHOM_NUM_THREADS, else OMP_NUM_THREADS, else the cores we may run on."""
    for name in ("FATHOM_NUM_THREADS", "OMP_NUM_THREADS"):
        given = os.environ.get(name, "")
        if given.isdigit() and int(given) > 0:
            return int(given)
    return cores()


def cores() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """The workers of this process, started when the first task may need them."""

    library: Any = None

    def __init__(self) -> None:
        self.memory = np.zeros(BYTES + 64, np.uint8)
        start = int(self.memory.__array_interface__["data"][0])
        self.address = start + (-start % 64)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()

    def field(self, at: int) -> Any:
        return ctypes.c_int64.from_address(self.address + at)

    def fork(self, threads: int) -> int:
        """The address of `fork(pool, task, table, numbers, parts)`; its workers stand ready."""
        from fathom.compile.native.engine import Compiler

        with self._lock:
            if self.library is None:
                self.library = Compiler().compile(text(), symbols=symbols())
            if os.getpid() != self._pid:  # in a child process the threads are gone
                self._threads, self._pid = [], os.getpid()
                ctypes.memset(self.address, 0, BYTES)
            worker = self.library.function("fathom.worker", ctypes.c_void_p)
            while len(self._threads) < threads - 1:
                thread = threading.Thread(
                    target=worker, args=(self.address,), name="fathom-native", daemon=True
                )
                thread.start()
                self._threads.append(thread)
        found: int = self.library["fathom.fork"]
        return found

    def stop(self) -> None:
        """Let the workers leave: at the end of the process."""
        self.field(STOP).value = 1
        self.field(TICKET).value += 65536


POOL = Pool()
atexit.register(POOL.stop)
