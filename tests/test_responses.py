import json
import tracemalloc

import numpy as np
import pytest

from berg.errors import FileFormatError, InvalidParameterError, ResourceError
from berg.responses import (
    SavedResponses,
    check_output_path,
    load_names,
    load_responses,
    save_responses,
)


@pytest.fixture
def responses(rng):
    return SavedResponses(
        lh=rng.standard_normal((2, 4), dtype=np.float32),
        rh=rng.standard_normal((2, 3), dtype=np.float32),
        lh_vertices=np.array([1, 5, 6, 9]),
        rh_vertices=np.array([0, 2, 3]),
        names=("a.png", "größe.png"),
        provenance={"model_id": "m", "subject": 1, "simulated": True},
    )


def test_saved_and_loaded_is_the_same(tmp_path, responses):
    path = save_responses(tmp_path / "new" / "r.npz", responses)
    loaded = load_responses(path)
    for name in ("lh", "rh", "lh_vertices", "rh_vertices"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(responses, name))
    assert loaded.names == responses.names
    assert loaded.provenance == responses.provenance


def test_some_images_are_read_without_the_others(tmp_path):
    every = np.arange(1000, dtype=np.float32)[:, None] + np.linspace(
        0, 0.5, 20_000, dtype=np.float32
    )
    names = tuple(f"{i}.png" for i in range(1000))
    saved = SavedResponses(
        lh=every,
        rh=every[:, :1],
        lh_vertices=np.arange(20_000),
        rh_vertices=np.arange(1),
        names=names,
        provenance={},
    )
    path = save_responses(tmp_path / "r.npz", saved)
    assert load_names(path) == names
    tracemalloc.start()
    try:
        loaded = load_responses(path, [7, 0, 999, 7])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert loaded.names == ("7.png", "0.png", "999.png", "7.png")
    np.testing.assert_array_equal(loaded.lh, every[[7, 0, 999, 7]])
    np.testing.assert_array_equal(loaded.rh, every[[7, 0, 999, 7], :1])
    # 80 MB in all, of which zipfile passes over 16 MB at a time.
    assert peak < every.nbytes / 2


@pytest.mark.parametrize(
    "changes",
    [
        {"lh": np.zeros((3, 4), np.float32)},
        {"rh_vertices": np.zeros(3)},
        {"lh": np.zeros((2, 4), int)},
        {"lh": np.zeros(8, np.float32)},
        {"more": np.zeros(1)},
    ],
)
@pytest.mark.parametrize("rows", [None, [0]])
def test_what_does_not_fit_together_is_said(tmp_path, responses, changes, rows):
    arrays = vars(responses) | {"provenance": np.array("{}")} | changes
    np.savez(tmp_path / "r.npz", **arrays)
    if rows and changes.get("lh") is not None and changes["lh"].shape == (3, 4):
        return  # of the rows that are read, all fit
    with pytest.raises(FileFormatError, match="cannot be read as responses"):
        load_responses(tmp_path / "r.npz", rows)


def test_numpy_alone_reads_the_file(tmp_path, responses):
    with np.load(save_responses(tmp_path / "r.npz", responses), allow_pickle=False) as saved:
        assert json.loads(str(saved["provenance"]))["simulated"] is True
        assert saved["names"].tolist() == list(responses.names)


@pytest.mark.parametrize("name", ["r.nc", "r", "folder.npz"])
def test_only_npz_files_are_written(tmp_path, responses, name):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InvalidParameterError, match=r"ends in \.npz"):
        save_responses(tmp_path / name, responses)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path, responses):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"cannot be written(.*\n)*.*file is not a folder"):
        check_output_path(tmp_path / "file" / "new" / "r.npz")
    with pytest.raises(ResourceError, match="cannot be written"):
        save_responses(tmp_path / "file" / "r.npz", responses)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_file_is_said(tmp_path, responses):
    path = save_responses(tmp_path / "r.npz", responses)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="cannot be read as responses"):
        load_responses(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(FileFormatError, match="provenance"):
        load_responses(path)
