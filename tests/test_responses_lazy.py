import copy
import pickle
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import (
    BERGWarning,
    InvalidIndexError,
    InvalidParameterError,
    InvalidParameterTypeError,
    ResourceError,
)
from berg.responses import Readout, Responses, load_responses, ranking, rows, statistics
from lazy_responses import (
    N_COMPONENTS,
    N_IMAGES,
    FakeStore,
    both,
    materialised,
    readout,
    regions,
    responses,
    scores,
)

NAMES = ["cat", "dog", "face", "house", "tree", "car", "boat", "hand", "word"]
# float32 results of float64 sums
CLOSE = {"rtol": 0, "atol": 2e-6}


def same(got, expected):
    np.testing.assert_allclose(np.asarray(got), expected, **CLOSE)


def same_maps(surface_map, lh, rh):
    for got, expected in zip(surface_map, (lh, rh), strict=True):
        assert got.dtype == np.float32
        same(got, expected)


def test_all_responses():
    lazy = responses()
    lh, rh = lazy.compute()
    expected_lh, expected_rh = materialised(lazy)
    np.testing.assert_allclose(lh, expected_lh, rtol=0, atol=1e-5)  # sums in float32
    np.testing.assert_allclose(rh, expected_rh, rtol=0, atol=1e-5)
    assert lh.dtype == rh.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(lazy.lh), lh)


@pytest.mark.parametrize("roi", [None, "V1v", ["V1v", "V1d"], ("OWFA",)])
@pytest.mark.parametrize("hemisphere", [None, "lh", "rh"])
def test_mean_over_vertices(roi, hemisphere):
    lazy = responses()
    got = lazy.mean_over_vertices(roi, hemisphere)
    chosen = lazy if hemisphere is None else lazy.hemisphere(hemisphere)
    chosen = chosen if roi is None else chosen.roi(roi)
    assert got.dtype == np.float32
    same(got, both(chosen).mean(axis=1))


def test_statistics_over_images():
    lazy = responses()
    lh, rh = materialised(lazy)
    same_maps(lazy.mean_over_images(), lh.mean(axis=0), rh.mean(axis=0))
    for ddof in (0, 1):
        got = lazy.variance_over_images(ddof)
        for values, expected in zip(got, (lh, rh), strict=True):
            np.testing.assert_allclose(values, expected.var(axis=0, ddof=ddof), rtol=1e-5)
    assert got.units == "z²"
    assert lazy.mean_over_images().units == "z"


def test_contrasts_of_any_two_selections():
    lazy = responses(names=NAMES)
    lh, rh = materialised(lazy)
    mask = np.arange(N_IMAGES) % 2 == 0
    for images, baseline, of, minus in (
        (["face", "hand"], "house", [2, 7], [3]),
        (slice(2), slice(2, None), slice(2), slice(2, None)),
        (mask, ~mask, mask, ~mask),
        (np.array([1, 1, 0]), -1, [1, 1, 0], [-1]),
    ):
        same_maps(
            lazy.contrast(images, baseline),
            lh[of].mean(axis=0) - lh[minus].mean(axis=0),
            rh[of].mean(axis=0) - rh[minus].mean(axis=0),
        )


def test_a_map_of_an_image():
    lazy = responses(names=NAMES, provenance={"subject": 1})
    lh, rh = materialised(lazy)
    for image in ("face", 2, -7, np.int64(2)):
        face = lazy.map(image)
        same_maps(face, lh[2], rh[2])
    assert (face.name, face.units, face.mesh) == ("face", "z", "fsaverage")
    assert face.provenance == {"subject": 1}
    np.testing.assert_array_equal(face.rh_vertices, lazy.rh_vertices)
    with pytest.raises(InvalidParameterError, match=r"a map shows one image(.*\n)*.*2 images"):
        lazy.map([0, 1])


