"""LLVM's object code brought into memory without LLVM, whose import takes longer than all the rest.

Our modules are code and constants in ELF files for x86-64, with a handful of relocations; outside
functions and data are reached by a table of addresses. What has more to it is left to LLVM.

The layout is that of the System V ABI, AMD64 supplement (sections 4.4 and 5.2).
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

PROGBITS, SYMTAB, RELA, UNWIND = 1, 2, 4, 0x70000001  # kinds of sections
WRITE, ALLOC, EXECUTE = 1, 2, 4  # their flags
PC32, PLT32, GOT32 = 2, 4, (9, 41, 42)  # relocations
JUMP = b"\xff\x25"  # jmp *[rip + four bytes]
STUB = 8  # bytes of a jump to outside


class Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    each: int


class Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class Image:
    """Code in memory: `addresses` of its functions, valid while the image lives."""

    def __init__(self, code: bytes, symbols: Mapping[str, int]) -> None:
        self.code, self.outside = code, symbols
        if code[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", code, 18) != (62,):
            raise ValueError("no ELF file for x86-64")
        start, count = *struct.unpack_from("<Q", code, 40), *struct.unpack_from("<H", code, 60)
        self.sections = [
            Section._make(struct.unpack_from("<IIQQQQIIQQ", code, start + 64 * i))
            for i in range(count)
        ]
        self._find_symbols()
        self._lay_out()
        self._relocate()
        self._protect()
        self.addresses = {
            self._name(s): self.start + self._at(s)
            for s in self.symbols
            if s.section in self.spots and s.info & 15 == 2  # functions
        }

    def _find_symbols(self) -> None:
        tables = [s for s in self.sections if s.kind == SYMTAB]
        if len(tables) != 1:
            raise ValueError("one table of symbols is expected")
        table, self.names = tables[0], self.sections[tables[0].link].offset
        places = range(table.offset, table.offset + table.size, 24)
        self.symbols = [Symbol._make(struct.unpack_from("<IBBHQQ", self.code, p)) for p in places]
        missing = [s for s in self.symbols[1:] if s.section == 0]
        self.table = {self._name(s): i for i, s in enumerate(missing)}  # entries of outside things

    def _name(self, symbol: Symbol) -> str:
        start = self.names + symbol.name
        return self.code[start : self.code.index(b"\0", start)].decode()

    def _lay_out(self) -> None:
        """Code and jumps to outside; from the next page on addresses and constants."""
        self.spots: dict[int, int] = {}  # where each section begins
        held = [
            (i, s)
            for i, s in enumerate(self.sections)
            if s.flags & ALLOC and s.kind != UNWIND  # our functions throw nothing
        ]
        if any(s.kind != PROGBITS or s.flags & WRITE for _, s in held):
            raise ValueError("data that changes")
        size = self._place([(i, s) for i, s in held if s.flags & EXECUTE], 0)
        self.stubs = -(-size // STUB) * STUB
        size = self.stubs + STUB * len(self.table)
        self.got = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        constants = [(i, s) for i, s in held if not s.flags & EXECUTE]
        size = self._place(constants, self.got + 8 * len(self.table))
        self.memory = mmap.mmap(-1, max(size, 1))
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for i, s in held:
            at = self.spots[i]
            self.memory[at : at + s.size] = self.code[s.offset : s.offset + s.size]
        for name, i in self.table.items():
            stub, entry = self.stubs + STUB * i, self.got + 8 * i
            struct.pack_into("<2si", self.memory, stub, JUMP, entry - stub - 6)
            struct.pack_into("<Q", self.memory, entry, self._address(name))

    def _place(self, sections: list[tuple[int, Section]], at: int) -> int:
        for i, s in sections:
            align = max(s.align, 1)
            self.spots[i] = at = -(-at // align) * align
            at += s.size
        return at

    def _address(self, name: str) -> int:
        """Of something outside of the module."""
        if name in self.outside:
            return self.outside[name]
        found = getattr(ctypes.CDLL(None), name, None)
        address = found and ctypes.cast(found, ctypes.c_void_p).value
        if not address:
            raise ValueError(f"unknown symbol {name!r}")
        return address

    def _at(self, symbol: Symbol) -> int:
        return self.spots[symbol.section] + symbol.value

    def _relocate(self) -> None:
        """Write into the code how far all is away that it names."""
        for section in self.sections:
            if section.kind != RELA or section.info not in self.spots:
                continue
            base = self.spots[section.info]
            for place in range(section.offset, section.offset + section.size, 24):
                offset, info, more = struct.unpack_from("<QQq", self.code, place)
                target = self._target(self.symbols[info >> 32], info & 0xFFFFFFFF)
                struct.pack_into("<i", self.memory, base + offset, target + more - base - offset)

    def _target(self, symbol: Symbol, kind: int) -> int:
        """Where a relocation leads, counted from the start."""
        if kind in (PC32, PLT32) and symbol.section in self.spots:
            return self._at(symbol)
        if kind == PLT32:
            return self.stubs + STUB * self.table[self._name(symbol)]
        if kind in GOT32 and symbol.section == 0:
            return self.got + 8 * self.table[self._name(symbol)]
        raise ValueError(f"a relocation of kind {kind}")

    def _protect(self) -> None:
        """Code may run and all may be read; nothing is written any more."""
        for start, stop, rights in (
            (0, self.got, mmap.PROT_READ | mmap.PROT_EXEC),
            (self.got, len(self.memory), mmap.PROT_READ),
        ):
            place, size = ctypes.c_void_p(self.start + start), ctypes.c_size_t(stop - start)
            if stop > start and ctypes.CDLL(None).mprotect(place, size, rights):
                raise ValueError("the memory's rights cannot be changed")


def load(code: bytes, symbols: Mapping[str, int]) -> Image | None:
    """The image of an object file; None if that is not for us."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        return Image(code, symbols)
    except (ValueError, KeyError, IndexError, OSError, struct.error):
        return None
