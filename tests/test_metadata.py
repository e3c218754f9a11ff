from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    MetadataNotFoundError,
    UnsafePickleError,
)
from berg.metadata import (
    Metadata,
    is_simulated,
    load_metadata,
    load_rois,
    save_metadata,
    summarise_metadata,
    validate_metadata,
)
from berg.pickles import stored_array
from berg.pickles.writing import save_dict

N_VERTICES = 20


@pytest.fixture
def metadata(rng: np.random.Generator) -> Metadata:
    maps = ["correlation_nsdcore", "r2_nsdcore", "noise_ceiling_nsdcore"]
    return {
        "fmri": {
            "lh_ncsnr": rng.random(N_VERTICES),
            "rh_ncsnr": rng.random(N_VERTICES, dtype=np.float32),
            "lh_fsaverage_rois": {"V1v": np.array([3, 5, 19]), "FBA-2": np.array([], np.int64)},
            "rh_fsaverage_rois": {"V1v": np.array([0], np.uint16), "FBA-2": np.array([])},
        },
        "encoding_models": {
            "train_img_num": np.arange(9000),
            "test_img_num": np.array([2, 72_999], np.int32),
            **{f"{hemi}_{name}": rng.random(N_VERTICES) for hemi in ("lh", "rh") for name in maps},
        },
        "provenance": {"simulated": True, "seed": 3, "version": "0.1.0", "ceiling": 0.5},
    }


