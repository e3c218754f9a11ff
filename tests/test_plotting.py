import subprocess
import sys

import numpy as np
import pytest

import lazy_responses
from berg.errors import InvalidParameterError, MissingExtraError
from berg.plotting import SIMULATED_NOTE, plot_photograph_responses, plot_surface
from berg.responses import SurfaceMap
from berg.surface.fsaverage import load_packaged, n_vertices, upsample
from berg.surface.painting import ColourScale, colour_scale, paint, symmetric_scale
from berg.surface.raster import surface_view


def pixels(figure, dpi=40):
    """Render a figure; low resolution keeps these tests fast."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def texts(figure):
    drawn = [t for axes in figure.axes for t in axes.texts if not t.get_path_effects()]  # no halos
    return [t.get_text() for t in (*drawn, *figure.texts)]


@pytest.fixture
def height():
    """A smooth map with both signs: z of the inflated fsaverage5, in mm."""
    return load_packaged("lh", "infl")[0][:, 2]


def colourful(picture):
    """Share of pixels that are not grey."""
    return float((np.ptp(picture, axis=2) > 30).mean())


def test_a_map_is_drawn_in_colour_and_the_same_each_time(height):
    first, again = (pixels(plot_surface(height, height, title="Height")) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert colourful(first) > 0.2
    assert colourful(pixels(plot_surface(-height, height))) > 0.2


def test_fsaverage5_and_fsaverage_maps_give_the_same_picture(height):
    coarse = pixels(plot_surface(height, None, views=["ventral"], limits=(-50, 50)))
    full = pixels(plot_surface(upsample(height), None, views=["ventral"], limits=(-50, 50)))
    np.testing.assert_array_equal(coarse, full)


def test_missing_values_stay_grey(height):
    half = height.copy()
    half[:] = np.nan
    half[:100] = height[:100]
    assert colourful(pixels(plot_surface(half, None))) < colourful(
        pixels(plot_surface(height, None))
    )
    bare = plot_surface(None, None, views=["lateral"])
    assert colourful(pixels(bare)) == 0
    assert len(bare.axes) == 2  # two brains, no colour bar
    assert (pixels(bare) < 250).any(axis=2).mean() > 0.3  # the brains are there


def test_what_is_written(height):
    figure = plot_surface(height, height, title="Height", label="height (mm)", simulated=True)
    written = texts(figure)
    assert {"Height", SIMULATED_NOTE} <= set(written)
    assert "A  ←  left, lateral  →  P" in written
    assert "P  ←  right, ventral  →  A" in written
    assert figure.axes[-1].get_xlabel() == "height (mm)"
    assert SIMULATED_NOTE not in texts(plot_surface(height, height))


def test_rois_are_outlined_and_named_where_they_are_seen(height):
    around = np.flatnonzero(load_packaged("lh", "infl")[0][:, 1] < -80)
    empty = np.empty(0, dtype=np.int64)
    figure = plot_surface(height, None, views=["posterior"], rois={"pole": (around, empty)})
    # On fsaverage these are scattered vertices; smoothing leaves no region to outline.
    assert "pole" not in texts(figure)
    pole = np.flatnonzero(upsample(load_packaged("lh", "infl")[0][:, 1]) < -80)
    figure = plot_surface(height, None, views=["posterior"], rois={"pole": (pole, empty)})
    assert texts(figure).count("pole") == 1


def surface_map(lh, rh, name="mean over 3 images", units="z", mesh="fsaverage5", **provenance):
    vertices = [np.flatnonzero(np.isfinite(values)) for values in (lh, rh)]
    values = [each[kept] for each, kept in zip((lh, rh), vertices, strict=True)]
    return SurfaceMap(*values, *vertices, name, units, mesh, provenance)


def test_a_surface_map_is_drawn_as_its_arrays_and_says_what_it_shows(height):
    part = np.where(np.arange(len(height)) % 100 < 70, height, np.nan)
    given = surface_map(part, -part, simulated=True)
    figure = plot_surface(given)
    expected = plot_surface(
        part,
        -part,
        title="mean over 3 images",
        label="in silico response (z)",
        simulated=True,
    )
    assert texts(figure) == texts(expected)
    np.testing.assert_array_equal(pixels(figure), pixels(expected))
    said = plot_surface(given, title="", label="mine", views=["dorsal"])
    assert "mean over 3 images" not in texts(said)
    assert SIMULATED_NOTE in texts(said)
    assert said.axes[-1].get_xlabel() == "mine"


def test_the_labels_of_surface_maps(height):
    long = "/".join(["folder"] * 20) + "/cat.jpg"
    figure = plot_surface(surface_map(height, height, long, "z²", subject=1), views=["dorsal"])
    assert figure.axes[-1].get_xlabel() == "z²"
    assert SIMULATED_NOTE not in texts(figure)
    (title,) = [text for text in texts(figure) if text.endswith("/cat.jpg")]
    assert title.startswith("…")
    assert len(title) < 60


@pytest.mark.parametrize("level", [2, 6])
def test_surface_maps_of_other_meshes_are_drawn(height, level):
    lh = upsample(height[: n_vertices(min(level, 5))], level)
    figure = plot_surface(surface_map(lh, lh, mesh=f"fsaverage{level}"), views=["lateral"])
    assert colourful(pixels(figure)) > 0.1
    if level == 6:
        array = plot_surface(lh, lh, views=["lateral"], title="mean over 3 images")
        np.testing.assert_array_equal(pixels(figure), pixels(array))


@pytest.mark.parametrize(
    ("axis", "sign", "view"),
    [(1, -1, "posterior"), (2, 1, "dorsal")],
)
def test_a_part_of_the_surface_is_drawn_from_where_it_is_seen(height, axis, sign, view):
    place = sign * load_packaged("lh", "infl")[0][:, axis]
    part = np.where(place > np.percentile(place, 97), height, np.nan)
    nothing = np.full(len(part), np.nan)
    figure = plot_surface(surface_map(part, nothing))
    assert any(f"left, {view}" in text for text in texts(figure))
    assert len(figure.axes) == 2 * 2 + 1
    assert colourful(pixels(figure)) > 0.01


def test_what_is_no_map_points_to_surface_maps(height):
    with pytest.raises(InvalidParameterError, match=r"\(3,\)(.*\n)*.*plot_surface\(surface_map\)"):
        plot_surface(np.zeros(3), np.zeros(3))
    with pytest.raises(InvalidParameterError, match=r"<Responses (.*\n)*.*mean_over_images"):
        plot_surface(lazy_responses.responses())
    given = surface_map(height, height)
    with pytest.raises(InvalidParameterError, match=r"another map beside it\n.*<SurfaceMap"):
        plot_surface(given, height)


@pytest.mark.parametrize("view", ["lateral", "ventral"])
def test_left_is_left(height, view):
    """Only the left hemisphere has a map: the colours are in the left half of the figure."""
    picture = pixels(plot_surface(height, None, views=[view], limits=(-20, 20)))
    picture = picture[: int(0.6 * len(picture))]  # above the colour bar
    half = picture.shape[1] // 2
    assert colourful(picture[:, :half]) > 0.2
    assert colourful(picture[:, half:]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lh": np.zeros(100)}, r"(?s)lh map.*\(100,\).*163842"),
        ({"rh": np.zeros((2, 10242))}, r"(?s)rh map.*\(2, 10242\)"),
        ({"lh": np.array(["a"] * 10242)}, "lh map"),
        ({"lh": np.full(10242, np.nan)}, "nothing to draw"),
        ({"views": ["front"]}, "unknown views"),
        ({"views": []}, "unknown views"),
        ({"limits": (1, 1)}, "limits do not ascend"),
        ({"limits": (0, np.nan)}, "limits do not ascend"),
        ({"cmap": "no such"}, "no such colour map"),
        ({"rois": {"V1v": (np.array([163_842]), np.array([0]))}}, "'V1v' holds what is no vertex"),
    ],
)
def test_bad_input(changes, message):
    good = {"lh": np.ones(10242), "rh": None}
    with pytest.raises(InvalidParameterError, match=message):
        plot_surface(**(good | changes))


def test_photographs_with_their_responses(height):
    rng = np.random.default_rng(0)
    photographs = rng.integers(0, 256, (3, 3, 20, 20), dtype=np.uint8)
    maps = np.stack([height, -height, height / 2])
    figure = plot_photograph_responses(photographs, maps, maps, simulated=True)
    # Per photograph itself and four brains, then the colour bar.
    assert len(figure.axes) == 3 * 5 + 1
    assert SIMULATED_NOTE in texts(figure)
    low, high = figure.axes[-1].get_xlim()
    assert low == -high
    assert figure.axes[-1].get_xlabel() == "in silico response (z)"
    np.testing.assert_array_equal(
        figure.axes[0].images[0].get_array(), photographs[0].transpose(1, 2, 0)
    )
    assert colourful(pixels(figure)) > 0.1


def test_a_name_with_dollars_is_no_formula(height):
    pole = np.flatnonzero(upsample(height) > 60)
    rois = {"$x^2$": (pole, np.empty(0, np.int64))}
    figure = plot_surface(height, None, title="from $a_1$ to $b", views=["dorsal"], rois=rois)
    named = [t for axes in figure.axes for t in axes.texts if t.get_text() == "$x^2$"]
    assert len(named) == 2  # and its halo
    assert not any(text.get_parse_math() for text in [*named, figure.texts[0]])
    pixels(figure)


@pytest.mark.parametrize(
    ("shape", "dtype", "n_maps", "message"),
    [
        ((1, 20, 20, 3), np.uint8, 1, "not a batch of RGB"),
        ((1, 3, 20, 20), np.float32, 1, "not a batch of RGB"),
        ((2, 3, 20, 20), np.uint8, 1, "2 photographs, 1 and 1 rows"),
        ((0, 3, 20, 20), np.uint8, 0, "each photograph needs"),
    ],
)
def test_bad_photographs(shape, dtype, n_maps, message):
    maps = np.ones((n_maps, 10242))
    with pytest.raises(InvalidParameterError, match=message):
        plot_photograph_responses(np.zeros(shape, dtype=dtype), maps, maps)


def test_scale_is_symmetric_only_for_both_signs():
    ramp = np.linspace(0, 1, 1001)
    scale = colour_scale([ramp])
    # 99.5th percentile of 0, 0.001, ..., 1, exact to rounding
    assert (scale.low, scale.cmap) == (0.0, "viridis")
    assert scale.high == pytest.approx(0.995)
    scale = colour_scale([-2 * ramp, ramp])
    assert (scale.low, scale.cmap) == (-scale.high, "RdBu_r")
    assert 1 < scale.high < 2


def test_a_symmetric_scale_of_maps_with_one_sign():
    ramp = np.linspace(0, 1, 1001)
    scale = symmetric_scale([ramp, np.full(3, np.nan)])
    assert (scale.low, scale.cmap, scale.extend) == (-scale.high, "RdBu_r", "both")
    assert scale.high == pytest.approx(0.995)


@pytest.mark.parametrize(
    ("values", "limits", "ends"),
    [
        ([0, 1], None, "max"),
        ([-1, 1], None, "both"),
        ([0, 1], (0.2, 0.8), "both"),
        ([0, 1], (0, 0.8), "max"),
        ([-1, 1], (0, 0.8), "both"),  # what is below zero has the colour of zero
        ([0.5, 1], (-1, 0.8), "max"),
    ],
)
def test_ends_of_the_bar_beyond_which_values_may_lie(values, limits, ends):
    assert colour_scale([np.array(values, float)], limits=limits).extend == ends


def test_scale_of_rare_and_of_no_values():
    rare = np.zeros(1000)
    rare[0] = 3.0
    assert colour_scale([rare]).high == 3.0
    assert colour_scale([np.zeros(10)]).high == 1.0


def test_opacity_by_hand():
    both = ColourScale(low=-1, high=1, cmap="RdBu_r")
    np.testing.assert_allclose(
        both.opacity(np.array([0.0, 0.15, -0.15, 0.3, 2.0, np.nan])), [0, 0.5, 0.5, 1, 1, 0]
    )
    cut = ColourScale(low=-1, high=1, cmap="RdBu_r", threshold=0.2)
    np.testing.assert_array_equal(cut.opacity(np.array([0.1, -0.2, np.nan])), [0, 1, 0])
    one_sided = ColourScale(low=0, high=1, cmap="viridis")
    np.testing.assert_array_equal(one_sided.opacity(np.array([0.0, np.nan])), [1, 0])


def test_paint_shows_the_colour_of_the_bar():
    import matplotlib as mpl

    seen = surface_view("lh", "lateral", 2.0)
    scale = ColourScale(low=0, high=1, cmap="viridis")
    picture = paint(seen, "lh", np.full(163_842, 0.5), scale).reshape(-1, 4)
    brightest = picture[seen.pixels[np.argmax(seen.light)], :3] / 255
    # In full light the colour itself; 1/255 for rounding, 0.01 for light just under full.
    np.testing.assert_allclose(brightest, mpl.colormaps["viridis"](0.5)[:3], atol=0.015)
    outside = np.setdiff1d(np.arange(len(picture)), seen.pixels)
    assert (picture[outside, 3] == 0).all()
    assert (picture[seen.pixels, 3] == 255).all()


def test_without_matplotlib_the_extra_is_named(monkeypatch, height):
    monkeypatch.setattr("berg.plotting.figures.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install \"berg\[plot\]\""):
        plot_surface(height, height)
    photographs = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    with pytest.raises(MissingExtraError, match=r"pip install \"berg\[plot\]\""):
        plot_photograph_responses(photographs, height[None], height[None])


def test_no_global_state_and_no_heavy_import():
    code = (
        "import sys, berg.plotting; assert 'matplotlib' not in sys.modules;"
        "import numpy as np; berg.plotting.plot_surface(np.ones(10242), None, views=['ventral']);"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'nilearn' not in sys.modules;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
