from __future__ import annotations

import copyreg
import io
import os
import pickle
import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from berg.errors import FileFormatError, ResourceError, UnsafePickleError
from berg.pickles import reading
from berg.pickles.quoting import listed, shown
from berg.pickles.reading import load_dict
from berg.pickles.stored_array import StoredArray, read_array
from berg.pickles.writing import save_dict

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(max_len=5),
    hnp.byte_string_dtypes(max_len=5),
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=3)
        | st.tuples(part, part)
        | st.dictionaries(st.text(max_size=3), part, max_size=3)
    ),
    max_leaves=8,
)
PROTOCOLS = [2, 3, 4, 5]
HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"


def npy(pickled: bytes, header: bytes = HEADER) -> bytes:
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled


def npy_of(content: Any, protocol: int = 4) -> bytes:
    root = np.empty((), object)
    root[()] = content
    return npy(pickle.dumps(root, protocol))


def load_bytes(data: bytes, path: Path) -> dict[Any, Any]:
    path.write_bytes(data)
    return load_dict(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to overwrite: hypothesis runs many examples in one test."""
    return tmp_path_factory.mktemp("pickles") / "file.npy"


@pytest.mark.parametrize("inline_bytes", [1, reading.INLINE_BYTES])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(array=hnp.arrays(DTYPES, SHAPES), fortran=st.booleans())
def test_arrays_come_back_as_numpy_wrote_them(
    file: Path, protocol: int, inline_bytes: int, array: np.ndarray, fortran: bool
) -> None:
    array = np.asarray(array, order="F" if fortran else "C")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "INLINE_BYTES", inline_bytes)
        read = load_bytes(npy_of({"a": array}, protocol), file)["a"]
    if protocol > 2 and array.nbytes > inline_bytes:
        assert isinstance(read, StoredArray)
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    values = read_array(read)
    assert values.dtype.isnative
    assert values.tobytes() == array.astype(values.dtype).tobytes()  # NaN payloads included


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.text(max_size=3), PLAIN, max_size=4))
def test_plain_data_come_back_as_pickled(file: Path, protocol: int, content: dict) -> None:
    assert repr(load_bytes(npy_of(content, protocol), file)) == repr(content)


@settings(max_examples=60, deadline=None)
@given(scalar=DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, ())))
def test_numpy_scalars_come_back(file: Path, scalar: np.ndarray) -> None:
    (value,) = load_bytes(npy_of({"n": scalar[()]}), file).values()
    assert type(value) is type(scalar[()])
    assert value.tobytes() == scalar[()].tobytes()


def test_reads_what_numpy_save_writes(tmp_path: Path, rng: np.random.Generator) -> None:
    same = rng.random(4)
    content = {"a": same, "again": [same, (same, 3)], "n": np.int64(7), "empty": np.array([])}
    np.save(tmp_path / "x.npy", content)  # type: ignore[arg-type]
    read = load_dict(tmp_path / "x.npy")
    np.testing.assert_array_equal(read["again"][1][0], same)
    assert read["n"] == 7
    assert read["empty"].shape == (0,)


@pytest.mark.parametrize("protocol", [2, 3])
def test_reads_the_names_of_numpy_1_and_2(tmp_path: Path, protocol: int) -> None:
    # Up to protocol 3 a name is a line of text, so that one may be put for the other.
    data = npy_of({"a": np.arange(3), "n": np.float32(2)}, protocol)
    numpy_1 = data.replace(b"numpy._core", b"numpy.core")
    numpy_2 = numpy_1.replace(b"numpy.core", b"numpy._core")
    assert numpy_1 != numpy_2
    for variant in (numpy_1, numpy_2):
        assert load_bytes(variant, tmp_path / "x.npy")["a"].tolist() == [0, 1, 2]


def test_opening_and_reading_rows_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    array = np.zeros((90_000, 250), np.float32)  # 90 MB
    array[89_999] = 3
    save_dict(path, {"c": array, "f": array[-9_000:].T})
    del array
    tracemalloc.start()
    try:
        content = load_dict(path)
        opened = tracemalloc.get_traced_memory()[1]
        rows = content["c"].read(np.array([5, 89_999]))
        columns = content["f"].read(np.array([7]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows[:, 0].tolist() == [0, 3]
    assert columns[0, -1] == 3
    assert opened < 200_000
    assert peak < 1_000_000  # the rows, their buffers and the interpreter; the file has 99 MB


# ---- what is refused -------------------------------------------------------------------------


class _Call:
    """Pickles to a call of anything."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


class _WithState:
    def __init__(self) -> None:
        self.x = 1


def _touch(tmp_path: Path) -> str:
    return f"touch {tmp_path / 'executed'}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, rf"it names {os.name}\.system"),
        (eval, r"it names (__builtin__|builtins)\.eval"),
        (getattr, r"it names (__builtin__|builtins)\.getattr"),
        (copyreg._reconstructor, r"it names (copy_reg|copyreg)\._reconstructor"),  # type: ignore[attr-defined]
        (np.load, r"it names numpy\.load"),
        (np.fromfile, r"it names numpy\S*\.fromfile"),
    ],
)
def test_calls_are_refused_by_name_and_not_made(
    tmp_path: Path, protocol: int, function: Any, name: str
) -> None:
    data = npy_of({"x": _Call(function, (_touch(tmp_path),))}, protocol)
    with pytest.raises(UnsafePickleError, match=name):
        load_bytes(data, tmp_path / "x.npy")
    assert not (tmp_path / "executed").exists()


