from pathlib import Path

import numpy as np
import pytest

from accuracy_fixture import metadata
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.errors import BERGWarning, InvalidParameterError
from berg.plotting import SIMULATED_NOTE, plot_accuracy, plot_surface
from berg.roi_accuracy import summarise_by_roi
from berg.surface.fsaverage import load_packaged, n_vertices, upsample
from berg.surface.full_mesh import FullMesh
from berg.surface.outlines import Regions
from berg.surface.raster import surface_view
from berg.surface.roi_patches import ROI_COLLECTIONS, roi_patches

REAL_MASKS = Path(__file__).parents[2] / "shared" / "data" / "nsd" / "subj01_algonauts_masks.npz"
LEVEL = 4
MAPS = {"noise_ceiling": 0.5, "r2": 0.2, "explained_variance": 40.0}


def pixels(figure, dpi=40):
    """Render a figure; low resolution keeps these tests fast."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def colourful(picture):
    return float((np.ptp(picture, axis=2) > 40).mean())


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts] + [
        t.get_text() for t in figure.texts
    ]


@pytest.fixture
def subject():
    rois = {"nsdgeneral": ([*range(300)], [*range(200)])}
    return metadata(MAPS, rois, level=LEVEL, simulated=True)


def test_what_is_written(subject):
    figure = plot_accuracy({3: subject}, model="a-model", views=["flat"], rois=[])
    written = texts(figure)
    assert "Explained variance, NSD-core" in written
    assert "subject 3 · a-model · median over nsdgeneral 40 %" in written
    assert SIMULATED_NOTE in written
    assert "grey: noise ceiling under 0.1" in written
    assert {"A  ←  left, flat  →  P", "P  ←  right, flat  →  A"} <= set(written)
    bar = figure.axes[-1]
    assert bar.get_xlabel() == "explained variance (% of the noise ceiling)"
    assert bar.get_xlim() == (0, 100)


def test_what_is_written_of_an_average(subject):
    figure = plot_accuracy({1: subject, 2: subject}, "r2", views=["dorsal"], rois=[])
    written = texts(figure)
    assert "average of 2 subjects (1, 2) · median over nsdgeneral 0.20" in written
    assert "grey: noise ceiling under 0.1 in more than half of the subjects" in written
    assert figure.axes[-1].get_xlabel() == "r² (share of the variance)"
    figure = plot_accuracy({1: subject, 2: subject}, "noise_ceiling", views=["dorsal"], rois=[])
    assert "grey: noise ceiling under 0.1 in more than half of the subjects" in texts(figure)
    assert "simulated subjects, not measured in brains" in written


def test_subjects_without_the_measure_are_no_part_of_its_figure(subject):
    """Neither in the heading, the outlines and the median, nor in whether it is simulated."""
    maps = {"noise_ceiling": 0.5, "r2": 0.3}
    real = metadata(maps, {"nsdgeneral": ([*range(100, 900)], [])}, level=LEVEL)
    figure = plot_accuracy({1: real, 2: subject}, views=["dorsal"], rois=["nsdgeneral"])
    written = texts(figure)
    assert "subject 2 · median over nsdgeneral 40 %" in written
    assert SIMULATED_NOTE in written
    alone = plot_accuracy({2: subject}, views=["dorsal"], rois=["nsdgeneral"])
    assert (pixels(figure) == pixels(alone)).all()
    untested = metadata({"noise_ceiling": 0.5}, level=LEVEL, simulated=True)
    figure = plot_accuracy({1: real, 3: untested}, "r2", views=["dorsal"], rois=[])
    assert not any("simulated" in text for text in texts(figure))


@pytest.mark.parametrize(
    ("measure", "limits", "ends"),
    [
        ("explained_variance", None, "neither"),
        ("explained_variance", (0, 60), "max"),
        ("explained_variance", (20, 100), "min"),
        ("r2", None, "max"),
        ("noise_ceiling", (0.2, 0.8), "both"),
    ],
)
def test_the_ends_of_the_bar_say_where_values_lie_beyond(subject, measure, limits, ends):
    figure = plot_accuracy(subject, measure, views=["dorsal"], rois=[], limits=limits)
    assert figure.axes[-1]._colorbar.extend == ends


def test_the_median_in_the_heading_is_that_of_the_summary():
    rng = np.random.default_rng(0)
    n = n_vertices(LEVEL)
    maps = {"noise_ceiling": rng.uniform(0, 0.3, n), "explained_variance": rng.uniform(0, 100, n)}
    subject = metadata(maps, {"nsdgeneral": ([*range(900)], [*range(50)])}, level=LEVEL)
    (row,) = summarise_by_roi(subject)
    figure = plot_accuracy(subject, views=["dorsal"], rois=[])
    median = row.explained_variance_percent["nsdcore"]
    assert f"median over nsdgeneral {median:.0f} %" in texts(figure)


def test_vertices_under_the_least_ceiling_are_grey(subject):
    subject["encoding_models"]["rh_noise_ceiling_nsdcore"][:] = 0.09
    picture = pixels(plot_accuracy(subject, views=["flat"], rois=[]))
    picture = picture[int(0.25 * len(picture)) : int(0.75 * len(picture))]  # the brains alone
    half = picture.shape[1] // 2
    assert colourful(picture[:, :half]) > 0.3
    assert colourful(picture[:, half:]) == 0
    assert (picture[:, half:] < 240).any(axis=2).mean() > 0.3  # the bare brain is there


def test_without_any_vertex_to_show_the_brains_are_bare_and_it_is_said(subject):
    for hemi in ("lh", "rh"):
        subject["encoding_models"][f"{hemi}_noise_ceiling_nsdcore"][:] = np.nan
    figure = plot_accuracy(subject, views=["flat"], rois=[])
    assert "no vertex of nsdgeneral to show" in texts(figure)
    picture = pixels(figure)
    assert colourful(picture[int(0.25 * len(picture)) : int(0.75 * len(picture))]) == 0


def test_limits_are_the_same_for_all_subjects_unless_given(subject):
    assert plot_accuracy(subject, "r2", views=["flat"], rois=[]).axes[-1].get_xlim() == (0, 0.8)
    given = plot_accuracy(subject, "r2", views=["flat"], rois=[], limits=(0, 0.3))
    assert given.axes[-1].get_xlim() == (0, 0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure": "R2"}, "unknown measure"),
        ({"dataset": "nsdsynthetic"}, "no explained_variance of nsdsynthetic"),
        ({"views": ["front"]}, "unknown views"),
        ({"rois": ["V1"]}, "unknown region of interest"),
        ({"mesh": "fsaverage6"}, "no pictures on such a mesh"),
    ],
)
def test_bad_input(subject, changes, message):
    with pytest.raises(InvalidParameterError, match=message):
        plot_accuracy(subject, **changes)


def test_a_flat_view_without_a_full_flat_map_says_so(monkeypatch):
    monkeypatch.setattr(
        "berg.plotting.surfaces.choose_mesh", lambda *_: FullMesh(Path("there"), by_freesurfer=True)
    )
    monkeypatch.setattr("berg.surface.panel.paint", lambda *_: np.zeros((2, 2, 4), np.uint8))
    with pytest.warns(BERGWarning, match=r"there has no flat map .* is of fsaverage5's"):
        plot_surface(None, None, views=["flat"], mesh="fsaverage")


# --- outlines and names -------------------------------------------------------------------------


def names_of(figure):
    """The names of regions: those texts of the panels that are not the panel's own."""
    return [
        [
            text
            for text in axes.texts
            if "←" not in text.get_text() and not text.get_path_effects()  # halos
        ]
        for axes in figure.axes
        if axes.images
    ]


