from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from berg import atomic
from berg.atomic import write_atomically
from berg.errors import InvalidParameterTypeError, ResourceError
from berg.pickles.reading import load_dict
from berg.pickles.stored_array import read_array
from berg.pickles.writing import save_dict

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.unicode_string_dtypes(max_len=5),
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=300),
    lambda part: st.lists(part, max_size=3) | st.tuples(part, part),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "file.npy"


@settings(max_examples=100, deadline=None)
@given(array=hnp.arrays(DTYPES, SHAPES), fortran=st.booleans(), strided=st.booleans())
def test_numpy_and_berg_load_the_arrays_saved(
    file: Path, array: np.ndarray, fortran: bool, strided: bool
) -> None:
    array = np.asarray(array, order="F" if fortran else "C")
    if strided and array.ndim:
        array = array[::-2]
    save_dict(file, {"a": {"b": array}})
    by_numpy = np.load(file, allow_pickle=True).item()["a"]["b"]
    by_berg = read_array(load_dict(file)["a"]["b"])
    for read in (by_numpy, by_berg):
        assert read.shape == array.shape
        assert read.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert read.astype(by_berg.dtype).tobytes() == array.astype(by_berg.dtype).tobytes()
    if array.flags.fnc:
        assert by_numpy.flags.f_contiguous


@settings(max_examples=100, deadline=None)
@given(content=st.dictionaries(st.text(max_size=3), PLAIN, max_size=4))
def test_numpy_and_berg_load_the_plain_data_saved(file: Path, content: dict) -> None:
    save_dict(file, content)
    assert repr(np.load(file, allow_pickle=True).item()) == repr(content)
    assert repr(load_dict(file)) == repr(content)


def test_numpy_scalars_are_saved_as_python_numbers(file: Path) -> None:
    save_dict(file, {"i": np.int32(-3), "f": np.float32(0.5), "b": np.True_, "s": np.str_("x")})
    assert repr(load_dict(file)) == "{'i': -3, 'f': 0.5, 'b': True, 's': 'x'}"


def test_every_name_in_the_file_is_one_that_numpy_1_has(file: Path) -> None:
    save_dict(file, {"a": np.arange(3), "f": np.float64(1)})
    data = file.read_bytes()
    assert b"numpy.core.multiarray" in data
    assert b"numpy._core" not in data


ITSELF: dict[str, Any] = {}
ITSELF["deeper"] = [(ITSELF,)]
UNSAVABLE = [
    *(object(), {1: 2}, {1, 2}, np.array([None]), np.zeros(1, "M8[s]"), 2**64, 1j, b"x"),
    *("\ud800", {"\ud800": 1}, ITSELF, functools.reduce(lambda part, _: [part], range(60), [])),
]


@pytest.mark.parametrize("value", UNSAVABLE, ids=lambda value: type(value).__name__)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.npy"
    save_dict(path, {"old": 1})
    with pytest.raises(InvalidParameterTypeError, match=r"cannot be saved\n.*got"):
        save_dict(path, {"new": np.zeros(3), "bad": value})
    assert load_dict(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with write_atomically(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with pytest.raises(KeyboardInterrupt):
        _interrupted_write(path)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def _interrupted_write(path: Path) -> None:
    with write_atomically(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with write_atomically(path) as first, write_atomically(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # whose block ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_dict(tmp_path / "x.npy", {"a": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "x.npy").stat().st_mode & 0o777 == 0o640


def test_what_cannot_be_read_meanwhile_is_not_called_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), write_atomically(tmp_path / "x"):
        (tmp_path / "absent").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(
            atomic.os, name, lambda *a, name=name, call=call: (calls.append(name), call(*a))
        )
    save_dict(tmp_path / "x.npy", {"a": 1})
    assert calls == ["fsync", "replace"]
    assert load_dict(tmp_path / "x.npy") == {"a": 1}


def test_a_full_disk_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", no_space)
    with pytest.raises(ResourceError, match=r"cannot be written\n.*No space left"):
        save_dict(tmp_path / "x.npy", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        save_dict(tmp_path / "folder" / "x.npy", {"a": 1})
