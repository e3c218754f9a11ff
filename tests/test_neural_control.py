"""The example that synthesises images, on the tiny model; at full size, in `test_demo`."""

from dataclasses import replace

import numpy as np
import pytest
from examples import neural_control
from PIL import Image

from berg import BERG, catalog
from berg.errors import InvalidParameterError
from berg.metadata import save_metadata
from berg.weights import save_npy
from conftest import MODEL_ID, ROIS, tiny_card

UP, DOWN = "V1v", "OWFA"


@pytest.fixture(scope="module")
def berg_dir(tmp_path_factory, cache_dir, tiny_parts, tiny_metadata):
    """As the fixture `tiny` makes it, but once."""
    folder = tmp_path_factory.mktemp("tiny")
    card = tiny_card()
    files = card.files(folder)
    save_npy(files.weights_npy(1), *tiny_parts)
    save_metadata(files.metadata(1), tiny_metadata)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        patch.setattr(catalog, "load_cards", lambda: {MODEL_ID: card})
        patch.setattr(neural_control, "N_PHOTOGRAPHS", 16)
        yield folder


@pytest.fixture(scope="module")
def control(berg_dir):
    model = BERG(berg_dir).get_encoding_model(MODEL_ID, "cpu", {"roi": [UP, DOWN]}, subject=1)
    return neural_control.synthesise(model, (UP, DOWN), steps=6, seed=0, reach=6)


def test_the_8_bit_images_drive_the_regions_as_they_should(berg_dir, control):
    berg = BERG(berg_dir)
    whole = berg.get_encoding_model(MODEL_ID, "cpu", subject=1)
    lh, rh = berg.encode(whole, control.images, show_progress=False)
    up, down = (
        np.concatenate([lh[:, ROIS[roi]["lh"]], rh[:, ROIS[roi]["rh"]]], axis=1).mean(axis=1)
        for roi in (UP, DOWN)
    )
    start, image, mirror = range(3)
    assert up[image] > up[start] > up[mirror]
    assert down[image] < down[start] < down[mirror]
    # The example's own means, of float32 responses.
    np.testing.assert_allclose(control.means, np.stack([up, down], axis=1), rtol=0, atol=1e-4)


def test_it_goes_beyond_photographs_towards_its_targets(control):
    usual, spread = control.photographs.mean(axis=0), control.photographs.std(axis=0)
    np.testing.assert_allclose(control.targets[0], usual + 6 * spread * [1, -1], rtol=1e-4)
    np.testing.assert_allclose(control.targets[1], usual - 6 * spread * [1, -1], rtol=1e-4)
    distance = np.abs(control.course - control.targets) / spread
    assert (distance[-1] < distance[0]).all()


def test_8_bits_change_little(control):
    # The last step's images, before the rounding by half a grey level.
    rounding = np.abs(control.course[-1] - control.means[1:])
    assert (rounding < 0.1 * np.abs(control.means[1:] - control.means[0])).all()


def test_the_same_seed_gives_the_same_image(control):
    again = neural_control.to_images(neural_control.draw_spectrum(0))
    np.testing.assert_array_equal((again[0].numpy() * 255).round(), control.images[0])
    other = neural_control.to_images(neural_control.draw_spectrum(1))
    assert (again - other).abs().mean() > 0.05


def test_it_says_when_a_region_did_not_move_as_it_should(control):
    for region in range(2):
        means = control.means.copy()
        means[1, region] = means[0, region]
        with pytest.raises(SystemExit, match="did not move"):
            neural_control.verify(replace(control, means=means))


def test_it_prints_the_responses_and_writes_a_picture(berg_dir, tmp_path, capsys):
    out = tmp_path / "control.png"
    options = ["--up", UP, "--down", DOWN, "--steps", "4"]
    neural_control.main([*options, "--berg-dir", str(berg_dir), "--out", str(out)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].split() == [UP, DOWN]
    assert [line.split("  ")[0] for line in printed[3:6]] == [
        "start",
        f"{UP} up, {DOWN} down",
        f"{UP} down, {DOWN} up",
    ]
    with Image.open(out) as picture:
        assert picture.width > 2000


def test_a_region_that_the_subject_lacks_is_refused(berg_dir, capsys):
    options = ["--up", UP, "--down", "mTL-bodies", "--berg-dir", str(berg_dir)]
    with pytest.warns(match="mTL-bodies"), pytest.raises(SystemExit):
        neural_control.main(options)
    assert "subject 1 has no mTL-bodies" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_so_is_told_before_the_work(tmp_path):
    with pytest.raises(InvalidParameterError, match="'jpg'"):
        neural_control.main(["--berg-dir", str(tmp_path), "--out", "control.jpg"])


def test_two_regions_are_needed(capsys):
    with pytest.raises(SystemExit):
        neural_control.main(["--up", UP, "--down", UP])
    assert "the same region" in capsys.readouterr().err