def check_names(figure):
    """No name overlaps another, and all lie on their brain."""
    figure.canvas.draw()
    for axes, names in zip(figure.axes, names_of(figure), strict=False):
        boxes = [text.get_window_extent() for text in names]
        for n, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:n])
        brain = np.asarray(axes.images[0].get_array())[..., 3] > 0
        for box in boxes:
            (x0, y0), (x1, y1) = axes.transData.inverted().transform(box.get_points())
            columns, rows = sorted((round(x0), round(x1))), sorted((round(y0), round(y1)))
            assert brain[slice(*rows), slice(*columns)].all()


def regions_of_the_card():
    """Regions of the card's sizes for subject 1, on the left and the right hemisphere."""
    sizes = find_card(DEFAULT_MODEL_ID).rois
    names = [n for n in sizes if n not in (*ROI_COLLECTIONS["streams"], "nsdgeneral")]
    patches = [
        roi_patches(hemi, {n: sizes[n][hemi] for n in names}, np.random.default_rng(1))
        for hemi in ("lh", "rh")
    ]
    return {name: (patches[0][name], patches[1][name]) for name in names}


def test_names_of_many_small_regions_do_not_overlap():
    rois = regions_of_the_card()
    figure = plot_surface(None, None, views=["ventral", "flat"], rois=rois)
    check_names(figure)
    # Every region has its name on the flat map, but for parts that a cut takes away.
    for side, names in enumerate(names_of(figure)[2:4]):
        there = {name for name, patches in rois.items() if len(patches[side])}
        assert {text.get_text() for text in names} == there


