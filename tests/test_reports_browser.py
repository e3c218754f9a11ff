"""Pages in headless Chromium: what a person sees, and what their choices change."""

import io
import os
import re
import shutil
from base64 import b64decode
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

from berg import write_report
from berg.plotting.accuracy_maps import MEASURES
from berg.reports import pictures
from berg.responses import SavedResponses
from berg.surface.fsaverage import faces, load_packaged, n_vertices, upsample
from berg.surface.painting import colour_scale, paint
from berg.surface.raster import _rasterise, surface_view
from conftest import MODEL_ID
from report_fixture import HEMIS, N, berg_dir, metadata, photographs, responses, rois, write_npz
from report_fixture import Page as MapsOf

NAMES = ("photos/cat.png", "photos/dog.png", "house.png")
# WebGL 2 by the processor, and nothing that would call home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]


def find_chromium():
    """The browser to test with; without one tests are skipped, unless they must not be."""
    candidates = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("BERG_CHROMIUM") or next(
        filter(None, map(shutil.which, candidates)), None
    )
    if found is None and os.environ.get("BERG_REQUIRE_CHROMIUM") == "1":
        pytest.fail("BERG_REQUIRE_CHROMIUM is set, and there is no Chromium: set BERG_CHROMIUM")
    if found is None:
        pytest.skip("no Chromium: install it, or set BERG_CHROMIUM to its path")
    return found


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of responses and one of a model, and the responses."""
    folder = tmp_path_factory.mktemp("pages")
    models = berg_dir(folder)
    photographs(folder, NAMES[:2])
    path, saved = write_npz(folder, NAMES)
    return (
        write_report(path, folder / "responses.html", berg_dir=models),
        write_report(MODEL_ID, folder / "model.html", berg_dir=models),
        saved,
    )


@pytest.fixture
def open_page(browser):
    """Open a page; afterwards, see that it complained of nothing and fetched nothing."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    said, asked = [], []

    def opened(path, **size) -> Tab:
        tab = context.new_page()
        if size:
            tab.set_viewport_size(size)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        settle(tab)
        return tab

    yield opened
    context.close()
    assert said == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in asked) == 1  # the page itself


def settle(tab: Tab) -> None:
    """Wait until what was asked for is drawn."""
    tab.evaluate(
        "() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
    )


def picture(tab: Tab) -> np.ndarray:
    """Pixels of the brain, int, (height, width, 4)."""
    uri = tab.evaluate("() => document.querySelector('#brain').toDataURL()")
    with Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA")).astype(int)


def bar_numbers(tab: Tab) -> dict[str, list[str]]:
    return {
        row.get_attribute("data-region"): row.locator("b").all_inner_texts()
        for row in tab.locator(".bar-row").all()
    }


