from pathlib import Path

import numpy as np
import pytest

from berg.errors import InvalidParameterError
from berg.surface.fsaverage import neighbours, sphere
from berg.surface.roi_patches import ROI_COLLECTIONS, roi_patches

MASKS = Path(__file__).parents[2] / "shared" / "data" / "nsd" / "subj01_algonauts_masks.npz"
# Left hemisphere of the model card, with sizes for the regions that it lacks there.
FULL = {
    **{"V1v": 710, "V1d": 828, "V2v": 632, "V2d": 692, "V3v": 567, "V3d": 669, "hV4": 531},
    **{"EBA": 3231, "FBA-1": 574, "FBA-2": 800, "mTL-bodies": 300},
    **{"OFA": 432, "FFA-1": 552, "FFA-2": 700, "mTL-faces": 300, "aTL-faces": 329},
    **{"OPA": 2021, "PPA": 1859, "RSC": 1298},
    **{"OWFA": 317, "VWFA-1": 1395, "VWFA-2": 474, "mfs-words": 490, "mTL-words": 475},
    **{"early": 5758, "midventral": 867, "midlateral": 1091, "midparietal": 1079},
    **{"ventral": 9680, "lateral": 10253, "parietal": 5176, "nsdgeneral": 18461},
}
TINY = {name: size // 64 for name, size in FULL.items()}  # level 4, 2562 vertices


def centroid(hemi, patch):
    mean = sphere(hemi).vertices[patch].mean(axis=0)
    return 100 * mean / np.linalg.norm(mean)


@pytest.fixture(scope="module", params=["lh", "rh"])
def brain(request):
    return request.param, roi_patches(request.param, FULL, np.random.default_rng(3))


def test_every_patch_has_its_size_and_is_in_one_piece(brain):
    _, patches = brain
    mesh = neighbours()
    assert list(patches) == list(FULL)
    for name, patch in patches.items():
        assert patch.dtype == np.int64
        assert len(patch) == FULL[name]
        assert (np.diff(patch) > 0).all()
        inside = np.zeros(163_842, dtype=bool)
        inside[patch] = True
        front = [int(patch[0])]
        inside[front] = False
        while front:
            new = [v for v in mesh.of(front.pop()) if inside[v]]
            inside[new] = False
            front += new
        assert not inside.any(), name


def test_regions_of_one_collection_never_overlap(brain):
    _, patches = brain
    for names in ROI_COLLECTIONS.values():
        together = np.concatenate([patches[name] for name in names])
        assert len(np.unique(together)) == len(together)


def test_streams_hold_the_areas_that_they_are_made_of(brain):
    _, patches = brain
    for area in ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d"):
        assert np.isin(patches[area], patches["early"]).all()
    assert np.isin(patches["hV4"], patches["midventral"]).all()
    for stream in ("early", "midventral", "midlateral", "midparietal"):
        assert np.isin(patches[stream], patches["nsdgeneral"]).all()


def test_areas_lie_as_in_cortex(brain):
    hemi, patches = brain
    height = {name: centroid(hemi, patches[name])[2] for name in patches}
    assert height["V3v"] < height["V2v"] < height["V1v"] < height["V1d"] < height["V2d"]
    assert height["V2d"] < height["V3d"]
    assert height["hV4"] < height["V3v"]
    front = {name: centroid(hemi, patches[name])[1] for name in patches}
    assert front["OFA"] < front["FFA-1"] < front["FFA-2"] < front["aTL-faces"]
    assert front["OWFA"] < front["VWFA-1"] < front["VWFA-2"]


def test_bands_are_elongated(brain):
    hemi, patches = brain
    for name in ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4", "PPA"):
        points = sphere(hemi).vertices[patches[name]]
        extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        assert extents[0] > 1.7 * extents[1], name


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_areas_lie_near_those_of_a_real_subject(hemi):
    if not MASKS.exists():
        pytest.skip("needs subject 1's masks in ../shared/data/nsd")
    with np.load(MASKS) as masks:
        real = masks[f"{hemi}_prf-visualrois"]
    patches = roi_patches(hemi, FULL, np.random.default_rng(3))
    for number, name in enumerate(ROI_COLLECTIONS["prf-visualrois"], start=1):
        # Areas are some 35 mm long, and people differ by about a centimetre.
        gap = centroid(hemi, patches[name]) - centroid(hemi, np.flatnonzero(real == number))
        assert np.linalg.norm(gap) < 25, name


@pytest.mark.parametrize("hemi", ["lh", "rh"])
@pytest.mark.parametrize("level", [3, 4, 5])
def test_low_levels(hemi, level):
    sizes = {name: size // 4 ** (7 - level) for name, size in FULL.items()}
    patches = roi_patches(hemi, sizes, np.random.default_rng(0), level)
    assert {name: len(patch) for name, patch in patches.items()} == sizes


def test_the_seed_decides_and_subjects_differ():
    first, again, other = (
        roi_patches("lh", TINY, np.random.default_rng(seed), level=4) for seed in (0, 0, 1)
    )
    for name in TINY:
        np.testing.assert_array_equal(first[name], again[name])
    assert any(not np.array_equal(first[name], other[name]) for name in TINY)


def test_an_empty_region_is_empty_and_moves_no_other():
    full = roi_patches("lh", TINY, np.random.default_rng(0), level=4)
    without = roi_patches("lh", TINY | {"OFA": 0}, np.random.default_rng(0), level=4)
    assert without["OFA"].shape == (0,)
    assert without["OFA"].dtype == np.int64
    np.testing.assert_array_equal(without["OPA"], full["OPA"])
    assert list(roi_patches("lh", {"PPA": 5}, np.random.default_rng(0), level=4)) == ["PPA"]


def test_bad_sizes():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidParameterError, match="Did you mean 'V1v'"):
        roi_patches("lh", {"V1V": 3}, rng, level=3)
    with pytest.raises(InvalidParameterError, match="negative size"):
        roi_patches("lh", {"V1v": -3}, rng, level=3)
    with pytest.raises(InvalidParameterError, match="cannot reach its size"):
        roi_patches("lh", {"nsdgeneral": 643}, rng, level=3)
