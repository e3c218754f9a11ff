"""Writes a dict of arrays as `numpy.save` would, for every NumPy to load.

NumPy 2 pickles its arrays under the name ``numpy._core``, which NumPy 1 before 1.26 does not
know; ``numpy.core`` loads everywhere. So the instructions are written here, and each array goes
from memory to the file without the copy that pickling makes of it.

References
----------
The instructions: https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from berg.atomic import write_atomically
from berg.errors import InvalidParameterTypeError

MAX_DEPTH = 50  # of dicts, lists and tuples in each other; metadata have three

_RECONSTRUCT = pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n"
_NDARRAY = pickle.GLOBAL + b"numpy\nndarray\n"
_DTYPE = pickle.GLOBAL + b"numpy\ndtype\n"
# _reconstruct(ndarray, (0,), b"b"), with which every pickled array begins
_ARGUMENTS = pickle.BININT1 + b"\x00" + pickle.TUPLE1 + pickle.SHORT_BINBYTES + b"\x01b"
_NEW_ARRAY = _RECONSTRUCT + _NDARRAY + _ARGUMENTS + pickle.TUPLE3 + pickle.REDUCE


def save_dict(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a dict that ``numpy.load(path, allow_pickle=True).item()`` reads, whole or not at all.

    Parameters
    ----------
    path : path-like
        The `.npy` file.
    content : dict
        Of dicts, lists, tuples, str, int, float, bool, None, NumPy scalars (written as the
        Python number they are) and arrays of bool, numbers or fixed-length text.

    Raises
    ------
    InvalidParameterTypeError
        If a value is of another type, holds itself, or is text that UTF-8 cannot hold. Nothing
        is written.
    ResourceError
        If the file cannot be written.
    """
    with write_atomically(path) as file:
        npy_format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        file.write(pickle.PROTO + b"\x04")
        _write_array(file, np.array(content, dtype=object))
        file.write(pickle.STOP)


def _write(file: BinaryIO, value: Any, around: tuple[int, ...] = ()) -> None:
    """Write the instructions that leave one value on the reader's stack.

    `around` has the identities of the containers that the value is in.
    """
    if id(value) in around or len(around) > MAX_DEPTH:
        raise _unsavable(f"a {type(value).__name__} that holds itself, or is too deep in others")
    match value:
        case None:
            file.write(pickle.NONE)
        case bool() | np.bool_():
            file.write(pickle.NEWTRUE if value else pickle.NEWFALSE)
        case int() | np.integer() if abs(int(value)) < 2**64:
            data = int(value).to_bytes(9, "little", signed=True)
            file.write(pickle.LONG1 + struct.pack("<B", len(data)) + data)
        case float() | np.floating():
            file.write(pickle.BINFLOAT + struct.pack(">d", value))
        case str():
            try:
                text = value.encode()
            except UnicodeEncodeError as err:
                raise _unsavable(f"text with the lone surrogate {value[err.start]!a}") from err
            file.write(pickle.BINUNICODE + struct.pack("<I", len(text)) + text)
        case list():
            file.write(pickle.EMPTY_LIST)
            _write_marked(file, value, pickle.APPENDS, (*around, id(value)))
        case tuple():
            _write_marked(file, value, pickle.TUPLE, (*around, id(value)))
        case dict() if all(isinstance(key, str) for key in value):
            file.write(pickle.EMPTY_DICT)
            pairs = (part for item in value.items() for part in item)
            _write_marked(file, pairs, pickle.SETITEMS, (*around, id(value)))
        case np.ndarray() if value.dtype.kind in "biufcSU":
            _write_array(file, value)
        case _:
            raise _unsavable(f"a {type(value).__module__}.{type(value).__qualname__}")


def _unsavable(got: str) -> InvalidParameterTypeError:
    return InvalidParameterTypeError(
        "a value cannot be saved",
        got=got,
        accepted="a dict by text, list, tuple, str, number, bool, None, "
        "or an array of numbers, bool or fixed-length text",
        do="convert it, or leave it out",
    )


def _write_marked(
    file: BinaryIO, values: Iterable[Any], instruction: bytes, around: tuple[int, ...]
) -> None:
    file.write(pickle.MARK)
    for value in values:
        _write(file, value, around)
    file.write(instruction)


def _write_array(file: BinaryIO, array: NDArray[Any]) -> None:
    is_fortran = array.flags.fnc
    described: Any = array.dtype.__reduce__()
    _, dtype_arguments, dtype_state = described
    file.write(_NEW_ARRAY + pickle.MARK)
    _write(file, 1)  # version of the state that follows: shape, dtype, order, data
    _write(file, array.shape)
    file.write(_DTYPE)
    _write(file, dtype_arguments)
    file.write(pickle.REDUCE)
    _write(file, dtype_state)
    file.write(pickle.BUILD)
    _write(file, is_fortran)
    if array.dtype.hasobject:
        _write(file, [array.item()])
    else:
        data = np.asarray(array, order="F" if is_fortran else "C").reshape(-1, order="A")
        file.write(pickle.BINBYTES8 + struct.pack("<Q", data.nbytes))
        file.write(data.view(np.uint8).data if data.size else b"")
    file.write(pickle.TUPLE + pickle.BUILD)