@settings(deadline=None)
@given(
    st.one_of(
        st.slices(N_IMAGES),
        st.integers(-N_IMAGES, N_IMAGES - 1),
        st.lists(st.integers(-N_IMAGES, N_IMAGES - 1), max_size=12),
        st.lists(st.booleans(), min_size=N_IMAGES, max_size=N_IMAGES).map(np.array),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    ),
    st.slices(N_IMAGES),
    st.booleans(),
)
def test_selecting_before_and_after_computing_agrees(images, again, stored):
    given_scores = FakeStore(scores()) if stored else scores()
    lazy = Responses(given_scores, readout(), names=NAMES, regions=regions())
    chosen = lazy[images][again].roi("V1v")
    of_names = isinstance(images, list) and images and isinstance(images[0], str)
    expected = [NAMES.index(name) for name in images] if of_names else images
    expected = np.atleast_1d(
        np.arange(N_IMAGES)[np.array(expected, int) if isinstance(expected, list) else expected]
    )[again]
    assert chosen.names == tuple(NAMES[row] for row in expected)
    assert chosen.n_images == len(chosen) == len(expected)
    lh, rh = chosen.compute()
    whole_lh, whole_rh = lazy.compute()
    np.testing.assert_allclose(lh, whole_lh[expected][:, [1, 2, 3]], rtol=0, atol=1e-5)
    np.testing.assert_allclose(rh, whole_rh[expected][:, [0, 11]], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(chosen.scores[:], scores()[expected])


def test_regions_and_their_unions():
    lazy = responses(provenance={"rois": []})
    union = lazy.roi("V1v", "V1d")
    assert union.lh_vertices.tolist() == [1, 2, 3, 5]
    assert union.rh_vertices.tolist() == [0, 4, 11]
    assert union.provenance["rois"] == ["V1v", "V1d"]
    assert lazy.provenance["rois"] == []
    for same_union in (lazy.roi(["V1v", "V1d"]), lazy.roi("V1v", ["V1d"]), union.roi("V1d", "V1v")):
        np.testing.assert_array_equal(same_union.lh[:], union.lh[:])
    same(union.rh, materialised(lazy)[1][:, [0, 4, 11]])
    with pytest.raises(InvalidParameterError, match="Did you mean 'V1v'"):
        lazy.roi("V1V")
    with pytest.raises(InvalidParameterError, match="empty list"):
        lazy.roi()


def test_vertices_in_any_order_are_found():
    of = readout()
    shuffled = np.array([7, 3, 11, 1, 0, 2])
    lazy = Responses(scores(), of.take(shuffled, shuffled), regions=regions())
    np.testing.assert_array_equal(lazy.roi("V1v").lh[:], responses().roi("V1v").lh[:])
    np.testing.assert_array_equal(lazy.roi("V1v").rh[:], responses().roi("V1v").rh[:])


def test_a_region_that_is_not_all_there_says_how_much_is():
    lazy = responses().roi("V1v")
    with pytest.raises(
        InvalidParameterError, match=r"1 of its 2 vertices in lh and 0 of its 1 vertices in rh"
    ):
        lazy.roi("V1d")
    left = Responses(scores(), readout().take(slice(None), slice(0, 0)), regions=regions())
    with pytest.raises(InvalidParameterError, match=r'0 of its 2(.*\n)*.*hemisphere\("lh"\)'):
        left.roi("V1v")
    assert left.hemisphere("lh").roi("V1v").lh_vertices.tolist() == [1, 2, 3]


def test_a_hemisphere_that_is_left_out_stays_out():
    right = responses().hemisphere("rh")
    assert right.lh.shape == (N_IMAGES, 0)
    assert right.roi("V1v").lh.shape == (N_IMAGES, 0)
    assert right.roi("V1v").rh_vertices.tolist() == [0, 11]
    assert right.hemisphere("lh").readout.n_vertices == 0
    with pytest.raises(InvalidParameterError, match="no hemisphere 'left'"):
        responses().hemisphere("left")


def test_responses_without_regions_say_so():
    lazy = Responses(scores(), readout())
    assert lazy.regions is None
    with pytest.raises(InvalidParameterError, match="do not know the subject's regions"):
        lazy.mean_over_vertices("V1v")


def test_a_region_on_a_coarser_mesh_is_the_vertices_that_the_mesh_has():
    # fsaverage0 has 12 vertices; the last of these regions' vertices do not exist on it.
    rois = {"V1v": {"lh": [3, 12, 40], "rh": [11, 12]}, "V1d": {"lh": [30], "rh": [1]}}
    of = {hemi: {name: np.array(rois[name][hemi]) for name in rois} for hemi in ("lh", "rh")}
    known = regions()
    known._load_rois = lambda: of
    lazy = Responses(scores(), readout(), regions=known, mesh="fsaverage0")
    assert lazy.roi("V1v").lh_vertices.tolist() == [3]
    assert lazy.roi("V1v").rh_vertices.tolist() == [11]
    with pytest.warns(BERGWarning, match="V1d has no vertex of fsaverage0 in lh"):
        assert lazy.roi("V1d").lh.shape == (N_IMAGES, 0)


def test_coarser_meshes_stay_lazy_and_know_where_they_are():
    n = 40_962 + 100
    of = readout(n_lh=n, n_rh=n)
    lazy = Responses(FakeStore(scores()), of, regions=regions())
    six = lazy.to_fsaverage6()
    assert (six.mesh, six.lh.shape, six.provenance["mesh"]) == (
        "fsaverage6",
        (N_IMAGES, 40_962),
        "fsaverage6",
    )
    five = six.to_fsaverage5("mean")
    assert five.rh.shape == (N_IMAGES, 10_242)
    assert five.map(0).mesh == "fsaverage5"
    assert lazy.scores.reads == [1]  # the map's
    np.testing.assert_array_equal(six.lh[:, 5], lazy.lh[:, 5])
    with pytest.raises(InvalidParameterError):
        five.to_fsaverage6()


@pytest.mark.parametrize("lowest", [False, True])
@settings(deadline=None)
@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan]), max_size=30),
    st.integers(1, 8),
    st.integers(1, 7),
)
def test_ranking_is_a_stable_sort(lowest, values, n, size):
    values = np.float32(values)
    blocks = [values[start : start + size] for start in range(0, len(values), size)]
    names = ranking.ImageNames(None, range(len(values)))
    found = ranking.rank_images(blocks, names, n)
    found = found.least if lowest else found.most
    defined = np.flatnonzero(~np.isnan(values))
    signed = values[defined] if lowest else -values[defined]
    expected = defined[np.argsort(signed, kind="stable")][:n]
    np.testing.assert_array_equal(found.indices, expected)
    np.testing.assert_array_equal(found.values, values[expected])
    assert found.names == tuple(map(str, expected))
    assert len(found) == len(expected)


