from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import FileFormatError, InvalidParameterError
from berg.pickles import stored_array
from berg.pickles.stored_array import StoredArray, file_version, read_array, read_blocks

SHAPES = [(9,), (9, 4), (9, 2, 3)]


def store(path: Path, array: np.ndarray, fortran: bool) -> StoredArray:
    path.write_bytes(b"12345" + array.tobytes("F" if fortran else "C"))
    with path.open("rb") as written:
        version = file_version(written)
    return StoredArray(path, version, 5, array.shape, array.dtype, fortran and array.ndim > 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays") / "array"


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(0, 8), max_size=12),
    dtypes=st.tuples(st.sampled_from(["<f4", ">f8", ">i2"]), st.sampled_from([None, "f4", "f8"])),
    block_bytes=st.sampled_from([1, 20, 2**21]),
    gap_bytes=st.sampled_from([0, 8, 2**15]),
)
def test_rows_are_those_of_numpy(
    file: Path,
    fortran: bool,
    shape: tuple[int, ...],
    rows: list[int],
    dtypes: tuple[str, str | None],
    block_bytes: int,
    gap_bytes: int,
) -> None:
    array = np.random.default_rng(0).integers(-99, 99, shape).astype(dtypes[0])
    stored = store(file, array, fortran)
    index = np.array(rows, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_array, "BLOCK_BYTES", block_bytes)
        patch.setattr(stored_array, "GAP_BYTES", gap_bytes)
        selected, whole = stored.read(index, dtypes[1]), stored.read(dtype=dtypes[1])
        rebuilt = np.zeros_like(array)
        for where, block in read_blocks(stored):
            rebuilt[where] = block
    wanted = np.dtype(dtypes[1] or dtypes[0]).newbyteorder("=")
    assert selected.dtype == whole.dtype == wanted
    np.testing.assert_array_equal(selected, array[index])
    np.testing.assert_array_equal(whole, array)
    np.testing.assert_array_equal(rebuilt, array)


@pytest.mark.parametrize("rows", [[9], [-1], [3, 400]])
def test_rows_out_of_range_are_refused(file: Path, rows: list[int]) -> None:
    array = np.zeros((9, 2))
    for either in (store(file, array, False), array):
        with pytest.raises(InvalidParameterError, match=r"not in the array.*\n.*\n.*0 to 8"):
            read_array(either, np.array(rows))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def replace(path: Path) -> None:
    """Put another file in its place, of the same size and the same time."""
    before = path.stat()
    (path.parent / "new").write_bytes(path.read_bytes()[::-1])
    os.utime(path.parent / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(path.parent / "new", path)


def write_over(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("change", [cut_off, replace, write_over, os.remove])
@pytest.mark.parametrize("rows", [None, np.array([8])])
def test_a_file_that_changed_is_not_read(
    file: Path, rows: np.ndarray | None, change: Callable[[Path], None]
) -> None:
    stored = store(file, np.zeros((9, 2)), False)
    change(file)
    with pytest.raises(FileFormatError, match="changed while it was read"):
        stored.read(rows)
    with pytest.raises(FileFormatError, match="changed while it was read"):
        list(stored.blocks())


def test_a_file_cut_off_while_it_is_open_is_noticed(file: Path) -> None:
    stored = store(file, np.zeros((9, 2)), False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_array, "BLOCK_BYTES", 1)
        blocks = stored.blocks()
        next(blocks)
        cut_off(file)
        with pytest.raises(FileFormatError, match=r"changed.*\n.*cut off"):
            list(blocks)


def test_an_array_in_memory_reads_the_same(rng: np.random.Generator) -> None:
    array = rng.random((4, 3)).astype(">f8")
    rows = np.array([3, 0, 3])
    np.testing.assert_array_equal(read_array(array, rows), array[rows])
    assert read_array(array).dtype.isnative
    ((index, block),) = read_blocks(array)
    assert block is array
    assert array[index].shape == array.shape
