"""Accuracy by region: six vertices a hemisphere, worked out by hand."""

import numpy as np
import pytest

from berg.roi_accuracy import summarise_by_roi

NAN = float("nan")


@pytest.fixture
def metadata():
    rois = {
        "lh": {"V1v": [0, 1, 2], "FFA-1": [], "OPA": []},
        "rh": {"V1v": [4], "FFA-1": [5], "OPA": [], "EBA": [3]},
    }
    maps = {
        "lh_noise_ceiling_nsdcore": [0.5, 0.1, 0.0999, 0.9, 0.9, 0.9],
        "lh_explained_variance_nsdcore": [10, 30, 90, 99, 99, 99],
        "rh_noise_ceiling_nsdcore": [0.9, 0.9, 0.9, 0.05, 0.3, 0.9],
        "rh_explained_variance_nsdcore": [99, 99, 99, 99, 80, NAN],
    }
    return {
        "fmri": {
            f"{hemi}_fsaverage_rois": {
                name: np.array(vertices, np.int64) for name, vertices in rois[hemi].items()
            }
            for hemi in rois
        },
        "encoding_models": {key: np.array(values, np.float32) for key, values in maps.items()},
    }


def test_hemispheres_are_joined_and_low_ceilings_and_undefined_values_left_out(metadata):
    rows = {row.roi: row for row in summarise_by_roi(metadata)}
    assert list(rows) == ["V1v", "FFA-1", "EBA"]  # the subject lacks OPA
    assert [row.n_vertices for row in rows.values()] == [4, 1, 1]
    # 0.1 counts, in float32 too, and 0.0999 does not; FFA-1's one vertex is undefined.
    assert [row.n_scored["nsdcore"] for row in rows.values()] == [3, 0, 0]
    assert rows["V1v"].explained_variance_percent["nsdcore"] == 30  # of 10, 30 and 80
    assert np.isnan(rows["FFA-1"].explained_variance_percent["nsdcore"])


def test_the_least_ceiling_is_the_callers(metadata):
    (v1, *_) = summarise_by_roi(metadata, least_ceiling=0.25)
    assert v1.n_scored["nsdcore"] == 2
    assert v1.explained_variance_percent["nsdcore"] == 45


def test_a_set_that_was_not_tested_has_no_scored_vertices(metadata):
    (v1, *_) = summarise_by_roi(metadata)
    assert v1.n_scored["nsdsynthetic"] == 0
    assert np.isnan(v1.explained_variance_percent["nsdsynthetic"])


@pytest.mark.parametrize(
    "missing", ["lh_noise_ceiling", "rh_noise_ceiling", "rh_explained_variance"]
)
def test_a_set_with_a_map_missing_does_not_count_in_either_hemisphere(metadata, missing):
    del metadata["encoding_models"][f"{missing}_nsdcore"]
    (v1, *_) = summarise_by_roi(metadata)
    assert v1.n_scored["nsdcore"] == 0
    assert np.isnan(v1.explained_variance_percent["nsdcore"])