def test_driving_images():
    lazy = responses(names=NAMES)
    for roi in (None, "V1v"):
        mean = lazy.mean_over_vertices(roi)
        found = lazy.driving_images(roi, n=3)
        order = np.argsort(mean)
        assert found.most.indices.tolist() == order[::-1][:3].tolist()
        assert found.least.indices.tolist() == order[:3].tolist()
        assert found.most.names == tuple(NAMES[row] for row in order[::-1][:3])
        np.testing.assert_array_equal(found.most.values, mean[found.most.indices])
    assert len(lazy.driving_images(n=100).least) == N_IMAGES
    assert lazy[::-1].driving_images(n=1).most.names == lazy.driving_images(n=1).most.names


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3"])
def test_a_bad_number_of_driving_images(n):
    with pytest.raises(InvalidParameterError, match="not a number of images"):
        responses().driving_images(n=n)


def test_without_names_images_are_called_by_their_places_and_keep_them():
    lazy = responses()
    assert lazy.names == tuple(map(str, range(N_IMAGES)))
    part = lazy[[5, 3, 8]]
    assert part.names == ("5", "3", "8")
    np.testing.assert_array_equal(part["3"].scores, scores()[[3]])
    np.testing.assert_array_equal(lazy[2::3]["5"].scores, scores()[[5]])
    for missing in ("0", "03", "cat", "-1", "²"):
        with pytest.raises(InvalidParameterError, match="no image is called"):
            part[missing]


