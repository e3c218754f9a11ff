import numpy as np
import pytest

from accuracy_fixture import metadata
from berg.errors import InvalidParameterError
from berg.plotting import accuracy_map
from berg.plotting.accuracy_maps import by_subject, region_masks

NAN = np.nan
PAD = [0.0] * 8  # the smallest brain has 12 vertices; these 8 have no ceiling


def test_a_subjects_map_is_blank_under_the_least_ceiling():
    subject = metadata(
        {"noise_ceiling": [0.0999, 0.1, 0.5, NAN, *PAD], "r2": [0.09, 0.05, 0.2, 0.3, *PAD]}
    )
    expected = [NAN, 0.05, 0.2, *[NAN] * 9]
    for hemi in ("lh", "rh"):
        # The metadata are float32, of which 0.1 is a little more than 0.1.
        np.testing.assert_allclose(accuracy_map(subject, "r2")[hemi], expected, rtol=1e-6)
    np.testing.assert_allclose(
        accuracy_map(subject, "noise_ceiling", least_ceiling=0.0)["lh"][:4],
        [0.0999, 0.1, 0.5, NAN],
        rtol=1e-6,
    )


def test_the_average_by_hand():
    subjects = {
        1: metadata(
            {"noise_ceiling": [0.5, 0.5, 0.5, 0.2, *PAD], "r2": [0.1, 0.3, 0.4, NAN, *PAD]}
        ),
        2: metadata(
            {"noise_ceiling": [0.3, 0.0, 0.0, 0.2, *PAD], "r2": [0.2, 0.9, 0.9, 0.2, *PAD]}
        ),
        4: metadata(
            {"noise_ceiling": [0.4, 0.2, 0.0, 0.2, *PAD], "r2": [0.3, 0.1, 0.9, 0.1, *PAD]}
        ),
    }
    # All three; the two whose ceiling allows it; only one of three; the two that have a value.
    expected = [0.2, 0.2, NAN, 0.15, *[NAN] * 8]
    np.testing.assert_allclose(accuracy_map(subjects, "r2")["rh"], expected, rtol=1e-6)
    # The ceiling's own average has the same subjects, so that r² can be laid beside it.
    ceilings = [0.4, 0.35, NAN, 0.2, *[NAN] * 8]
    np.testing.assert_allclose(accuracy_map(subjects, "noise_ceiling")["lh"], ceilings, rtol=1e-6)
    # One of two is half.
    half = {n: subjects[n] for n in (1, 2)}
    np.testing.assert_allclose(accuracy_map(half, "r2")["lh"][:4], [0.15, 0.3, 0.4, 0.2], rtol=1e-6)


def test_subjects_without_a_dataset_do_not_count():
    maps = {"noise_ceiling": 0.5, "r2": 0.1}
    older = metadata(maps | {"r2": 0.4})
    newer = metadata(maps, datasets=("nsdcore", "nsdsynthetic"))
    both = {1: older, 2: newer}
    np.testing.assert_allclose(accuracy_map(both, "r2", "nsdsynthetic")["lh"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(accuracy_map(both, "r2", "nsdcore")["lh"], 0.25, rtol=1e-6)
    with pytest.raises(InvalidParameterError, match=r"no r2 of nsdsynthetic(.*\n)+.*berg test"):
        accuracy_map(older, "r2", "nsdsynthetic")


@pytest.mark.parametrize(
    ("measure", "dataset", "message"),
    [
        ("explained", "nsdcore", r"unknown measure of accuracy(.*\n)+.*mean 'explained_variance'"),
        ("r2", "nsd-core", r"unknown dataset of accuracy(.*\n)+.*mean 'nsdcore'"),
    ],
)
def test_unknown_names(measure, dataset, message):
    with pytest.raises(InvalidParameterError, match=message):
        accuracy_map(metadata({"noise_ceiling": 0.5, "r2": 0.1}), measure, dataset)


def test_no_subject_and_brains_of_different_sizes():
    maps = {"noise_ceiling": 0.5, "r2": 0.1}
    with pytest.raises(InvalidParameterError, match="nothing to draw"):
        by_subject({})
    with pytest.raises(InvalidParameterError, match=r"different sizes\n.*subject 2: 42 vertices"):
        accuracy_map({1: metadata(maps), 2: metadata(maps, level=1)}, "r2")
    odd = metadata(maps)
    odd["encoding_models"] = {name: values[:7] for name, values in odd["encoding_models"].items()}
    with pytest.raises(InvalidParameterError, match="no fsaverage level has this many"):
        accuracy_map(odd, "r2")
    with pytest.raises(InvalidParameterError, match="hold no map"):
        by_subject({"fmri": {}, "encoding_models": {}})


def test_regions_of_one_and_of_several_subjects():
    maps = {"noise_ceiling": 0.5}
    subjects = {
        1: metadata(maps, {"V1v": ([0, 1, 2], [5]), "FFA-1": ([3], []), "hV4": ([], [])}),
        2: metadata(maps, {"V1v": ([1, 2], [6]), "FFA-1": ([], []), "hV4": ([], [])}),
        3: metadata(maps, {"V1v": ([2, 4], [7]), "FFA-1": ([], []), "hV4": ([], [])}),
    }
    own = region_masks({1: subjects[1]}, ["prf-visualrois", "FFA-1"])
    assert {hemi: list(masks) for hemi, masks in own.items()} == {
        "lh": ["V1v", "FFA-1"],
        "rh": ["V1v"],
    }
    np.testing.assert_array_equal(np.flatnonzero(own["lh"]["V1v"]), [0, 1, 2])
    shared = region_masks(subjects, ["V1v", "FFA-1"])
    assert {hemi: list(masks) for hemi, masks in shared.items()} == {"lh": ["V1v"], "rh": []}
    np.testing.assert_array_equal(np.flatnonzero(shared["lh"]["V1v"]), [1, 2])
    two = region_masks({n: subjects[n] for n in (1, 2)}, ["V1v"])
    np.testing.assert_array_equal(np.flatnonzero(two["lh"]["V1v"]), [1, 2])  # in both
    with pytest.raises(InvalidParameterError, match=r"'FFA1'(.*\n)+.*mean 'FFA-1'"):
        region_masks(subjects, ["FFA1"])
