"""Reads a dict of arrays from a `numpy.save` file without running anything the file names.

A `.npy` file of a dict is a pickle, and a pickle is a program. This is an interpreter for the
few instructions that arrays, text and numbers need in pickle protocols 2 to 5. Python's own
unpickler with an allow-list of names would keep its other instructions within reach, run
NumPy's constructors on whatever a file says, and read every array into memory. Here no
instruction exists that we did not write, and a large array stays in the file as a
`StoredArray`: opening 540 MB takes milliseconds.

References
----------
The instructions: https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

from berg.errors import FileFormatError, ResourceError, UnsafePickleError
from berg.pickles.arrays import (
    MalformedError,
    Name,
    RefusedError,
    Root,
    Source,
    StoredBytes,
    Unfinished,
    as_data,
    as_part,
    construct,
    finish,
    look_up,
)
from berg.pickles.stored_array import file_version

INLINE_BYTES = 2**16  # arrays up to this size are read at once, larger ones stay in the file
# 540 MB of weights are about 500 instructions, metadata 3,000. The limit bounds time and memory
# whatever the file: an instruction of one byte can make an object of 64.
MAX_INSTRUCTIONS = 1_000_000
MAX_NAME_BYTES = 256
MAX_INTEGER_BYTES = 16
MAX_HEADER_BYTES = 10_000  # as numpy.load

_HEADER = re.compile(rb"\{'descr': '\|O', 'fortran_order': (False|True), 'shape': \(\), \}\s*")

# Each instruction with the format of the number, or of the length, that follows it.
_CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
_CONTAINERS = {pickle.EMPTY_TUPLE: tuple, pickle.EMPTY_LIST: list, pickle.EMPTY_DICT: dict}
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_INTEGERS = {pickle.LONG1: "<B", pickle.LONG4: "<I"}
_TEXTS = {pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE: "<I", pickle.BINUNICODE8: "<Q"}
_BYTES = {
    pickle.SHORT_BINBYTES: "<B",
    pickle.BINBYTES: "<I",
    pickle.BINBYTES8: "<Q",
    pickle.BYTEARRAY8: "<Q",
}
_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_GETS = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
_PUTS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}


class _TruncatedError(Exception):
    """The file ends before its content does."""


def load_dict(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Read a dict that `numpy.save` wrote, running nothing that the file names.

    Parameters
    ----------
    path : path-like
        A `.npy` file holding one dict, written by NumPy 1 or 2.

    Returns
    -------
    dict
        Of dicts, lists, tuples, str, numbers, bool, None and arrays. An array of more than
        64 KB is a `StoredArray` that reads from `path` when asked; a smaller one is an
        ndarray, as is each array of a file in pickle protocol 2.

    Raises
    ------
    UnsafePickleError
        If the file names or does anything that such data do not need.
    FileFormatError
        If the file is not a `.npy` file, holds something other than a dict, is truncated or
        is damaged, or is a folder.
    ResourceError
        If the machine does not let it be read.
    FileNotFoundError
        If there is no such file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _read_header(path, file)
            content = _Interpreter(path, file).run()
    except FileNotFoundError:
        raise
    except OSError as err:
        if path.is_dir():  # which Windows reports as a lack of permission
            raise FileFormatError(
                f"{path} is a folder", accepted="a .npy file", do="give the path of a file in it"
            ) from err
        raise ResourceError(
            f"{path} cannot be read",
            got=err.strerror or type(err).__name__,
            accepted="a file that you may read",
            do="check its permissions and its disk, or copy it again",
        ) from err
    except RefusedError as err:
        raise UnsafePickleError(
            f"{path} is refused: {err}. Nothing of it was run",
            accepted="a dict of arrays, text and numbers",
            do="do not open it by other means; get it from its source again",
        ) from err
    except _TruncatedError as err:
        raise FileFormatError(
            f"{path} is truncated",
            got=f"{size:,} bytes, which end before the content does",
            accepted="a whole file",
            do="download or copy it again",
        ) from err
    except (MalformedError, UnicodeError) as err:
        raise FileFormatError(
            f"{path} is damaged: it does not hold what numpy.save writes for a dict of arrays",
            got=str(err),
            accepted="a dict of arrays, text and numbers",
            do="download or copy it again",
        ) from err
    if not isinstance(content, dict):
        raise FileFormatError(
            f"{path} does not hold a dict",
            got=f"a {type(content).__name__}",
            accepted="a dict",
            do="check that it is the file you mean",
        )
    return content


def _read_header(path: Path, file: BinaryIO) -> None:
    """Pass over the header that `numpy.save` writes for one object; raise if it is another.

    References
    ----------
    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    start = file.read(8)
    if not start.startswith(b"\x93NUMPY"):
        raise FileFormatError(
            f"{path} is not a .npy file",
            got=f"a file that begins with {start!r}" if start else "an empty file",
            accepted=r"a file that begins with b'\x93NUMPY'",
            do="check where it is from, and download or copy it again",
        )
    form = "<H" if start[6:7] == b"\x01" else "<I"
    try:
        (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
    except struct.error as err:
        raise _TruncatedError from err
    length = min(length, MAX_HEADER_BYTES)
    header = file.read(length)
    if len(header) < length:
        raise _TruncatedError
    if not _HEADER.fullmatch(header):
        raise FileFormatError(
            f"{path} holds a plain array, not a dict",
            got=f"the header {header[:120].strip()!r}",
            accepted="a dict, written as numpy.save(path, {...})",
            do="check that it is the file you mean",
        )


class _Interpreter:
    """The stack machine of pickle, for data only."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.file = file
        self.source = Source(path, file_version(file))
        self.size = os.fstat(file.fileno()).st_size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        """Follow the instructions up to STOP, and return what the 0-d array holds."""
        for _ in range(MAX_INSTRUCTIONS):
            instruction = self.read(1)
            if instruction == pickle.STOP:
                match self.pop(1):
                    case [Unfinished(Name.RECONSTRUCT, Root(content))]:
                        return content
                raise MalformedError("something other than a 0-d object array")
            self.step(instruction)
        raise MalformedError(f"more than {MAX_INSTRUCTIONS:,} instructions")

    def step(self, instruction: bytes) -> None:
        """Follow one instruction."""
        push = self.stack.append
        match instruction:
            case pickle.PROTO:
                self.read(1)
            case pickle.FRAME:
                self.read(8)  # how much to read ahead, which a file does not need
            case _ if instruction in _CONSTANTS:
                push(_CONSTANTS[instruction])
            case _ if instruction in _NUMBERS:
                push(self.number(_NUMBERS[instruction]))
            case _ if instruction in _INTEGERS:
                push(self.integer(self.number(_INTEGERS[instruction])))
            case _ if instruction in _TEXTS:
                push(self.read(self.number(_TEXTS[instruction])).decode("utf-8"))
            case _ if instruction in _BYTES:
                push(self.bytes_or_place(self.number(_BYTES[instruction])))
            case _ if instruction in _CONTAINERS:
                push(_CONTAINERS[instruction]())
            case pickle.MARK:
                self.marks.append(len(self.stack))
            case _ if instruction in _TUPLES:
                push(tuple(map(as_part, self.pop(_TUPLES[instruction]))))
            case pickle.TUPLE:
                push(tuple(map(as_part, self.pop_marked())))
            case pickle.APPEND:
                self.extend_list(self.pop(1))
            case pickle.APPENDS:
                self.extend_list(self.pop_marked())
            case pickle.SETITEM:
                self.extend_dict(self.pop(2))
            case pickle.SETITEMS:
                self.extend_dict(self.pop_marked())
            case pickle.MEMOIZE:
                self.memo[len(self.memo)] = self.top()
            case _ if instruction in _PUTS:
                self.memo[self.number(_PUTS[instruction])] = self.top()
            case _ if instruction in _GETS:
                push(self.remembered(self.number(_GETS[instruction])))
            case pickle.GLOBAL:
                push(look_up(self.line(), self.line()))
            case pickle.STACK_GLOBAL:
                push(look_up(*self.pop(2)))
            case pickle.REDUCE:
                push(construct(self.source, *self.pop(2)))
            case pickle.BUILD:
                (state,) = self.pop(1)
                finish(self.source, self.top(), state)
            case _:
                self.refuse(instruction)

    def read(self, n_bytes: int) -> bytes:
        """Read bytes. A length that the file does not have never asks for memory."""
        if n_bytes > self.size - self.file.tell():
            raise _TruncatedError
        return self.file.read(n_bytes)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def integer(self, n_bytes: int) -> int:
        if n_bytes > MAX_INTEGER_BYTES:
            raise MalformedError(f"an integer of {n_bytes} bytes")
        return int.from_bytes(self.read(n_bytes), "little", signed=True)

    def bytes_or_place(self, n_bytes: int) -> bytes | StoredBytes:
        if n_bytes <= INLINE_BYTES:
            return self.read(n_bytes)
        place = StoredBytes(self.file.tell(), n_bytes)
        if n_bytes > self.size - place.offset:
            raise _TruncatedError
        self.file.seek(n_bytes, os.SEEK_CUR)
        return place

    def line(self) -> str:
        line = self.file.readline(MAX_NAME_BYTES)
        if not line.endswith(b"\n"):
            if len(line) < MAX_NAME_BYTES:
                raise _TruncatedError
            raise MalformedError("a name without an end")
        return line[:-1].decode("utf-8")

    def pop(self, n_items: int) -> list[Any]:
        return self.pop_from(len(self.stack) - n_items)

    def pop_marked(self) -> list[Any]:
        return self.pop_from(self.marks.pop() if self.marks else -1)

    def pop_from(self, start: int) -> list[Any]:
        if not 0 <= start <= len(self.stack):
            raise MalformedError("an instruction without its values")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self) -> Any:
        if not self.stack:
            raise MalformedError("an instruction without its values")
        return self.stack[-1]

    def remembered(self, key: int) -> Any:
        if key not in self.memo:
            raise MalformedError("a reference to nothing")
        return self.memo[key]

    def extend_list(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise MalformedError(f"items for a {type(target).__name__}")
        target.extend(map(as_data, items))

    def extend_dict(self, items: list[Any]) -> None:
        target, keys = self.top(), items[::2]
        if not isinstance(target, dict) or len(items) % 2:
            raise MalformedError(f"keys and values for a {type(target).__name__}")
        # Longer integers can be chosen to share one hash, and a dict of them takes hours.
        if not all(isinstance(key, str) or (type(key) is int and abs(key) < 2**32) for key in keys):
            raise MalformedError("a key that is neither text nor an integer below 2**32")
        target.update(zip(keys, map(as_data, items[1::2]), strict=True))

    def refuse(self, instruction: bytes) -> None:
        import pickletools  # for its names, on the way to an error

        names = {info.code: info.name for info in pickletools.opcodes}
        if instruction == pickle.INST:
            look_up(self.line(), self.line())
        if (name := names.get(instruction.decode("latin1"))) is not None:
            raise RefusedError(f"it has the instruction {name}")
        raise MalformedError(f"the byte {instruction!r} where an instruction should be")