class FakeNames(Sequence):
    """Names of a store, that remember what they were asked for."""

    def __init__(self, n: int) -> None:
        self._names = [f"image {row}" for row in range(n)]
        self.reads: list[int | slice] = []

    def __len__(self):
        return len(self._names)

    def __getitem__(self, rows):
        self.reads.append(rows)
        return self._names[rows]


def test_names_of_a_store_are_read_where_they_are_needed():
    names = FakeNames(5000)
    lazy = Responses(scores(5000), readout(), names=names)
    part = lazy[4000:]
    assert part.map(3).name == "image 4003"
    assert lazy[[4999, 0]].names == ("image 4999", "image 0")
    assert lazy[[7, 3, 3]].names == ("image 7", "image 3", "image 3")
    assert lazy[9:5:-2].names == ("image 9", "image 7")
    assert names.reads == [slice(4003, 4004), 4999, 0, slice(3, 8), slice(7, 10)]
    np.testing.assert_array_equal(part["image 4321"].scores, scores(5000)[[4321]])


def test_names_that_are_wrong_or_not_unique():
    lazy = responses(names=NAMES)
    with pytest.raises(InvalidParameterError, match="Did you mean 'house'"):
        lazy["hause"]
    with pytest.raises(InvalidParameterError, match=r"2 images are called 'dog'(.*\n)*.*0, 2"):
        lazy[["dog", "cat", "dog"]]["dog"]
    with pytest.raises(InvalidParameterError, match="there are no images"):
        lazy[:0]["dog"]
    assert lazy[np.array(["tree", "car"])].names == ("tree", "car")
    assert lazy[np.array(["tree"], dtype=object)].names == ("tree",)


@pytest.mark.parametrize(
    "images",
    [
        N_IMAGES,
        -N_IMAGES - 1,
        [0, N_IMAGES],
        (0, 1),
        None,
        True,
        1.5,
        [0.0],
        [[0, 1]],
        ["cat", 1],
        np.ones(N_IMAGES + 1, bool),
        slice("cat", None),
        {"cat"},
        ...,
    ],
)
def test_what_selects_no_images_is_refused(images):
    with pytest.raises(InvalidIndexError, match="got:"):
        responses(names=NAMES)[images]


def test_an_array_without_dimensions_selects_one_image():
    lazy = responses(names=NAMES)
    assert lazy[np.array(2)].names == ("face",)
    assert lazy[np.array("tree")].names == ("tree",)
    for nothing in (np.array(True), np.True_, True, np.array(None), np.array(1.5)):
        with pytest.raises(InvalidIndexError, match=r"no selection of 9 images(.*\n)+.*got: "):
            lazy[nothing]
    with pytest.raises(InvalidIndexError, match="bool: True"):
        lazy[True]


@pytest.mark.parametrize("ddof", ["a", None, -1, 1.5, True])
def test_a_bad_ddof(ddof):
    with pytest.raises(InvalidParameterError, match=r"not a number of degrees(.*\n)+.*ddof="):
        responses().variance_over_images(ddof)


@pytest.mark.parametrize("stored", [False, True])
def test_no_images(stored):
    none = np.empty((0, N_COMPONENTS), np.float32)
    lazy = Responses(FakeStore(none) if stored else none, readout(), regions=regions())
    for empty in (lazy, responses()[:0], responses()[[]]):
        assert [each.shape for each in empty.compute()] == [(0, 12), (0, 12)]
        assert empty.lh[:, 3].shape == (0,)
        assert empty.mean_over_vertices("V1v").shape == (0,)
        assert empty.names == ()
        assert len(empty.driving_images().most) == 0
        for surface_map in (
            empty.mean_over_images(),
            empty.variance_over_images(),
            empty.contrast([], slice(None)),
        ):
            assert np.isnan(np.concatenate(list(surface_map))).all()
            assert surface_map.lh.shape == (12,)


