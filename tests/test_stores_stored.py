import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berg.errors import InvalidIndexError
from berg.stores.stored import StoredImages, StoredNames, StoredScores
from store_fixture import N_IMAGES, NAMES, UNREADABLE, create, fill, scores

READABLE = np.setdiff1d(np.arange(N_IMAGES), UNREADABLE)


@st.composite
def masks(draw):
    n_chunk = draw(st.integers(1, 7))
    return n_chunk, np.array(draw(st.lists(st.booleans(), max_size=30)), np.bool_)


@st.composite
def indices(draw, n):
    bound = st.none() | st.integers(-n - 2, n + 2)
    step = st.none() | st.integers(-4, 4).filter(bool)
    kinds = [
        st.builds(slice, bound, bound, step),
        st.lists(st.booleans(), min_size=n, max_size=n).map(lambda m: np.array(m, np.bool_)),
    ]
    if n:
        kinds += [
            st.integers(-n, n - 1),
            st.lists(st.integers(-n, n - 1), max_size=12),
            st.lists(st.integers(-n, n - 1), max_size=12).map(lambda i: np.array(i, np.int64)),
            st.lists(st.integers(0, n - 1), max_size=12).map(lambda i: np.array(i, np.uint8)),
        ]
    return draw(st.one_of(kinds))


@given(masks())
def test_stored_images_are_those_of_the_mask(drawn):
    _, mask = drawn
    images = StoredImages.where(mask)
    expected = np.flatnonzero(mask)
    assert len(images) == len(expected)
    np.testing.assert_array_equal(images.numbers(np.arange(len(expected))), expected)


def test_stored_images_by_hand():
    images = StoredImages.where(np.array([0, 1, 1, 0, 0, 1, 0], np.bool_))
    assert (images.starts.tolist(), images.ends.tolist()) == ([1, 5], [2, 3])
    assert images.numbers(np.array([2, 0, 1, 2])).tolist() == [5, 1, 2, 5]


@given(drawn=masks(), data=st.data())
def test_stored_scores_are_indexed_like_an_array(drawn, data):
    n_chunk, mask = drawn
    everything = np.arange(len(mask) * 3, dtype=np.float32).reshape(-1, 3)
    in_memory = everything[mask]
    read = []

    def read_scores(start, stop):
        assert start // n_chunk == (stop - 1) // n_chunk
        read.append(start // n_chunk)
        return everything[start:stop]

    stored = StoredScores(
        read_scores, StoredImages.where(mask), chunk_images=n_chunk, n_components=3
    )
    assert (stored.shape, stored.dtype, len(stored)) == (
        in_memory.shape,
        in_memory.dtype,
        len(in_memory),
    )
    index = data.draw(indices(len(in_memory)))
    as_array = np.array(index, np.int64) if isinstance(index, list) else index
    expected = in_memory[as_array]
    got = stored[index]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    # The chunks of the images, each once.
    numbers = np.flatnonzero(mask)[as_array]
    assert read == sorted(set((np.atleast_1d(numbers) // n_chunk).tolist()))


@given(drawn=masks(), data=st.data())
def test_stored_names_are_those_of_a_list(drawn, data):
    n_chunk, mask = drawn
    everything = [f"image {i}" for i in range(len(mask))]
    in_memory = [name for name, is_there in zip(everything, mask, strict=True) if is_there]
    read = []

    def read_names(i_chunk):
        read.append(i_chunk)
        return everything[i_chunk * n_chunk : (i_chunk + 1) * n_chunk]

    names = StoredNames(read_names, StoredImages.where(mask), chunk_images=n_chunk)
    assert len(names) == len(in_memory)
    assert list(names) == in_memory
    assert read == sorted(set((np.flatnonzero(mask) // n_chunk).tolist()))
    index = data.draw(indices(len(in_memory)).filter(lambda i: isinstance(i, int | slice)))
    assert names[index] == in_memory[index]


def test_a_stored_name_out_of_bounds_is_an_index_error():
    names = StoredNames(
        lambda i_chunk: ["a", "b"], StoredImages.where(np.ones(2, bool)), chunk_images=2
    )
    assert (names[-1], names.index("b"), "c" in names) == ("b", 1, False)
    for index in (2, -3):
        with pytest.raises(IndexError):
            names[index]


@pytest.mark.parametrize(
    ("index", "match"),
    [
        (20, r"out of bounds(.|\n)*-20 to 19"),
        ([0, -21], r"out of bounds(.|\n)*-20 to 19"),
        (np.ones(19, bool), r"got: +19 entries\n +accepted: 20"),
        (np.zeros((2, 2), int), "not selected by this"),
        (1.5, "not selected by this"),
        ([0.5], "not selected by this"),
        ((0, 1), "not selected by this"),
        ("cat", "not selected by this"),
        (True, "not selected by this"),
        (None, "not selected by this"),
    ],
)
def test_other_indices_are_refused(index, match):
    stored = StoredScores(
        lambda start, stop: np.zeros((stop - start, 2), np.float32),
        StoredImages.where(np.ones(20, bool)),
        chunk_images=7,
        n_components=2,
    )
    with pytest.raises(InvalidIndexError, match=match):
        stored[(index,) if isinstance(index, tuple) else index]


def test_what_a_store_gives_is_without_what_is_not_there(tmp_path):
    store = fill(create(tmp_path / "x.zarr"), [0, 1, 4])
    there = READABLE[(READABLE < 10) | (READABLE >= 20)]
    stored, names = pickle.loads(pickle.dumps((store.scores(3), store.names())))  # noqa: S301
    np.testing.assert_array_equal(stored[:], scores(3)[there])
    np.testing.assert_array_equal(np.asarray(stored), scores(3)[there])
    np.testing.assert_array_equal(stored[[-1, 0]], scores(3)[there[[-1, 0]]])
    assert list(names) == [NAMES[i] for i in there]
    assert repr(stored) == f"<StoredScores {len(there)} images, 4 components>"
    assert repr(names) == f"<StoredNames of {len(there)} images>"
    assert np.asarray(stored, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(stored, copy=False)