def written(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−")


def test_the_brain_is_drawn(open_page, pages):
    tab = open_page(pages[0])
    pixels = picture(tab)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 1000
    covered = (pixels[..., 3] == 255).mean()
    assert 0.15 < covered < 0.9  # a brain, with room around it
    seen = np.asarray(Image.open(io.BytesIO(tab.locator("#brain").screenshot())).convert("RGB"))
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 1000  # on the screen too


def test_the_picker_changes_map_bars_and_heading(open_page, pages):
    tab, saved = open_page(pages[0]), pages[2]
    before = picture(tab)
    tab.get_by_role("radio", name=NAMES[1]).focus()
    tab.keyboard.press("ArrowRight")  # by keyboard: from the second to the third
    settle(tab)
    assert tab.get_by_role("radio", name=NAMES[2]).is_checked()
    assert tab.locator("#map-title").inner_text() == NAMES[2]
    changed = (np.abs(picture(tab) - before).max(axis=-1) > 16).mean()
    assert changed > 0.05
    found = bar_numbers(tab)
    assert set(found) == {"V1v", "FFA-2", "nsdgeneral"}
    for name, texts in found.items():
        for hemi, text in zip(HEMIS, texts, strict=True):
            inside = getattr(saved, hemi)[2, rois(hemi)[name]].astype(float)
            assert text == written(inside.mean() if len(inside) else np.nan)


def test_bars_of_all_images_share_one_scale(open_page, pages):
    tab, saved = open_page(pages[0]), pages[2]
    means = {
        (number, name, hemi): getattr(saved, hemi)[number, rois(hemi)[name]].astype(float).mean()
        for number in range(len(NAMES))
        for name in ("V1v", "FFA-2", "nsdgeneral")
        for hemi in HEMIS
        if len(rois(hemi)[name])
    }
    longest = max(map(abs, means.values()))
    assert min(means.values()) < 0
    for number, name in enumerate(NAMES):
        tab.get_by_role("radio", name=name).check()
        ends = tab.locator("#bar-ends span").all_inner_texts()
        assert ends == [written(-longest), "0", f"{written(longest)} z"]
        for (of, region, hemi), mean in means.items():
            if of == number:
                bar = tab.locator(f".bar-row[data-region={region}] i.{hemi}")
                style = bar.evaluate("e => [parseFloat(e.style.left), parseFloat(e.style.width)]")
                share = 50 * abs(mean) / longest
                assert style == pytest.approx([50 - share * (mean < 0), share], abs=0.01)


def test_its_greys_and_light_are_those_of_the_still_maps(open_page, tmp_path):
    values = {"lh": np.ones((1, N), np.float32), "rh": np.full((1, N), np.nan, np.float32)}
    saved = responses(["a"], **values, provenance={"mesh": "fsaverage5"})
    tab = open_page(write_report(saved, tmp_path / "r.html", berg_dir=tmp_path))
    tab.locator("label.choice", has_text="right").click()
    tab.get_by_role("button", name="right", exact=True).click()
    settle(tab)
    still = paint(
        surface_view("rh", "lateral", 0.45),
        "rh",
        np.full(n_vertices(), np.nan),
        colour_scale([np.ones(1)]),
    )
    seen, expected = (each[each[..., 3] == 255][:, :3] for each in (picture(tab), still))
    levels = [10, 25, 50, 75, 90]  # percent of the pixels; the rims are left out
    np.testing.assert_allclose(
        np.percentile(seen, levels), np.percentile(expected, levels), rtol=0, atol=2
    )


def test_pointing_reads_the_vertex_that_is_there(open_page, pages):
    tab, saved = open_page(pages[0]), pages[2]
    tab.get_by_role("radio", name=NAMES[1]).check()
    tab.locator("#brain").scroll_into_view_if_needed()
    tab.get_by_role("button", name="left", exact=True).click()
    settle(tab)
    box = tab.locator("#brain").bounding_box()
    mm = 1.25 * min(box["width"] / 240, box["height"] / 225)  # pixels a millimetre: page/brain.js
    places = load_packaged("lh", "infl")[0]
    for across, up in ((60.0, -10.0), (-40.0, 20.0), (90.0, -5.0)):  # mm right and up of the middle
        x, y = box["width"] / 2 + across * mm, box["height"] / 2 - up * mm
        tab.mouse.move(box["x"] + x, box["y"] + y)
        hover = tab.locator("#hover")
        assert hover.get_attribute("data-hemi") == "lh"  # the right one is behind it
        vertex = int(hover.get_attribute("data-vertex"))
        # Seen from the left, the picture's right is the back, and up is up.
        assert np.hypot(-places[vertex, 1] - across, places[vertex, 2] - up) < 3
        assert places[vertex, 0] < 0  # on the side that is seen
        where, value, regions = (each.inner_text() for each in hover.locator("span").all())
        assert where == f"left hemisphere, vertex {vertex}"
        expected = saved.lh[1, vertex]
        assert float(value.removesuffix(" z").replace("−", "-")) == pytest.approx(
            expected, abs=6e-4
        )
        inside = [name for name, vertices in rois("lh").items() if vertex in vertices]
        assert regions == ", ".join(inside)
    tab.mouse.move(box["x"] + 3, box["y"] + 3)
    assert tab.locator("#hover").is_hidden()


@pytest.mark.parametrize("level", [5, 6])
def test_what_is_read_is_what_is_seen_of_folds_and_slopes(open_page, tmp_path, level, monkeypatch):
    monkeypatch.setattr(pictures, "_MM_PER_PIXEL", 2.0)  # still maps, which are not looked at
    n, rng = n_vertices(level), np.random.default_rng(1)
    saved = SavedResponses(
        **{hemi: rng.standard_normal((1, n)).astype(np.float32) for hemi in HEMIS},
        **{f"{hemi}_vertices": np.arange(n) for hemi in HEMIS},
        names=("noise",),
        provenance={"mesh": f"fsaverage{level}", "subject": 1},
    )
    tab = open_page(write_report(saved, tmp_path / "r.html", berg_dir=tmp_path))
    width, height = 660, 540  # at the window's corner, so that pixels are whole
    tab.locator("#brain").evaluate(
        f"e => e.style.cssText = 'position: fixed; inset: 0; width: {width}px; height: {height}px'"
    )
    mm = 1.1 * min(width / 240, height / 225)  # pixels a millimetre, as in page/brain.js
    below = np.deg2rad(15)  # as it opens: both hemispheres, from behind and below
    right, up = [1, 0, 0], [0, -np.sin(below), np.cos(below)]
    axes = np.array([right, up, np.cross(right, up)]).T
    triangles = np.concatenate([faces(level), faces(level) + n])
    pixels = rng.choice(width * height, 250, replace=False)
    for surface, file, shifts in (
        ("inflated", "infl", [(-44, 0, 0), (44, 0, 0)]),
        ("pial", "pial", [(0, 18, -15)] * 2),
    ):
        tab.evaluate("s => document.querySelector(`[name=surface][value=${s}]`).click()", surface)
        settle(tab)
        settle(tab)
        found = tab.evaluate(
            """(pixels) => pixels.map(([row, column]) => {
                const at = { clientX: column, clientY: row, pointerId: 1 };
                document.querySelector("#brain").dispatchEvent(new PointerEvent("pointermove", at));
                const { hidden, dataset } = document.querySelector("#hover");
                return hidden ? null : [dataset.hemi, Number(dataset.vertex)];
            })""",
            np.transpose(np.unravel_index(pixels, (height, width))).tolist(),
        )
        # The z-buffer of the still maps tells which face is in front.
        places = [
            (upsample(load_packaged(hemi, file)[0], level) + shift) @ axes
            for hemi, shift in zip(HEMIS, shifts, strict=True)
        ]
        x, y, depth = np.concatenate(places).T
        corners, weights = _rasterise(
            width / 2 + x * mm, height / 2 - y * mm, depth, triangles, (height, width)
        )
        nearest = np.take_along_axis(corners, weights.argmax(axis=1)[:, None], 1)[pixels, 0]
        expected = [None if at < 0 else [HEMIS[at // n], int(at % n)] for at in nearest]
        assert 50 < sum(each is not None for each in expected) < 200
        # The page has positions to 1/256 mm: midway between two vertices either may be nearer.
        n_same = sum(one == other for one, other in zip(found, expected, strict=True))
        assert n_same >= 0.99 * len(pixels)


def test_it_turns_zooms_inflates_and_outlines(open_page, pages):
    tab = open_page(pages[0])
    tab.locator("#brain").scroll_into_view_if_needed()
    box = tab.locator("#brain").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag():
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x + 120, y + 10)
        tab.mouse.up()

    before = picture(tab)
    for act in (
        drag,
        lambda: tab.locator("#brain").press("ArrowUp"),
        lambda: tab.get_by_role("button", name="Larger").click(),
        lambda: tab.get_by_text("pial").click(),
        lambda: tab.locator("label.choice", has_text="right").click(),
        lambda: tab.get_by_role("button", name="behind").click(),
        lambda: tab.locator("#region").select_option("V1v"),
    ):
        act()
        settle(tab)
        settle(tab)
        after = picture(tab)
        assert after.shape == before.shape
        assert (np.abs(after - before).max(axis=-1) > 16).sum() > 100
        before = after
    assert tab.locator(".bar-row[data-region=V1v]").get_attribute("aria-pressed") == "true"
    tab.locator("button[data-outline=nsdgeneral]").click()  # in the matrix
    assert tab.locator("#region").input_value() == "nsdgeneral"


def test_the_mesh_that_the_page_computes_is_fsaverage6(open_page, pages):
    tab = open_page(pages[0])
    script = (resources.files("berg.reports") / "page" / "mesh.js").read_text(encoding="utf-8")
    depth = load_packaged("lh", "sulc")[0]
    found_faces, found_depth = tab.evaluate(
        f"""([icosahedron, depth]) => {{
            {script}
            const topology = buildTopology(icosahedron);
            return [[...topology.faces], [...upsample(depth, 1, topology)]];
        }}""",
        [faces(0).ravel().tolist(), depth.tolist()],
    )
    np.testing.assert_array_equal(np.reshape(found_faces, (-1, 3)), faces(6))
    # Both in float32, summed in another order.
    np.testing.assert_allclose(found_depth, upsample(depth, 6), rtol=0, atol=1e-6)


def test_a_page_of_a_model_shows_another_map_when_asked(open_page, pages):
    tab = open_page(pages[1])
    before = picture(tab)
    assert len(np.unique(before.reshape(-1, 4), axis=0)) > 500
    step = MapsOf(pages[1]).data["groups"][0]["maps"][0]["step"]
    assert 0.001 < step < 0.01  # of explained variance in percent
    shown = tab.evaluate(
        """() => {
            const canvas = document.querySelector("#brain");
            const { left, top, width, height } = canvas.getBoundingClientRect();
            const texts = [];
            for (let share = 0.2; share < 0.8; share += 0.02) {
                const at = { clientX: left + share * width, clientY: top + height / 2 };
                canvas.dispatchEvent(new PointerEvent("pointermove", { ...at, pointerId: 1 }));
                texts.push(document.querySelector("#hover span:nth-child(2)")?.textContent);
            }
            return texts;
        }"""
    )
    # No more decimals than the page knows.
    assert any(re.fullmatch(r"\d+\.\d\d %", text or "") for text in shown)
    assert not any(re.fullmatch(r"\d+\.\d\d\d+ %", text or "") for text in shown)
    tab.get_by_role("radio", name="Noise ceiling, NSD-core", exact=True).check()
    settle(tab)
    assert (np.abs(picture(tab) - before).max(axis=-1) > 16).mean() > 0.05
    ceiling = metadata()["encoding_models"]["rh_noise_ceiling_nsdcore"][rois("rh")["V1v"]]
    assert bar_numbers(tab)["V1v"][1] == written(np.median(ceiling[ceiling >= 0.1]))
    assert tab.locator("#colour-bar .label").inner_text() == MEASURES["noise_ceiling"].label


@pytest.mark.parametrize("page", [0, 1])
def test_a_narrow_screen_scrolls_in_one_direction_only(open_page, pages, page):
    tab = open_page(pages[page], width=400, height=800)
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 400
    assert tab.locator("#brain").bounding_box()["width"] > 300


def test_without_webgl_the_still_maps_remain(open_page, pages, tmp_path):
    text = pages[0].read_text(encoding="utf-8")
    without = tmp_path / "without.html"
    without.write_text(text.replace('getContext("webgl2"', 'getContext("none"'), encoding="utf-8")
    tab = open_page(without)
    assert tab.locator("#no-brain").is_visible()
    assert tab.locator("#stage").is_hidden()
    tab.get_by_role("radio", name=NAMES[2]).check()
    assert tab.locator("#map-title").inner_text() == NAMES[2]
    assert tab.locator(".pair img").nth(1).is_visible()


def test_a_name_that_is_markup_runs_nothing(open_page, tmp_path):
    evil = "<img src=x onerror=\"document.title='evil'\"></script><script>alert(1)</script>"
    tab = open_page(write_report(responses([evil]), tmp_path / "r.html", berg_dir=tmp_path))
    assert tab.title() == "In silico fMRI responses"
    assert tab.locator("#map-title").inner_text() == evil