def test_no_vertices():
    with pytest.warns(BERGWarning, match="mTL-bodies is empty"):
        lazy = responses().roi("mTL-bodies")
    assert lazy.lh[:].shape == lazy.rh[:].shape == (N_IMAGES, 0)
    assert np.isnan(lazy.mean_over_vertices()).all()
    assert [each.shape for each in lazy.variance_over_images()] == [(0,), (0,)]
    assert len(lazy.driving_images().most) == 0


def test_variance_of_too_few_images_is_undefined_and_of_one_image_zero():
    one = responses()[4]
    np.testing.assert_array_equal(np.concatenate(list(one.variance_over_images())), 0)
    assert np.isnan(np.concatenate(list(one.variance_over_images(ddof=1)))).all()


def test_variance_is_that_of_small_deviations_from_large_means():
    """Where ``mean(x**2) - mean(x)**2`` has no digits left."""
    given_scores = scores(1000) + np.float32(2**12)
    lazy = Responses(given_scores, readout())
    lh, _ = lazy.variance_over_images()
    np.testing.assert_allclose(lh, materialised(lazy)[0].var(axis=0), rtol=1e-5)
    twice = Responses(np.repeat(given_scores[:1], 7, axis=0), readout())
    assert (np.concatenate(list(twice.variance_over_images())) >= 0).all()


def test_parts_of_images_that_differ_are_merged(monkeypatch):
    monkeypatch.setattr(statistics, "_IMAGE_BLOCK", 100)
    drifting = scores(1030) + np.linspace(0, 30, 1030, dtype=np.float32)[:, np.newaxis]
    lazy = Responses(drifting, readout())
    lh, rh = materialised(lazy)
    same(lazy.mean_over_images().lh / 100, lh.mean(axis=0) / 100)
    for got, expected in zip(lazy.variance_over_images(ddof=1), (lh, rh), strict=True):
        np.testing.assert_allclose(got, expected.var(axis=0, ddof=1), rtol=1e-6)


def test_an_image_without_scores_is_nan():
    given_scores = scores()
    given_scores[4] = np.nan
    lazy = Responses(given_scores, readout())
    assert np.isnan(lazy.map(4).lh).all()
    assert np.isnan(lazy.mean_over_vertices()).tolist() == [row == 4 for row in range(N_IMAGES)]
    assert 4 not in lazy.driving_images(n=N_IMAGES).most.indices
    for surface_map in (lazy.mean_over_images(), lazy.variance_over_images()):
        assert np.isnan(surface_map.rh).all()


def test_a_store_is_read_in_blocks_and_never_whole(monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 1)  # blocks become one chunk, 1024 images
    store = FakeStore(scores(2500))
    lazy = Responses(store, readout(), regions=regions())
    in_memory = Responses(scores(2500), readout(), regions=regions())
    lh, rh = materialised(in_memory)
    shuffled = np.random.default_rng(3).permutation(2500)
    for chosen, order in (
        (lazy, slice(None)),
        (lazy[::-1], slice(None, None, -1)),
        (lazy[shuffled], shuffled),
    ):
        store.reads.clear()
        same_maps(chosen.mean_over_images(), lh.mean(axis=0), rh.mean(axis=0))
        np.testing.assert_allclose(chosen.variance_over_images().lh, lh.var(axis=0), rtol=1e-5)
        same(chosen.mean_over_vertices("V1v"), both(in_memory.roi("V1v")).mean(axis=1)[order])
        np.testing.assert_array_equal(
            chosen.driving_images("V1v").most.values,
            in_memory.driving_images("V1v").most.values,
        )
        assert store.reads == [1024, 1024, 452] * 4
        assert max(store.reads) <= rows.block_size(N_COMPONENTS)
    store.reads.clear()
    same(lazy.compute()[0][:, 0], lh[:, 0])
    assert max(store.reads) == 1024
    store.reads.clear()
    np.testing.assert_array_equal(np.asarray(lazy[shuffled][:5].scores), scores(2500)[shuffled[:5]])
    assert store.reads == [5]