def test_a_region_at_the_rim_is_outlined_in_the_view_that_shows_most_of_it():
    # The lateral half of the left hemisphere's top: a band that both views see from the side.
    place = upsample(load_packaged("lh", "infl")[0])
    rim = np.flatnonzero((place[:, 2] > 60) & (np.abs(place[:, 1]) < 15))
    empty = np.empty(0, dtype=np.int64)
    both = plot_surface(None, None, views=["lateral", "dorsal"], rois={"rim": (rim, empty)})
    assert [[text.get_text() for text in names] for names in names_of(both)] == [
        [],
        [],
        ["rim"],
        [],
    ]
    alone = plot_surface(None, None, views=["lateral"], rois={"rim": (rim, empty)})
    assert [[text.get_text() for text in names] for names in names_of(alone)] == [["rim"], []]


def test_names_of_real_regions_do_not_overlap():
    if not REAL_MASKS.is_file():
        pytest.skip("the masks of subject 1 are not in ../shared/data/nsd")
    masks = np.load(REAL_MASKS)
    rois = {
        name: tuple(np.flatnonzero(masks[f"{hemi}_prf-visualrois"] == n) for hemi in ("lh", "rh"))
        for n, name in enumerate(ROI_COLLECTIONS["prf-visualrois"], start=1)
    }
    figure = plot_surface(None, None, views=["medial", "flat"], rois=rois)
    check_names(figure)
    for names in names_of(figure)[2:4]:
        assert {text.get_text() for text in names} == set(rois)


def test_an_outline_goes_around_its_region():
    height = load_packaged("lh", "infl")[0][:, 2]
    top = height > np.percentile(height, 90)
    regions = Regions({"lh": {"top": top}})
    seen = surface_view("lh", "dorsal", 0.5)
    outline = regions.in_view("lh", "dorsal", seen)["top"]
    border = np.concatenate(outline.lines)
    rows, columns = np.nonzero(outline.inside)  # of the grid of names, 4 pixels each
    assert (
        border[:, 0].min() - 1 <= 4 * columns.min() <= 4 * columns.max() <= border[:, 0].max() + 1
    )
    assert border[:, 1].min() - 1 <= 4 * rows.min() <= 4 * rows.max() <= border[:, 1].max() + 1
    assert regions.in_view("lh", "dorsal", seen)["top"] is outline  # worked out once
    assert not regions.in_view("lh", "ventral", surface_view("lh", "ventral", 0.5))  # not seen
