"""Where the names of regions go in a picture: on the brain, apart from each other.

Each name takes the best of all places that are free: near the middle of its region, over few
borders. A name that finds its place outside of its region points to it with a line that goes
through no other name if that can be. Small regions choose first, for the large have room enough.

The places are decided at once from sums over boxes, so that the same picture has the same names
at the same places. Libraries that push texts apart step by step promise neither that nor that
nothing overlaps in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Point = tuple[float, float]

_INSIDE = 0.2  # how much a step away from the middle counts, while inside the region
_OUTSIDE = 1.5  # a name outside is as bad as one so many of its heights away
_BORDERS = 6.0  # a name all over borders is as bad as one so many of its heights away
_OTHERS = 2.0  # the same of a name all over other regions
_MIDDLES = 4.0  # the same of a name over the middle of a region to which no line goes yet
_CROSSING = 6.0  # the same of a line across another line
_THROUGH = 30.0  # the same of a line through another name
_TRIED = 3000  # best places of a name whose lines are tried


@dataclass(frozen=True)
class Place:
    """Where a name stands.

    Attributes
    ----------
    middle : tuple of two float
        Column and row of its middle.
    line : tuple of two points, or None
        From the name to the region, if it stands outside.
    """

    middle: Point
    line: tuple[Point, Point] | None


@dataclass(frozen=True)
class _Box:
    column: float
    row: float
    width: float
    height: float

    def crosses(self, start: Point, end: Point) -> bool:
        """Whether a line comes into the box: clip it to the box's two pairs of sides."""
        enters, leaves = 0.0, 1.0
        for first, last, middle, size in (
            (start[0], end[0], self.column, self.width),
            (start[1], end[1], self.row, self.height),
        ):
            low, high = middle - size / 2 - first, middle + size / 2 - first
            run = last - first
            if run == 0:
                if not low < 0 < high:
                    return False
                continue
            near, far = sorted((low / run, high / run))
            enters, leaves = max(enters, near), min(leaves, far)
        return enters < leaves

    def end_of_line(self, target: Point) -> Point:
        """Return where a line from the middle to a point leaves the box."""
        across, down = target[0] - self.column, target[1] - self.row
        share = min(
            self.width / 2 / abs(across) if across else np.inf,
            self.height / 2 / abs(down) if down else np.inf,
        )
        return self.column + share * across, self.row + share * down


def place_labels(
    regions: Mapping[str, Mask],
    sizes: Mapping[str, tuple[float, float]],
    room: Mask,
) -> dict[str, Place]:
    """Choose a place for the name of each region.

    Parameters
    ----------
    regions : mapping of str to numpy.ndarray of bool, shape (height, width)
        The pixels of each, at least one.
    sizes : mapping of str to tuple of two float
        Width and height of each name in pixels, with the space around it.
    room : numpy.ndarray of bool, shape (height, width)
        Where names may stand: the brain.

    Returns
    -------
    dict of str to Place
        In pixels. Names for which there is no room are left out.
    """
    places: dict[str, Place] = {}
    boxes: list[_Box] = []
    lines: list[tuple[Point, Point]] = []
    blocked = ~room
    if not regions:
        return places
    middles = {name: _middle(region) for name, region in regions.items()}
    covered = np.sum(list(regions.values()), axis=0)
    borders = np.any([region & ~_eroded(region) for region in regions.values()], axis=0)
    for name in sorted(regions, key=lambda name: (int(regions[name].sum()), name)):
        region, (width, height) = regions[name], sizes[name]
        box = int(np.ceil(height)), int(np.ceil(width))
        if box[0] > room.shape[0] or box[1] > room.shape[1]:
            continue
        middle = middles.pop(name)
        cost = _costs(region, middle, box, borders, covered - region)
        for column, row in middles.values():
            cost[_boxes_over(row, box[0]), _boxes_over(column, box[1])] += _MIDDLES
        cost[_box_sums(blocked, box) > 0] = np.inf
        order = np.argsort(cost, axis=None, kind="stable")[:_TRIED]
        best: tuple[float, _Box, tuple[Point, Point] | None] | None = None
        for at in order[np.isfinite(cost.flat[order])]:
            row, column = np.unravel_index(at, cost.shape)
            here = _Box(column + (box[1] - 1) / 2, row + (box[0] - 1) / 2, box[1], box[0])
            price = float(cost.flat[at])
            if best is not None and price >= best[0]:
                break
            inside = region[round(here.row), round(here.column)]
            line = None if inside else (here.end_of_line(middle), middle)
            if line is not None:
                price += _THROUGH * sum(other.crosses(*line) for other in boxes)
                price += _CROSSING * sum(_cross(line, other) for other in lines)
            if best is None or price < best[0]:
                best = price, here, line
        if best is None:
            continue
        _, here, line = best
        places[name] = Place((here.column, here.row), line)
        boxes.append(here)
        top, left = round(here.row - (box[0] - 1) / 2), round(here.column - (box[1] - 1) / 2)
        blocked[top : top + box[0], left : left + box[1]] = True
        if line is not None:
            lines.append(line)
            blocked[_pixels(line, blocked.shape)] = True
    return places