def test_blocks_are_64_mb_in_whole_chunks():
    assert rows.block_size(250) == 65 * 1024
    assert rows.block_size(250) * 250 * 4 <= 64 * 2**20
    assert rows.block_size(10**6) == rows._CHUNK


def test_the_readout_is_loaded_when_needed_and_once():
    loaded = []

    def load():
        loaded.append(1)
        return readout()

    lazy = Responses(scores(), load, regions=regions(), provenance={"subject": 2})
    part, other = lazy[:3], lazy["5"]
    assert repr(part) == "<Responses 3 images, readout not loaded yet, fsaverage, subject 2>"
    assert loaded == []
    part.mean_over_images()
    other.roi("V1v").compute()
    lazy.rdm()
    assert loaded == [1]


def test_the_readout_is_loaded_once_in_all_threads():
    n_threads, loaded = 8, []
    meeting = threading.Barrier(n_threads)

    def load():
        loaded.append(1)
        time.sleep(0.05)  # the others come meanwhile
        return readout()

    lazy = Responses(scores(), load)

    def ask(_):
        meeting.wait()
        return lazy.readout

    with ThreadPoolExecutor(n_threads) as pool:
        found = list(pool.map(ask, range(n_threads)))
    assert loaded == [1]
    assert all(each is found[0] for each in found)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_responses_are_pickled(is_loaded):
    lazy = Responses(scores(), partial(readout, 7), names=NAMES)
    if is_loaded:
        lazy.compute()
    again = pickle.loads(pickle.dumps(lazy))  # noqa: S301 - our own
    np.testing.assert_array_equal(again.lh[:], lazy.lh[:])
    assert again.names == tuple(NAMES)


def test_a_readout_of_another_model_is_refused():
    other = readout(n_components=N_COMPONENTS + 1)
    with pytest.raises(InvalidParameterError, match="not of the same model"):
        Responses(scores(), other)
    lazy = Responses(scores(), lambda: other)
    with pytest.raises(InvalidParameterError, match="not of the same model"):
        lazy.compute()
    with pytest.raises(InvalidParameterTypeError, match="neither a readout nor"):
        Responses(scores(), None)


def test_repr():
    lazy = responses(provenance={"subject": 1, "simulated": True})
    assert repr(lazy) == "<Responses 9 images, 12 + 12 vertices, fsaverage, subject 1, SIMULATED>"
    assert (
        repr(Responses(scores(), readout())) == "<Responses 9 images, 12 + 12 vertices, fsaverage>"
    )


def test_nothing_that_is_given_out_can_be_changed():
    provenance = {"rois": ["V1v"]}
    names = list(NAMES)
    lazy = responses(names=names, provenance=provenance)
    names[0] = "changed"
    provenance["rois"].append("V1d")
    lazy.provenance["rois"].append("V1d")
    assert lazy.names[0] == "cat"
    assert lazy.provenance == {"rois": ["V1v"]}
    for array in (
        lazy.scores,
        lazy[2:].scores,
        lazy.lh_vertices,
        lazy.roi("V1v").rh_vertices,
        lazy.readout.lh_coef,
        lazy.mean_over_images().lh,
        lazy.driving_images().most.values,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_the_callers_arrays_stay_writable():
    given_scores = scores()
    Responses(given_scores, readout())
    given_scores[0] = 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[1.0, 2.0]], "not an array of floating point"),
        (np.zeros((2, N_COMPONENTS), int), "not an array of floating point"),
        (None, "not an array of floating point"),
        (np.zeros(N_COMPONENTS, np.float32), "1 dimensions, not 2"),
        (np.zeros((2, N_COMPONENTS + 1), np.float32), "not of the same model"),
    ],
)
def test_scores_that_are_none(bad, message):
    with pytest.raises(InvalidParameterError, match=message):
        Responses(bad, readout())


