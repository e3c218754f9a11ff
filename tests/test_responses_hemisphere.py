import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from berg.errors import BERGError, InvalidIndexError
from berg.responses import hemisphere
from lazy_responses import FakeStore, materialised, readout, responses, scores

LAZY = responses().lh
ARRAY = materialised(responses())[0]
N, V = ARRAY.shape


def same(got, expected):
    assert np.shape(got) == expected.shape
    # float32 against float64 sums of five products
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def axis_indices(n: int):
    ints = st.integers(-n, n - 1)
    return st.one_of(
        ints,
        st.slices(n),
        st.lists(ints, max_size=6).map(lambda rows: np.array(rows, np.int64)),
        st.lists(ints, min_size=1, max_size=6),
        hnp.arrays(np.int32, hnp.array_shapes(max_dims=3, max_side=3), elements=ints),
        hnp.arrays(bool, n),
        st.just(...),
    )


@settings(deadline=None)
@given(st.one_of(axis_indices(N), st.tuples(axis_indices(N), axis_indices(V))))
def test_indexing_means_what_it_means_for_the_array(key):
    try:
        expected = ARRAY[key]
    except IndexError:  # shapes that do not broadcast, or two ellipses
        with pytest.raises(InvalidIndexError):
            LAZY[key]
        return
    same(LAZY[key], expected)


@settings(deadline=None)
@given(hnp.arrays(bool, (N, V)))
def test_a_mask_of_all_responses(mask):
    same(LAZY[mask], ARRAY[mask])


@settings(deadline=None)
@given(
    st.lists(st.integers(-N, N - 1), max_size=5),
    hnp.arrays(bool, V),
    st.sampled_from(["ix", "rows first", "columns first"]),
)
def test_every_image_with_every_vertex(rows, mask, form):
    rows, columns = np.array(rows, np.int64), np.flatnonzero(mask)
    key = {
        "ix": np.ix_(rows, mask),
        "rows first": (rows[:, np.newaxis], columns),
        "columns first": (rows, columns[:, np.newaxis]),
    }[form]
    same(LAZY[key], ARRAY[key])


@pytest.mark.parametrize(
    "key",
    [(), ..., (..., 1), (1, ...), (0, ..., 1), [], np.int64(2), np.array(3), (np.array(1), 2)],
)
def test_unusual_but_accepted(key):
    same(LAZY[key], ARRAY[key])


def test_a_single_response_is_a_number():
    assert isinstance(LAZY[0, 0], np.float32)


@pytest.mark.parametrize(
    "key",
    [
        N,
        -N - 1,
        (0, V),
        ([0, N], 0),
        ([0, 1], [0, V]),
        None,
        (slice(None), np.newaxis),
        True,
        (0, False),
        1.0,
        [0.5],
        "a",
        (0, 0, 0),
        (..., ...),
        ([0, 1], [0, 1, 2]),
        np.zeros((V, N), bool),
        np.zeros(N + 1, bool),
        (np.zeros((N, V), bool), 0),
        slice("a", None),
        slice(None, None, 0),
    ],
)
def test_what_is_no_index_is_refused(key):
    with pytest.raises(InvalidIndexError) as raised:
        LAZY[key]
    assert isinstance(raised.value, BERGError)
    assert isinstance(raised.value, IndexError)
    assert "got:" in str(raised.value)


def test_it_looks_like_an_array():
    assert (LAZY.shape, LAZY.ndim, LAZY.size, len(LAZY)) == ((N, V), 2, N * V, N)
    assert LAZY.dtype == np.float32
    assert LAZY.nbytes == ARRAY.size * 4
    same(np.asarray(LAZY), ARRAY)
    assert np.asarray(LAZY, np.float64).dtype == np.float64
    same(np.stack(list(LAZY)), ARRAY)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(LAZY, copy=False)


def test_blocks_do_not_change_what_is_computed(monkeypatch):
    for name in ("_VERTEX_BLOCK", "_IMAGE_BLOCK", "_PAIR_BLOCK"):
        monkeypatch.setattr(hemisphere, name, 4)
    same(LAZY[:], ARRAY)
    same(LAZY[::-1, 1::2], ARRAY[::-1, 1::2])
    rows, columns = np.arange(9), np.arange(9)
    same(LAZY[rows, columns], ARRAY[rows, columns])


def test_only_what_is_indexed_is_read():
    store, of = FakeStore(scores()), readout()
    lazy = hemisphere.HemisphereResponses(store, of.lh_coef, of.lh_intercept)
    same(lazy[[7, 2, 2], 3], ARRAY[[7, 2, 2], 3])
    same(lazy[5:2:-1], ARRAY[5:2:-1])
    assert store.reads == [2, 3]
