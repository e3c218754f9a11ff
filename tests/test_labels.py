import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.surface.labels import Place, place_labels

SHAPE = (60, 100)


def disc(column, row, radius):
    rows, columns = np.indices(SHAPE)
    return np.hypot(columns - column, rows - row) <= radius


def box(place, size):
    """Left, right, top and bottom of a name."""
    (column, row), (width, height) = place.middle, size
    return column - width / 2, column + width / 2, row - height / 2, row + height / 2


def overlap(one, other):
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


ROOM = np.ones(SHAPE, dtype=bool)


def test_a_name_stands_in_the_middle_of_its_region():
    places = place_labels({"a": disc(50, 30, 20)}, {"a": (11, 5)}, ROOM)
    assert places == {"a": Place((50.0, 30.0), None)}


@pytest.mark.parametrize("n_names", [1, 2, 5])
def test_a_name_stands_in_its_region_or_points_to_it(n_names):
    region = disc(50, 30, 4)
    size = (21, 5)
    places = place_labels(
        {f"r{n}": region for n in range(n_names)}, {f"r{n}": size for n in range(n_names)}, ROOM
    )
    assert len(places) == n_names
    for place in places.values():
        column, row = place.middle
        if place.line is None:
            assert region[round(row), round(column)]
            continue
        start, end = place.line
        assert region[round(end[1]), round(end[0])]
        # The line begins at an edge of the name's box.
        left, right, top, bottom = box(place, size)
        assert (
            min(abs(start[0] - np.array([left, right]))) < 1
            or min(abs(start[1] - np.array([top, bottom]))) < 1
        )
    in_it = [place for place in places.values() if place.line is None]
    assert len(in_it) <= 2  # it has no room for more


def test_names_do_not_run_off_the_brain():
    room = disc(50, 30, 28)
    at_the_rim = disc(50, 30, 28) & disc(78, 30, 6)
    (place,) = place_labels({"a": at_the_rim}, {"a": (15, 5)}, room).values()
    left, right, top, bottom = (round(edge) for edge in box(place, (15, 5)))
    assert room[top + 1 : bottom, left + 1 : right].all()


def test_without_room_a_name_is_left_out():
    sizes = {"a": (11, 5)}
    assert place_labels({"a": disc(50, 30, 5)}, sizes, np.zeros(SHAPE, dtype=bool)) == {}
    assert place_labels({"a": disc(50, 30, 5)}, {"a": (101, 5)}, ROOM) == {}
    assert place_labels({}, {}, ROOM) == {}


@settings(max_examples=25, deadline=None)  # a shared machine has slow moments
@given(
    st.lists(
        st.tuples(st.integers(10, 90), st.integers(10, 50), st.integers(1, 12), st.integers(6, 24)),
        min_size=1,
        max_size=12,
    )
)
def test_names_never_overlap_and_stay_on_the_brain(drawn):
    room = disc(50, 30, 45)
    regions = {f"r{n}": disc(*where) & room for n, (*where, _) in enumerate(drawn)}
    regions = {name: region for name, region in regions.items() if region.any()}
    sizes = {f"r{n}": (width, 5) for n, (*_, width) in enumerate(drawn)}
    places = place_labels(regions, sizes, room)
    boxes = [box(place, sizes[name]) for name, place in places.items()]
    for n, one in enumerate(boxes):
        assert not any(overlap(one, other) for other in boxes[:n])
        left, right, top, bottom = one
        rows = slice(round(top + 0.5), round(bottom - 0.5) + 1)
        assert room[rows, round(left + 0.5) : round(right - 0.5) + 1].all()


@pytest.mark.parametrize("seed", range(3))
def test_places_are_the_same_each_time(seed):
    rng = np.random.default_rng(seed)
    regions = {f"r{n}": disc(*rng.integers(10, 50, 2), 5) for n in range(8)}
    sizes = dict.fromkeys(regions, (14, 5))
    first = place_labels(regions, sizes, ROOM)
    again = place_labels(dict(reversed(regions.items())), sizes, ROOM)
    assert first == again
