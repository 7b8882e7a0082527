"""Whether a database file still has its end.

Enters: the path of a DuckDB file that nobody writes. Leaves: yes or no. Refuses to know: tables, rows,
and files that it does not understand: what those are, DuckDB says when it opens them.

DuckDB opens a file whose end was cut off and stumbles only over what it wants to read there, or
never. The header tells how many blocks there are, but free ones at the end are dropped without
writing it again: about half of all sound stores are shorter than their headers say. So the list of
the free blocks is read as well; every other block must be there.

The layout is that of DuckDB's `storage/single_file_block_manager.cpp` and
`storage/metadata/metadata_reader.cpp`, the same in 1.5 and 2.0.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEADER_SIZE = 4096  # bytes; the file's own, then two of the database, of which the newer one holds
FIRST_BLOCK = 3 * HEADER_SIZE
BLOCK_SIZES = [2**power for power in range(14, 19)]  # bytes, 16 to 256 KiB
CHECKSUM = 8  # bytes, before each header and block
PARTS = 64  # a block of lists is divided into so many parts, each with a pointer to the next
NUMBER = struct.Struct("<Q")
NOWHERE = 2**64 - 1


class _Header(NamedTuple):
    iteration: int
    tables: int
    free: int
    """Where the list of the free blocks begins."""
    blocks: int
    block_size: int


class _Unknown(Exception):
    """It is no DuckDB file, or one of another layout."""


def is_cut_off(path: Path) -> bool:
    """Whether the file ends before a block that is in use."""
    try:
        with path.open("rb") as file:
            header = max(_read_header(file, 1), _read_header(file, 2))
            there = (path.stat().st_size - FIRST_BLOCK) // header.block_size
            if there >= header.blocks:
                return False
            free = _read_free_blocks(file, header, there)
    except (OSError, _Unknown):
        return False
    return sum(block >= there for block in free) < header.blocks - there


def _read_header(file: BinaryIO, number: int) -> _Header:
    file.seek(number * HEADER_SIZE + CHECKSUM)
    header = _Header(*_unpack(file.read(5 * NUMBER.size), 5))
    if header.block_size not in BLOCK_SIZES:
        raise _Unknown
    return header


def _read_free_blocks(file: BinaryIO, header: _Header, there: int) -> tuple[int, ...]:
    """Return the numbers of the free blocks, in rising order, from a file with `there` blocks."""
    part_size = (header.block_size - CHECKSUM) // PARTS // NUMBER.size * NUMBER.size
    data, pointer, read = b"", header.free, set[int]()
    while pointer != NOWHERE and pointer not in read and len(data) < _list_size(data):
        read.add(pointer)
        block, part = pointer & (2**56 - 1), pointer >> 56
        if block >= there:  # DuckDB cannot open such a file
            raise _Unknown
        file.seek(FIRST_BLOCK + block * header.block_size + CHECKSUM + part * part_size)
        (pointer,) = _unpack(content := file.read(part_size), 1)
        data += content[NUMBER.size :]
    if not data:
        return ()
    numbers = _unpack(data[NUMBER.size :], _list_size(data) // NUMBER.size - 1)
    rising = all(a < b for a, b in itertools.pairwise([-1, *numbers, header.blocks]))
    if not rising:
        raise _Unknown
    return numbers


def _list_size(data: bytes) -> int:
    """Return the bytes that a list takes, by its beginning: its length, then its numbers."""
    return NUMBER.size * (1 + _unpack(data, 1)[0]) if data else NUMBER.size


def _unpack(data: bytes, count: int) -> tuple[int, ...]:
    if len(data) < count * NUMBER.size:
        raise _Unknown
    return struct.unpack_from(f"<{count}Q", data)