def test_the_same_file_would_have_run_code_in_numpy(tmp_path: Path) -> None:
    data = npy_of({"x": _Call(os.system, (_touch(tmp_path),))})
    (tmp_path / "x.npy").write_bytes(data)
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "executed").exists()  # so the tests above would see it


def stack_global(module: str, name: str) -> bytes:
    texts = (pickle.BINUNICODE + struct.pack("<I", len(s)) + s.encode() for s in (module, name))
    return b"".join(texts) + pickle.STACK_GLOBAL


ARRAY = pickle.dumps(np.arange(2), 4)[11:-1]  # without protocol, frame and stop
UNSAFE = {
    "dotted name": (stack_global("numpy", "core.multiarray.scalar"), r"numpy\.core\.multi"),
    "dotted attribute": (stack_global("numpy", "ndarray.__class__"), r"ndarray\.__class__"),
    "submodule": (stack_global("os.path", "os.system"), r"os\.path\.os\.system"),
    "instance": (b"(S'x'\nios\nsystem\n", "STRING"),
    "instance without arguments": (b"(ios\nsystem\n", r"it names os\.system"),
    "object": (b"(cos\nsystem\no", r"it names os\.system"),
    "object of an allowed name": (b"(cnumpy\nndarray\no", "OBJ"),
    "new object": (b"cnumpy\nndarray\n)\x81", "NEWOBJ"),
    "new object, keywords": (b"cnumpy\nndarray\n)}\x92", "NEWOBJ_EX"),
    "extension 1": (b"\x82\x01", "EXT1"),
    "extension 2": (b"\x83\x01\x00", "EXT2"),
    "extension 4": (b"\x84\x01\x00\x00\x00", "EXT4"),
    "persistent id": (b"Pevil\n", "PERSID"),
    "binary persistent id": (b"NQ", "BINPERSID"),
    "out-of-band buffer": (b"\x97", "NEXT_BUFFER"),
    "state of a dict": (b"}}b", "sets the state of a dict"),
    "state of a name": (b"cnumpy\nndarray\n}b", "sets the state of a Name"),
}


@pytest.mark.parametrize(("code", "message"), UNSAFE.values(), ids=UNSAFE)
def test_instructions_that_data_never_need_are_refused(
    tmp_path: Path, code: bytes, message: str
) -> None:
    with pytest.raises(UnsafePickleError, match=message):
        load_bytes(npy(b"\x80\x04" + code + b"."), tmp_path / "x.npy")


@pytest.mark.parametrize("inner", [np.array(None), np.array([None, 1]), np.array({}, object)])
def test_object_arrays_inside_are_refused(tmp_path: Path, inner: np.ndarray) -> None:
    for content in ({"a": inner}, {"a": [inner]}, {"a": (inner,)}):
        with pytest.raises(UnsafePickleError, match="array of Python objects"):
            load_bytes(npy_of(content), tmp_path / "x.npy")


def test_an_object_with_setstate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafePickleError, match=r"names .*_WithState"):
        load_bytes(npy_of({"x": _WithState()}, 4), tmp_path / "x.npy")