def _costs(
    region: Mask,
    middle: Point,
    box: tuple[int, int],
    borders: Mask,
    others: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return how bad each place is, by the box's upper left corner, in heights of the name."""
    height, width = box
    rows = np.arange(region.shape[0] - height + 1)[:, None]
    columns = np.arange(region.shape[1] - width + 1)[None, :]
    away = np.hypot(
        rows + (height - 1) / 2 - middle[1], 0.6 * (columns + (width - 1) / 2 - middle[0])
    )
    inside = region[
        (height - 1) // 2 : (height - 1) // 2 + len(rows),
        (width - 1) // 2 : (width - 1) // 2 + columns.size,
    ]
    cost = np.where(inside, _INSIDE * away / height, _OUTSIDE + away / height)
    hidden = _box_sums(borders, box) / (2 * (height + width))  # as a line around it would be
    return np.asarray(
        cost + _BORDERS * hidden + _OTHERS * _box_sums(others > 0, box) / (height * width)
    )


def _boxes_over(at: float, size: int) -> slice:
    """Return which boxes of a size cover a row or column, by their first."""
    return slice(max(int(at) - size + 1, 0), int(at) + 1)


def _middle(region: Mask) -> Point:
    """Return the pixel of a region that is nearest to its centre of mass: column, row."""
    inside = np.argwhere(region)
    away = ((inside - inside.mean(axis=0)) ** 2).sum(axis=1)
    row, column = inside[np.argmin(away)]
    return float(column), float(row)


def _box_sums(mask: Mask, box: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return how many pixels are set in each box, by the box's upper left corner."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    height, width = box
    return np.asarray(
        sums[height:, width:]
        - sums[:-height, width:]
        - sums[height:, :-width]
        + sums[:-height, :-width]
    )


def _cross(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two lines cross: each has the ends of the other on both of its sides."""

    def side(line: tuple[Point, Point], point: Point) -> float:
        (x, y), (u, v) = line
        return (u - x) * (point[1] - y) - (v - y) * (point[0] - x)

    return (
        side(one, other[0]) * side(one, other[1]) < 0
        and side(other, one[0]) * side(other, one[1]) < 0
    )


def _pixels(
    line: tuple[Point, Point], shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the pixels along a line."""
    (x, y), (u, v) = line
    n = int(max(abs(u - x), abs(v - y))) + 2
    rows = np.clip(np.rint(np.linspace(y, v, n)), 0, shape[0] - 1).astype(np.int64)
    columns = np.clip(np.rint(np.linspace(x, u, n)), 0, shape[1] - 1).astype(np.int64)
    return rows, columns


def _eroded(mask: Mask) -> Mask:
    """Return the pixels whose four neighbours are in the mask, too."""
    padded = np.pad(mask, 1)
    return np.asarray(
        padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & mask
    )