def assert_same(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        for key in wanted:
            assert_same(got[key], wanted[key])
    elif isinstance(wanted, np.ndarray) and wanted.size:
        np.testing.assert_array_equal(got, wanted)
    elif not isinstance(wanted, np.ndarray):
        assert got == wanted


@pytest.mark.parametrize("inline_bytes", [64, 2**16])
def test_metadata_round_trip(
    metadata: Metadata, tmp_path: Path, inline_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("berg.pickles.reading.INLINE_BYTES", inline_bytes)
    save_metadata(tmp_path / "m.npy", metadata, n_vertices=N_VERTICES)
    read = load_metadata(tmp_path / "m.npy", n_vertices=N_VERTICES)
    assert_same(read, metadata)
    assert read["provenance"]["simulated"] is True
    rois = load_rois(tmp_path / "m.npy")
    for hemi in ("lh", "rh"):
        for name, indices in read["fmri"][f"{hemi}_fsaverage_rois"].items():
            assert indices.dtype == np.int64
            assert rois[hemi][name].dtype == np.int64
            np.testing.assert_array_equal(rois[hemi][name], indices)
    by_numpy = np.load(tmp_path / "m.npy", allow_pickle=True).item()
    assert_same(by_numpy, metadata)


def test_reads_what_numpy_save_writes(metadata: Metadata, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", metadata)  # type: ignore[arg-type]
    assert_same(load_metadata(tmp_path / "m.npy"), metadata)


def test_arrays_are_in_memory_and_writable(metadata: Metadata, tmp_path: Path) -> None:
    save_metadata(tmp_path / "m.npy", metadata)
    read = load_metadata(tmp_path / "m.npy")
    os.remove(tmp_path / "m.npy")
    for array in (read["fmri"]["lh_ncsnr"], read["encoding_models"]["train_img_num"]):
        array[0] = 1
        assert array[0] == 1


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for load in (load_metadata, load_rois):
        with pytest.raises(MetadataNotFoundError, match=r"no metadata(.*\n)*.*absent\.npy"):
            load(tmp_path / "absent.npy")


def change(metadata: Metadata, *keys: str, to: Any) -> Metadata:
    changed = copy.deepcopy(metadata)
    part: Any = changed
    for key in keys[:-1]:
        part = part[key]
    if to is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = to
    return changed


ROI = ("fmri", "rh_fsaverage_rois", "V1v")
FAULTS = [
    (("fmri",), None, "the part 'fmri' is missing"),
    (("encoding_models",), None, "the part 'encoding_models' is missing"),
    (("encoding_models",), 3, "the part 'encoding_models' is missing"),
    (("fmri", "lh_fsaverage_rois"), None, "lh_fsaverage_rois is missing"),
    (("fmri", "rh_fsaverage_rois"), np.zeros(N_VERTICES), "rh_fsaverage_rois is missing"),
    (ROI, np.array([0, 20]), r"rh ROI V1v is out of range\n.*0 to 20\n.*0 to 19"),
    (ROI, np.array([-1, 5]), "rh ROI V1v is out of range"),
    (("encoding_models", "test_img_num"), np.array([2**63], np.uint64), "test_img_num is out of"),
    (ROI, np.array([1.0]), r"rh ROI V1v is not made of integers\n.*float64"),
    (ROI, np.zeros(N_VERTICES, bool), "rh ROI V1v is not made of integers(.*\n)*.*not a mask"),
    (ROI, np.zeros((1, 3), int), "rh ROI V1v is not an array of shape"),
    (ROI, [1, 2], r"rh ROI V1v is not an array of shape .*\n.*a list"),
    (("fmri", "rh_ncsnr"), np.zeros(19), r"rh_ncsnr has the wrong shape\n.*\(19,\)\n.*\(20,\)"),
    (("encoding_models", "lh_r2_nsdcore"), np.zeros((20, 1)), "lh_r2_nsdcore has the wrong"),
    (("encoding_models", "lh_r2_nsdcore"), 0.5, "lh_r2_nsdcore has the wrong shape"),
    (("encoding_models", "test_img_num"), np.zeros(3), "test_img_num is not made of integers"),
]


@pytest.mark.parametrize(("keys", "to", "message"), FAULTS)
def test_faults_are_told_apart(
    metadata: Metadata, tmp_path: Path, keys: tuple[str, ...], to: Any, message: str
) -> None:
    changed = change(metadata, *keys, to=to)
    with pytest.raises(InvalidParameterError, match=f"The metadata: {message}"):
        save_metadata(tmp_path / "m.npy", changed)
    assert list(tmp_path.iterdir()) == []
    save_dict(tmp_path / "m.npy", changed)
    for load in (load_metadata, load_rois):
        with pytest.raises(FileFormatError, match=rf"m\.npy: {message}") as caught:
            load(tmp_path / "m.npy")
        assert all(f"\n  {label}" in str(caught.value) for label in ("got:", "accepted:", "do:"))


def test_the_number_of_vertices_may_be_demanded(metadata: Metadata) -> None:
    validate_metadata(metadata)
    validate_metadata(metadata, n_vertices=N_VERTICES)
    with pytest.raises(InvalidParameterError, match=r"lh_ncsnr.*shape\n.*\(20,\)\n.*\(163842,\)"):
        validate_metadata(metadata, n_vertices=163_842)


@pytest.mark.parametrize(
    ("provenance", "simulated"),
    [
        ({"simulated": True}, True),
        ({"simulated": np.True_}, True),
        ({"simulated": False}, False),
        ({"simulated": np.ones(2)}, False),
        ({"simulated": None}, False),
        ("simulated", False),
        ([1, 2], False),
        ({}, False),
    ],
)
def test_any_provenance_is_read(
    metadata: Metadata, tmp_path: Path, provenance: Any, simulated: bool
) -> None:
    np.save(tmp_path / "m.npy", metadata | {"provenance": provenance})  # type: ignore[arg-type]
    read = load_metadata(tmp_path / "m.npy")
    assert is_simulated(read) is simulated
    assert "provenance" in summarise_metadata(read)


def test_the_summary_is_of_short_lines_whatever_the_file(
    metadata: Metadata, tmp_path: Path
) -> None:
    shared: Any = ["x" * 1000] * 50
    for _ in range(4):
        shared = [shared] * 50
    hostile = {
        "version": "1.0",
        "other": {"x_fsaverage_rois": 3, "a\x1b[2J\nb": shared, 7: None},
        "e_fsaverage_rois": {"V1v": 3, "b": np.zeros(2, int)},
    }
    np.save(tmp_path / "m.npy", metadata | hostile)  # type: ignore[arg-type]
    summary = summarise_metadata(load_metadata(tmp_path / "m.npy"))
    assert summary["version"] == {"version": "1.0"}
    assert summary["other"]["7"] == "None"
    assert summary["fmri"]["lh V1v"] == "3 vertices"
    for part, rows in summary.items():
        for line in (part, *rows, *rows.values()):
            assert line.isprintable()
            assert len(line) <= 201


def test_each_roi_is_read_once_however_often_it_is_named(
    metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("berg.pickles.reading.INLINE_BYTES", 16)
    indices = np.arange(10, dtype=np.uint8).repeat(2)
    for hemi in ("lh", "rh"):
        metadata["fmri"][f"{hemi}_fsaverage_rois"] = {f"roi {n}": indices for n in range(100)}
    np.save(tmp_path / "m.npy", metadata)  # type: ignore[arg-type]
    opened = []
    open_file = stored_array.StoredArray._open

    def count(array: stored_array.StoredArray) -> Any:
        opened.append(array.shape)
        return open_file(array)

    monkeypatch.setattr(stored_array.StoredArray, "_open", count)
    rois = load_rois(tmp_path / "m.npy")
    assert opened.count((20,)) == 1
    assert len(rois["rh"]) == 100
    assert rois["lh"]["roi 7"].tolist() == indices.tolist()


def test_a_hostile_name_is_quoted_in_the_message(metadata: Metadata) -> None:
    changed = change(metadata, "fmri", "lh_\x1b[2J\n  do:       run me", to=np.zeros(3))
    with pytest.raises(InvalidParameterError) as caught:
        validate_metadata(changed)
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    assert str(caught.value).count("\n  do:") == 1


def test_a_folder_is_not_metadata(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is a folder"):
        load_metadata(tmp_path)


def test_weights_are_not_metadata(tmp_path: Path) -> None:
    save_dict(tmp_path / "m.npy", {"scaler_param": {}, "pca_param": {}})
    with pytest.raises(FileFormatError, match=r"'fmri' is missing\n.*scaler_param, pca_param"):
        load_metadata(tmp_path / "m.npy")


def test_code_is_refused(tmp_path: Path, metadata: Metadata) -> None:
    np.save(tmp_path / "m.npy", metadata | {"x": os.system})  # type: ignore[arg-type]
    with pytest.raises(UnsafePickleError, match=rf"it names {os.name}\.system"):
        load_metadata(tmp_path / "m.npy")


def test_a_file_that_holds_itself_is_refused(tmp_path: Path, metadata: Metadata) -> None:
    loop: list[Any] = []
    loop.append(loop)
    np.save(tmp_path / "m.npy", metadata | {"provenance": loop})  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match="nested more than 8 deep"):
        load_metadata(tmp_path / "m.npy")