# ---- what is damaged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a .npy file.*\n.*empty file"),
        (b"PK\x03\x04 an .npz archive", r"is not a .npy file.*\n.*begins with b'PK"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a .npy file"),
        (npy(b"")[:9], "is truncated"),
        (npy(b"")[:40], "is truncated"),
        (npy(b"", b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"), "plain array"),
        (npy(b"", b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"), "plain array"),
        (npy(b"", b"(" * 5000), "plain array"),
        (npy_of([1, 2]), r"does not hold a dict\n.*list"),
    ],
)
def test_a_file_that_is_no_dict_says_what_it_is(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        load_bytes(data, tmp_path / "x.npy")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_called_that(tmp_path: Path, protocol: int) -> None:
    data = npy_of({"a": np.arange(3.0), "t": "text", "n": np.int64(1)}, protocol)
    for size in range(10, len(data), 1 if protocol == 4 else 11):
        with pytest.raises(FileFormatError, match="is truncated"):
            load_bytes(data[:size], tmp_path / "x.npy")


def test_a_large_array_that_is_cut_off_is_noticed_when_opened(tmp_path: Path) -> None:
    data = npy_of({"a": np.zeros(100_000)})
    with pytest.raises(FileFormatError, match=r"truncated.*\n.*700,000 bytes"):
        load_bytes(data[:700_000], tmp_path / "x.npy")


HUGE = struct.pack("<Q", 2**62)
MALFORMED = {
    "bytes of 4 EB": (pickle.BINBYTES8 + HUGE, "truncated"),
    "bytearray of 4 EB": (pickle.BYTEARRAY8 + HUGE, "truncated"),
    "text of 4 EB": (pickle.BINUNICODE8 + HUGE, "truncated"),
    "text of 4 GB": (pickle.BINUNICODE + b"\xff" * 4, "truncated"),
    "integer of 4 GB": (pickle.LONG4 + b"\xff" * 4, "an integer of"),
    "name without end": (b"c" + b"x" * 1000, "a name without an end"),
    "array built twice": (ARRAY + b"}b", "of a form that is not accepted"),
    "no root": (b"}", "other than a 0-d object array"),
    "empty stack": (b"R", "without its values"),
    "no mark": (b"t", "without its values"),
    "values below the mark": (b"NN(\x86t", "without its values"),
    "memo of nothing": (b"h\x07", "a reference to nothing"),
    "unknown instruction": (b"\xff", "where an instruction should be"),
    "append to a tuple": (b")Na", "items for a tuple"),
    "key that is a list": (b"}]Ns", "neither text nor an integer"),
    "odd items": (b"}(Nu", "keys and values"),
    "call of data": (b"})R", "a dict with arguments that NumPy does not write"),
    "name as data": (b"]cnumpy\nndarray\na", "a name or a dtype among the data"),
    "name that is not text": (b"NN\x93", "a name that is not text"),
    "bad UTF-8": (b"\x8c\x01\xff", "utf-8"),
    "key of 61 bits": (b"}\x8a\x08" + struct.pack("<q", 2**61 - 1) + b"Ns", "neither text nor an"),
    "codec": (b"c_codecs\nencode\n\x8c\x01x\x8c\x03hex\x86R", "_codecs.encode with arguments"),
}


def put(index: int) -> bytes:
    return pickle.BINPUT + bytes([index])


def get(*indices: int) -> bytes:
    return b"".join(pickle.BINGET + bytes([index]) for index in indices)


def integer(value: int) -> bytes:
    n_bytes = value.bit_length() // 8 + 1
    return pickle.LONG1 + bytes([n_bytes]) + value.to_bytes(n_bytes, "little", signed=True)


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def array(code: str, lengths: Sequence[int], data: bytes = b"") -> bytes:
    """Instructions for an array of any dtype and shape, as protocol 5 has them."""
    dtype = b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"
    shape = b"(" + b"".join(map(integer, lengths)) + b"t"
    stored = pickle.BINBYTES + struct.pack("<I", len(data)) + data
    return b"cnumpy.core.numeric\n_frombuffer\n(" + stored + dtype + shape + text("C") + b"tR"


FLOATS = b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R"
ARGUMENTS = b"(" + pickle.BINBYTES + struct.pack("<I", 2**16) + bytes(2**16) + FLOATS
ARGUMENTS += b"(M\x00\x20t" + text("C") + b"t"
BOMBS = {
    "the same bytes in many arrays": b"cnumpy.core.numeric\n_frombuffer\n" + put(0) + ARGUMENTS
    + put(1) + b"]" + (get(0, 1) + b"Ra") * 60_000,
    "the same text encoded many times": b"c_codecs\nencode\n" + put(0) + text("x" * 10**6)
    + text("latin1") + b"\x86" + put(1) + b"]" + (get(0, 1) + b"Ra") * 1_000,
}  # fmt: skip
MALFORMED |= {name: (code, "more bytes than the file has") for name, code in BOMBS.items()}
MALFORMED |= {
    "texts of no characters": (array("S0", [2**33]), r"0 bytes for .* \(8589934592,\)"),
    "6,000 lengths of 120 bits": (array("f8", [2**119] * 6_000), "not one of lengths"),
    "33 axes": (array("f8", [0] * 33), "not one of lengths"),
    "length of 2**63": (array("f8", [0, 2**63]), "not one of lengths"),
    "empty and too large": (array("f8", [0, 2**62, 2**62]), "too large for NumPy"),
    "float of 12 bytes": (array("f12", [1], bytes(12)), "the dtype f12|12 bytes"),
    "complex of 24 bytes": (array("c24", [1], bytes(24)), "the dtype c24|24 bytes"),
    "text of 4 GB a value": (array("U999999999", [1]), "the dtype U999999999|0 bytes"),
    "character beyond Unicode": (
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text("U1")
        + b"\x89\x88\x87RC\x04\xff\xff\xff\xff\x86R", "characters that do not exist",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS)
def test_memory_stays_below_a_few_times_the_file(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(npy(b"\x80\x04" + code + b"."))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            load_dict(tmp_path / "x.npy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # the text itself, twice the file in arrays, and the interpreter; the bombs hold 1 and 4 GB
    assert peak < 5 * len(code)


HOSTILE = "os\x1b[2J\n  do:       run me" + "x" * 300


@pytest.mark.parametrize(
    "code",
    [
        stack_global(HOSTILE, "system"),
        stack_global("os", HOSTILE),
        array("S0", [2**62] * 32),
        pickle.NONE + b"\x94" + pickle.GLOBAL + b"\x1b[2J\nsystem\n",
    ],
)
def test_a_file_cannot_write_its_own_message(tmp_path: Path, code: bytes) -> None:
    with pytest.raises(FileFormatError) as caught:
        load_bytes(npy(b"\x80\x04" + code + b"."), tmp_path / "x.npy")
    lines = str(caught.value).replace(str(tmp_path), "").split("\n")
    assert all(line.isprintable() and len(line) < 320 for line in lines)
    assert len({line.split(":")[0] for line in lines[1:]}) == len(lines) - 1
    assert not any("run me" in line for line in lines[1:])


def test_what_a_file_holds_is_shown_as_one_short_line() -> None:
    shared: list[Any] = ["x" * 1000]
    for _ in range(40):
        shared = [shared, shared]
    bad_text = np.frombuffer(b"\xff" * 8, "U1")  # whose repr NumPy cannot make
    for value in (HOSTILE, shared, {"a": shared}, np.arange(5000.0), 2**127, bad_text, "\ud800"):
        assert shown(value).isprintable()
        assert len(shown(value)) <= 81
    assert shown("FBA-2") == "FBA-2"
    assert shown("V1 is fine") == "'V1 is fine'"
    assert listed(range(99)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
    assert listed([]) == "nothing"


def test_a_folder_and_a_file_that_may_not_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileFormatError, match="is a folder"):
        load_dict(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_dict(tmp_path / "absent.npy")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may read everything

    (tmp_path / "x.npy").touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ResourceError, match=r"x\.npy cannot be read\n.*Permission denied"):
        load_dict(tmp_path / "x.npy")


@pytest.mark.parametrize(("code", "message"), MALFORMED.values(), ids=MALFORMED)
def test_damaged_files_are_told_apart(tmp_path: Path, code: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=message) as caught:
        load_bytes(npy(b"\x80\x04" + code + b"."), tmp_path / "x.npy")
    assert not isinstance(caught.value, UnsafePickleError)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x03\x85", b"K\x09\x85", r"24 bytes for an array of shape \(9,\)"),
        (b"K\x03\x85", b"N\x88\x85", "not one of lengths|arguments|form"),
        (b"\x8c\x02f8", b"\x8c\x02V8", "numpy.dtype with arguments"),
        (b"\x8c\x02f8", b"\x8c\x02M8", "numpy.dtype with arguments"),
        (b"\x8c\x02f8", b"\x8c\x02,f", "numpy.dtype with arguments"),
        (b"\x8c\x01<", b"\x8c\x01x", "of a form that is not accepted"),
    ],
)
def test_an_array_described_wrongly_is_refused(
    tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    data = npy_of({"a": np.arange(3.0)})
    assert old in data
    with pytest.raises(FileFormatError, match=message):
        load_bytes(data.replace(old, new), tmp_path / "x.npy")


def test_structured_and_datetime_arrays_are_refused(tmp_path: Path) -> None:
    for array in (np.zeros(2, "f8,i4"), np.zeros(2, "M8[s]")):
        with pytest.raises(FileFormatError, match=r"arguments that NumPy does not write|of a form"):
            load_bytes(npy_of({"a": array}), tmp_path / "x.npy")


def test_hostile_nesting_neither_overflows_nor_runs_on(tmp_path: Path) -> None:
    deep = npy(b"\x80\x04)" + pickle.TUPLE1 * 500_000 + b".")
    with pytest.raises(FileFormatError, match="other than a 0-d object array"):
        load_bytes(deep, tmp_path / "x.npy")
    with pytest.raises(FileFormatError, match="more than 1,000,000 instructions"):
        load_bytes(npy(b"\x80\x04" + b"}" * 1_000_001), tmp_path / "x.npy")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_damage_never_gives_another_error(file: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.save(buffer, {"a": np.arange(3.0), "b": {"n": np.int64(1), "l": [(1, "x")]}})  # type: ignore[arg-type]
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        content = load_bytes(bytes(damaged), file)
    except FileFormatError:
        return
    assert isinstance(content, dict)