def test_scores_in_float64_are_taken_as_float32():
    lazy = Responses(scores().astype(np.float64), readout())
    assert lazy.scores.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"]}, "1 names are given for 9 images"),
        ({"names": "nine char"}, "a string, not a sequence"),
        ({"names": range(9)}, r"not a string(.*\n)+.*int: 0, of image 0(.*\n)+.*str\(name\)"),
        ({"names": (*NAMES[:8], 3)}, "int: 3, of image 8"),
        ({"names": [b"a"] * 9}, "bytes: b'a'"),
        ({"names": iter(NAMES[1:])}, "8 names are given for 9 images"),
        ({"names": set(NAMES)}, "names are in no order"),
        ({"names": 9}, r"not a sequence of strings(.*\n)+.*int: 9"),
        ({"names": np.array("a")}, "not a sequence of strings"),
        ({"mesh": "fsaverag5"}, "Did you mean 'fsaverage5'"),
    ],
)
def test_names_and_meshes_that_do_not_fit(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        Responses(scores(), readout(), **options)


@pytest.mark.parametrize(
    "names", [tuple(NAMES), iter(NAMES), dict.fromkeys(NAMES), np.array(NAMES), deque(NAMES)]
)
def test_names_of_any_kind_in_order(names):
    lazy = responses(names=names)
    assert lazy.names == tuple(NAMES)
    assert {type(name) for name in lazy.names} == {str}
    assert lazy[["hand"]].names == ("hand",)


def test_a_readout_whose_arrays_do_not_fit_is_refused():
    of = readout()
    with pytest.raises(InvalidParameterError, match="rh_intercept does not fit"):
        Readout(
            of.lh_coef,
            of.lh_intercept,
            of.rh_coef,
            of.rh_intercept[1:],
            of.lh_vertices,
            of.rh_vertices,
        )
    with pytest.raises(InvalidParameterError, match="lh_coef does not fit"):
        Readout(
            of.lh_coef.astype(float),
            of.lh_intercept,
            of.rh_coef,
            of.rh_intercept,
            of.lh_vertices,
            of.rh_vertices,
        )


class Endless:
    """Scores of more images than any memory holds."""

    shape, dtype = (10**9, N_COMPONENTS), np.dtype(np.float32)

    def __getitem__(self, _):
        pytest.fail("they were read")


def test_what_does_not_fit_into_memory_is_refused_with_its_bytes(monkeypatch):
    lazy = Responses(Endless(), readout(n_lh=10**5, n_rh=0))
    assert lazy.n_images == 10**9
    for compute in (lazy.compute, lambda: lazy.lh[:]):
        with pytest.raises(ResourceError, match=r"400\.0 TB needed"):
            compute()

    def full(*_):
        raise MemoryError("Unable to allocate")

    small = responses()
    monkeypatch.setattr("berg.responses.memory.np.empty", full)
    with pytest.raises(ResourceError, match="Unable to allocate"):
        small.compute()


def test_saved_as_npz(tmp_path):
    lazy = responses(names=NAMES, provenance={"subject": 1}).roi("V1v")
    saved = load_responses(lazy.to_npz(tmp_path / "r.npz"))
    for got, expected in zip((saved.lh, saved.rh), lazy.compute(), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert saved.names == tuple(NAMES)
    assert saved.lh_vertices.tolist() == [1, 2, 3]
    assert saved.provenance == lazy.provenance
    with pytest.raises(InvalidParameterError, match=r"ends in \.npz"):
        lazy.to_npz(tmp_path / "r.nc")


def test_a_copy_is_the_same():
    lazy = copy.copy(responses())
    np.testing.assert_array_equal(lazy.lh[:], responses().lh[:])


def test_two_images_are_not_taken_for_two_hemispheres():
    with pytest.raises(TypeError, match=r"lh, rh = responses\.compute\(\)"):
        _lh, _rh = responses()[:2]
    with pytest.raises(TypeError, match=r"neither two arrays nor a sequence"):
        np.asarray(responses())


def test_a_contrast_of_two_images_is_called_after_them():
    each = responses(names=[f"{i}.png" for i in range(N_IMAGES)])
    assert each.contrast("3.png", "1.png").name == "3.png minus 1.png"
    assert each.contrast([0, 1], "2.png").name == "2 images minus 2.png"
