import numpy as np
import pytest

from berg.errors import (
    BERGError,
    BERGWarning,
    InvalidParameterError,
    InvalidParameterTypeError,
)
from berg.selection import Regions, select_vertices
from conftest import N_VERTICES, ROIS, tiny_card


def rois():
    return {
        hemi: {name: np.array(v[hemi], dtype=np.int64) for name, v in ROIS.items()}
        for hemi in ("lh", "rh")
    }


def select(selection):
    return select_vertices(selection, Regions(tiny_card(), 1, rois))


def no_rois():
    pytest.fail("regions were loaded although none was asked for")


def mask(*vertices, n=N_VERTICES, dtype=int):
    vector = np.zeros(n, dtype)
    vector[list(vertices)] = 1
    return vector


NOTHING = [
    None,
    {},
    {"roi": None},
    {"roi": None, "lh_vertices": None, "rh_vertices": None},
]


@pytest.mark.parametrize("selection", NOTHING)
def test_nothing_given_is_the_whole_surface(selection):
    chosen = select_vertices(selection, Regions(tiny_card(), 1, no_rois))
    np.testing.assert_array_equal(chosen.lh, np.arange(N_VERTICES))
    np.testing.assert_array_equal(chosen.rh, np.arange(N_VERTICES))
    assert chosen.rois == ()


@pytest.mark.parametrize("roi", ["V1v", ["V1v"], ("V1v",), np.array(["V1v"]), {"V1v"}])
def test_one_roi_is_its_sorted_vertices(roi):
    chosen = select({"roi": roi})
    assert chosen.lh.tolist() == [1, 2, 3]
    assert chosen.rh.tolist() == [0, 11]
    assert chosen.rois == ("V1v",)


def test_union_of_rois_is_sorted_vertices_each_once():
    chosen = select({"roi": ["V1d", "V1v", "V1d"]})
    assert chosen.lh.tolist() == [1, 2, 3, 5]
    assert chosen.rh.tolist() == [0, 4, 11]
    assert chosen.lh.dtype == np.int64


@pytest.mark.parametrize("name", ["OWFA", "OVWFA"])
def test_the_cards_name_and_the_metadatas_name_are_the_same_roi(name):
    chosen = select({"roi": name})
    assert chosen.rh.tolist() == [8, 9]
    assert chosen.rois == ("OWFA",)


def test_an_empty_roi_warns_with_roi_hemisphere_and_subject():
    with pytest.warns(BERGWarning, match="FFA-2 is empty in the left hemisphere of subject 1"):
        chosen = select({"roi": "FFA-2"})
    assert chosen.lh.shape == (0,)
    assert chosen.rh.tolist() == [6]


def test_a_roi_that_is_empty_in_both_hemispheres_gives_no_vertices():
    with pytest.warns(BERGWarning, match="mTL-bodies") as caught:
        chosen = select({"roi": "mTL-bodies"})
    assert len(caught) == 2
    assert len(chosen.lh) == len(chosen.rh) == 0


def test_roi_overrides_vectors_with_a_warning():
    with pytest.warns(BERGWarning, match="lh_vertices ignored"):
        chosen = select({"roi": "V1v", "lh_vertices": mask(9)})
    assert chosen.lh.tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [int, bool, np.uint8, np.float32])
def test_one_vector_leaves_the_other_hemisphere_whole(dtype):
    regions = Regions(tiny_card(), 1, no_rois)
    chosen = select_vertices({"lh_vertices": mask(4, 2, dtype=dtype)}, regions)
    assert chosen.lh.tolist() == [2, 4]
    assert len(chosen.rh) == N_VERTICES


def test_a_list_serves_as_a_vector():
    assert select({"rh_vertices": mask(5).tolist()}).rh.tolist() == [5]


def test_zeros_leave_a_hemisphere_out():
    chosen = select({"lh_vertices": mask(), "rh_vertices": mask(1)})
    assert chosen.lh.tolist() == []
    assert chosen.rh.tolist() == [1]


def test_zeros_in_one_hemisphere_keep_the_other_whole():
    chosen = select({"lh_vertices": mask()})
    assert len(chosen.lh) == 0
    assert len(chosen.rh) == N_VERTICES


VALUE, TYPE = InvalidParameterError, InvalidParameterTypeError


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        ("V1v", TYPE, r"not a dict(.*\n)*.*\{\"roi\": \"V1v\"\}"),
        ({"ROI": "V1v"}, VALUE, "no key 'ROI'. Did you mean 'roi'"),
        ({"vertices": mask(1)}, VALUE, "Did you mean '.h_vertices'"),
        ({"roi": "v1V"}, VALUE, "no ROI 'v1V'. Did you mean 'V1v'"),
        ({"roi": ["V1v", "FFA1"]}, VALUE, "no ROI 'FFA1'. Did you mean 'FFA-1'"),
        ({"roi": "xyzzy"}, VALUE, r"no ROI 'xyzzy'\.\n(.*\n)*.*nsdgeneral"),
        ({"roi": []}, VALUE, "empty list"),
        ({"roi": 3}, TYPE, "int: 3"),
        ({"roi": [1, 2]}, TYPE, "list"),
        ({"roi": "PPA"}, VALUE, "metadata of subject 1 have no ROI 'PPA'"),
        ({"lh_vertices": mask(1, n=11)}, VALUE, r"wrong length(.*\n)*.*\(11,\)"),
        ({"lh_vertices": mask(1).reshape(1, -1)}, VALUE, r"\(1, 12\)"),
        ({"rh_vertices": np.arange(N_VERTICES)}, VALUE, "2 at vertex 2, 10 such values"),
        ({"rh_vertices": mask(1) * -1}, VALUE, "-1 at vertex 1"),
        ({"rh_vertices": mask(1) * np.nan}, VALUE, "nan at vertex 0"),
        ({"rh_vertices": ["a"] * N_VERTICES}, TYPE, "not a numeric vector"),
        ({"rh_vertices": [[1, 2], [3]]}, TYPE, "not a vector"),
        ({"lh_vertices": mask(), "rh_vertices": mask()}, VALUE, "no vertex"),
    ],
)
def test_what_selects_nothing_sensible_is_refused(selection, error, message):
    with pytest.raises(error, match=message) as caught:
        select(selection)
    assert isinstance(caught.value, BERGError)
    assert isinstance(caught.value, ValueError if error is VALUE else TypeError)
