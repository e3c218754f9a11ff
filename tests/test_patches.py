import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berg.errors import InvalidParameterError
from berg.surface.fsaverage import neighbours
from berg.surface.patches import Neighbours, grow_patch

# A path 0 - 1 - 2 - 3 - 4
PATH = Neighbours(
    indptr=np.array([0, 1, 3, 5, 7, 8]), indices=np.array([1, 0, 2, 1, 3, 2, 4, 3], dtype=np.int32)
)


def reached(mesh, patch):
    """Vertices of a patch that can be walked to from its first without leaving it."""
    inside, seen, front = set(patch.tolist()), set(), [int(patch[0])]
    while front:
        vertex = front.pop()
        if vertex in inside and vertex not in seen:
            seen.add(vertex)
            front += mesh.of(vertex)
    return seen


def test_growth_by_hand():
    priority = np.array([9.0, 1.0, 0.0, 2.0, 3.0])
    assert grow_patch(PATH, priority, seed=2, size=3).tolist() == [1, 2, 3]
    assert grow_patch(PATH, priority, seed=2, size=4).tolist() == [1, 2, 3, 4]  # 0 waits behind 4
    assert grow_patch(PATH, priority, seed=0, size=2).tolist() == [0, 1]


def test_ties_go_to_the_lower_index():
    assert grow_patch(PATH, np.zeros(5), seed=2, size=2).tolist() == [1, 2]


def test_size_zero_is_empty():
    patch = grow_patch(PATH, np.zeros(5), seed=2, size=0)
    assert patch.shape == (0,)
    assert patch.dtype == np.int64


@pytest.mark.parametrize(
    ("seed", "size", "allowed", "message"),
    [
        (2, 6, None, "5 of 6 vertices reached"),
        (0, 2, [1, 0, 1, 1, 1], "1 of 2 vertices reached"),
        (1, 1, [1, 0, 1, 1, 1], "0 of 1 vertices reached"),
        (2, -1, None, "negative size"),
    ],
)
def test_unreachable_sizes(seed, size, allowed, message):
    mask = None if allowed is None else np.array(allowed, dtype=bool)
    with pytest.raises(InvalidParameterError, match=message):
        grow_patch(PATH, np.zeros(5), seed, size, mask)


@given(size=st.integers(1, 642), seed=st.integers(0, 641), entropy=st.integers(0, 2**32 - 1))
def test_patches_are_contiguous_exact_and_leave_the_mask_alone(size, seed, entropy):
    mesh = neighbours(3)
    allowed = np.ones(642, dtype=bool)
    patch = grow_patch(mesh, np.random.default_rng(entropy).random(642), seed, size, allowed)
    assert len(patch) == size
    assert seed in patch
    assert (np.diff(patch) > 0).all()
    assert reached(mesh, patch) == set(patch.tolist())
    assert allowed.all()
