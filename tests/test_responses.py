import json

import numpy as np
import pytest

from berg.errors import FileFormatError, InvalidParameterError, ResourceError
from berg.responses import (
    SavedResponses,
    check_output_path,
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
