"""What the names in a pickled NumPy array stand for, done by our own code.

A pickle describes an array by names to import and call, with arguments. Here a name is looked
up in a table and never imported, and its arguments are checked numbers.

References
----------
What arrays pickle to: ``numpy.ndarray.__reduce_ex__`` and ``numpy.dtype.__reduce__``.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np

from berg.pickles.quoting import shown
from berg.pickles.stored_array import FileVersion, StoredArray

MAX_AXES = 32  # as NumPy 1
MAX_LENGTH = 2**63 - 1

# bool, integers, floats, complex, fixed-length bytes and str, object
_DTYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU]\d{1,9}|O\d?")


class RefusedError(Exception):
    """The pickle asks for something that arrays never need."""


class MalformedError(Exception):
    """The pickle's parts do not fit together."""


class Name(Enum):
    """What a file may name."""

    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy.core.multiarray._reconstruct"
    SCALAR = "numpy.core.multiarray.scalar"
    FROMBUFFER = "numpy.core.numeric._frombuffer"  # protocol 5
    ENCODE = "_codecs.encode"  # protocol 2 has no bytes, and writes them as latin-1 text
    BYTES = "builtins.bytes"  # protocol 2, for b""


_ALIASES = {
    "numpy._core.multiarray._reconstruct": Name.RECONSTRUCT,  # NumPy 2
    "numpy._core.multiarray.scalar": Name.SCALAR,
    "numpy._core.numeric._frombuffer": Name.FROMBUFFER,
    "__builtin__.bytes": Name.BYTES,  # as Python 2 called it
}
_NAMES = {name.value: name for name in Name} | _ALIASES


@dataclass(frozen=True)
class StoredBytes:
    """Bytes left in the file: the data of a large array."""

    offset: int
    nbytes: int


@dataclass
class Source:
    """The file that arrays come from, and how many bytes it may still give them.

    A reference of two bytes can hand over the same 64 KB again and again. In an honest file
    each byte is handed over at most twice: in protocol 2 as text, and then as an array's bytes.
    """

    path: Path
    version: FileVersion
    unspent: int = field(init=False)

    def __post_init__(self) -> None:
        *_, size, _ = self.version
        self.unspent = 2 * size

    def spend(self, n_bytes: int) -> None:
        """Take bytes from the budget; raise if it is used up."""
        self.unspent -= n_bytes
        if self.unspent < 0:
            raise MalformedError("arrays of more bytes than the file has")


@dataclass(frozen=True)
class Root:
    """The content of the 0-d object array that `numpy.save` wraps around a dict."""

    content: object


@dataclass
class Unfinished:
    """A dtype, or an array that is described in two steps: named, then given its content."""

    kind: Name
    value: Any = None


def look_up(module: object, name: object) -> Name:
    """Return what a name stands for; refuse every name that is not in the table."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise MalformedError("a name that is not text")
    full_name = f"{module}.{name}"
    # A dot in the last part is how a pickle reaches for the attributes of what it names.
    if "." in name or full_name not in _NAMES:
        raise RefusedError(f"it names {shown(full_name, 200)}")
    return _NAMES[full_name]


def construct(source: Source, name: object, arguments: object) -> Any:
    """Return what calling a name of the table would have returned."""
    match name, arguments:
        case Name.RECONSTRUCT, (Name.NDARRAY, tuple(), bytes()):
            return Unfinished(Name.RECONSTRUCT)
        case Name.DTYPE, (str(code), *_) if _DTYPE.fullmatch(code):
            return Unfinished(Name.DTYPE, _dtype(code))
        case Name.SCALAR, (Unfinished(Name.DTYPE, dtype), bytes(data)) if not dtype.hasobject:
            return _array(source, (), dtype, "C", data)[()]
        case Name.FROMBUFFER, (data, Unfinished(Name.DTYPE, dtype), shape, "C" | "F" as order):
            return _array(source, shape, dtype, order, data)
        case Name.ENCODE, (str(text), "latin1"):
            source.spend(len(text))
            return text.encode("latin1")
        case Name.BYTES, ():
            return b""
    called = name.value if isinstance(name, Name) else f"a {type(name).__name__}"
    raise MalformedError(f"{called} with arguments that NumPy does not write")


def finish(source: Source, target: object, state: object) -> None:
    """Give an array its content, or a dtype its byte order."""
    match target, state:
        case (
            Unfinished(Name.RECONSTRUCT, None),
            (1, shape, Unfinished(Name.DTYPE, dtype), bool(is_fortran), data),
        ):
            target.value = _array(source, shape, dtype, "F" if is_fortran else "C", data)
        case Unfinished(Name.DTYPE, dtype), (3, "<" | ">" | "|" as order, None, None, None, *_):
            target.value = dtype.newbyteorder(order)
        case Unfinished(), _:
            raise MalformedError("an array or dtype of a form that is not accepted")
        case _:
            raise RefusedError(f"it sets the state of a {type(target).__name__}")


def as_part(value: Any) -> Any:
    """Return what a tuple may hold: data, and the names and dtypes that describe an array."""
    if not isinstance(value, Unfinished) or value.kind is Name.DTYPE:
        return value
    if value.value is None:
        raise MalformedError("an array without content")
    if isinstance(value.value, Root):
        raise RefusedError("it holds an array of Python objects inside the dict")
    return value.value


def as_data(value: Any) -> Any:
    """Return what a list or dict may hold: data alone."""
    if isinstance(value, Name) or (isinstance(value, Unfinished) and value.kind is Name.DTYPE):
        raise MalformedError("a name or a dtype among the data")
    return as_part(value)


def _dtype(code: str) -> np.dtype[Any]:
    try:
        return np.dtype(code)
    except (TypeError, ValueError) as err:  # f16 is not everywhere; U999999999 is nowhere
        raise MalformedError(f"the dtype {shown(code)}, which NumPy does not have here") from err


def _array(
    source: Source, shape: Any, dtype: np.dtype[Any], order: Literal["C", "F"], data: Any
) -> Any:
    """Build an array, or note its place in the file."""
    if dtype.hasobject:
        if shape == () and isinstance(data, list) and len(data) == 1:
            return Root(data[0])
        raise RefusedError("it holds an array of Python objects")
    if not (
        isinstance(shape, tuple)
        and len(shape) <= MAX_AXES
        and all(type(n) is int and 0 <= n <= MAX_LENGTH for n in shape)
    ):
        raise MalformedError("a shape that is not one of lengths")
    if not isinstance(data, bytes | StoredBytes):
        raise MalformedError(f"a {type(data).__name__} for an array's bytes")
    n_values = math.prod(shape)
    n_bytes = data.nbytes if isinstance(data, StoredBytes) else len(data)
    # Texts of no characters take no bytes, however many they are said to be.
    if n_bytes != n_values * dtype.itemsize or (n_values > 1 and not dtype.itemsize):
        raise MalformedError(f"{n_bytes} bytes for an array of shape {shown(shape)} and {dtype}")
    source.spend(n_bytes)
    if isinstance(data, StoredBytes):
        is_fortran = order == "F" and len(shape) > 1
        return StoredArray(source.path, source.version, data.offset, shape, dtype, is_fortran)
    if dtype.kind == "U" and data:  # Python answers such characters with a SystemError
        characters = np.frombuffer(data, f"{dtype.str[0]}u4")
        if characters.max() > sys.maxunicode:
            raise MalformedError("text of characters that do not exist")
    try:
        return np.ndarray(shape, dtype, data, order=order).copy(order)
    except (TypeError, ValueError) as err:
        raise MalformedError(f"an array of shape {shown(shape)}, too large for NumPy") from err
