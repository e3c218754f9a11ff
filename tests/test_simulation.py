import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import pearsonr

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.converted import FORMAT, FORMAT_VERSION
from berg.errors import InvalidParameterError, MissingExtraError, ResourceError
from berg.files import sha256_of
from berg.metadata import load_metadata, save_metadata
from berg.simulation import natural_images as images_module
from berg.simulation import replacing, simulate_subject
from berg.simulation import responses as responses_module
from berg.simulation.replacing import put_in_place_together
from berg.simulation.subject import alexnet_features, stream
from berg.surface import fsaverage
from berg.weights import load_npy

LEVEL, N_VERTICES, N_COMPONENTS = 3, 642, 12
CARD = find_card(DEFAULT_MODEL_ID)


def extract(images):
    """A small untrained network: random projections of 16-pixel blocks, and a ReLU."""
    rng = np.random.default_rng(9)
    blocks = images.reshape(len(images), 3, 16, 16, 16, 16).mean(axis=(3, 5)).reshape(-1, 768)
    return np.maximum(blocks / 64 @ rng.standard_normal((768, 400)), 0).astype(np.float32)


def simulate(folder, subject=1, **changes):
    sizes = {"n_train": 60, "n_test": 40, "level": LEVEL, "n_components": N_COMPONENTS}
    options = {"seed": 3, "extract": extract, "show_progress": False}
    return simulate_subject(folder, subject, **(sizes | options | changes))


@pytest.fixture(scope="module")
def berg_dir(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module")
def metadata(berg_dir):
    return load_metadata(CARD.files(berg_dir).metadata(1), n_vertices=N_VERTICES)


@pytest.fixture(scope="module")
def maps(metadata):
    return metadata["fmri"] | metadata["encoding_models"]


@pytest.fixture(scope="module")
def weights(berg_dir):
    return load_npy(CARD.files(berg_dir).weights_npy(1))


def test_the_layout_is_the_real_one(berg_dir):
    model = "encoding_models/modality-fmri/train_dataset-nsd_fsaverage/model-alexnet_untrained"
    assert (berg_dir / model / "encoding_models_weights/weights_subject-01.npy").is_file()
    assert (berg_dir / model / "metadata/metadata_subject-01.npy").is_file()


def test_weights_have_the_sizes_asked_for(weights):
    assert weights.projection.shape == (N_COMPONENTS, 400)
    for coef, intercept in (
        (weights.lh_coef, weights.lh_intercept),
        (weights.rh_coef, weights.rh_intercept),
    ):
        assert coef.shape == (N_VERTICES, N_COMPONENTS)
        assert intercept.shape == (N_VERTICES,)


def test_metadata_have_every_key_of_the_card(metadata):
    for part, keys in CARD.facts["metadata"].items():
        wanted = {key.format(hemi=hemi) for key in keys for hemi in ("lh", "rh")}
        assert set(metadata[part]) == wanted


def test_maps_are_float32_and_numbers_are_integers(maps):
    for key, values in maps.items():
        if key.endswith("_rois"):
            assert list(values) == list(CARD.rois)
            assert all(indices.dtype.kind == "i" for indices in values.values())
        elif key.endswith("_num"):
            assert values.dtype.kind == "i"
        else:
            assert (values.dtype, values.shape) == (np.float32, (N_VERTICES,))
    assert not set(maps["train_img_num"]) & set(maps["test_img_num"])


def test_regions_have_the_cards_sizes_scaled_to_the_mesh(maps):
    for hemi in ("lh", "rh"):
        for name, sizes in CARD.rois.items():
            assert len(maps[f"{hemi}_fsaverage_rois"][name]) == np.ceil(sizes[hemi] / 4**4)


def test_it_says_simulated(metadata):
    provenance = metadata["provenance"]
    assert provenance["simulated"] is True
    assert "never measured" in provenance["note"]
    assert (provenance["seed"], provenance["n_train"], provenance["level"]) == (3, 60, LEVEL)
    assert {"berg", "numpy", "torch"} <= set(provenance["versions"])
    assert provenance["simulation_version"] == 2
    assert provenance["gamma"].startswith("none: ")
    assert "overlap" in provenance["stimuli"]
    assert "over the test images" in provenance["noise"]
    assert "25%" in provenance["ground_truth"]


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_noise_ceilings_follow_from_ncsnr_and_design(maps, hemi):
    core = maps[f"{hemi}_ncsnr"].astype(float) ** 2
    synthetic = maps[f"{hemi}_ncsnr_nsdsynthetic"].astype(float) ** 2
    found = maps[f"{hemi}_noise_ceiling_nsdcore"]
    np.testing.assert_allclose(found, core / (core + 1 / 3), rtol=1e-5)  # float32
    found = maps[f"{hemi}_noise_ceiling_nsdsynthetic"]
    np.testing.assert_allclose(found, synthetic / (synthetic + 0.45), rtol=1e-5)


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_accuracy_is_real(maps, hemi):
    visual = maps[f"{hemi}_fsaverage_rois"]["nsdgeneral"]
    ceiling = maps[f"{hemi}_noise_ceiling_nsdcore"]
    correlation = maps[f"{hemi}_correlation_nsdcore"]
    assert np.median(correlation[visual]) > 0.3  # the truth is mostly linear in the scores
    # Without signal the correlation is that of noise: 0 or above, by 1 / sqrt(40 images).
    silent = ceiling == 0
    assert silent.sum() > 5
    assert correlation[silent].mean() < 0.2
    assert np.isnan(maps[f"{hemi}_explained_variance_nsdcore"][silent]).all()
    # No more is explained than can be, but for chance in 40 images.
    np.testing.assert_array_less((correlation**2 - ceiling)[visual].mean(), 0.05)
    np.testing.assert_allclose(maps[f"{hemi}_r2_nsdcore"], correlation**2, rtol=1e-5)  # float32


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_estimated_ncsnr_of_the_synthetic_set_follows_the_truth(maps, hemi):
    estimate = maps[f"{hemi}_ncsnr_nsdsynthetic"]
    silent = estimate[maps[f"{hemi}_ncsnr"] == 0]
    visual = estimate[maps[f"{hemi}_fsaverage_rois"]["nsdgeneral"]]
    # Of 744 trials of noise, a few percent of the variance look like signal: sqrt gives 0.2.
    assert silent.mean() < 0.15
    assert np.median(visual) > 2 * silent.mean()


def test_maps_are_those_of_the_weights(tmp_path, monkeypatch):
    """From the saved weights, the images shown and the responses measured, by SciPy."""
    shown, measured = [], []

    def watch_images(images):
        shown.append(images)
        return extract(images)

    def watch_responses(responses, *args, **options):
        measured.append(responses.copy())
        return score(responses, *args, **options)

    score = responses_module.score_responses
    monkeypatch.setattr(responses_module, "score_responses", watch_responses)
    monkeypatch.setattr(responses_module, "_VERTEX_BLOCK", 300)  # three blocks, in their order
    monkeypatch.setattr(responses_module, "_N_WORKERS", 1)
    files = CARD.files(simulate(tmp_path, extract=watch_images))
    weights, maps = load_npy(files.weights_npy(1)), load_metadata(files.metadata(1))
    images = {"nsdcore": slice(60, 100), "nsdsynthetic": slice(100, None)}
    assert len(measured) == 2 * 3 * 2  # hemispheres, blocks, sets
    for h, hemi in enumerate(("lh", "rh")):
        for d, (dataset, kept) in enumerate(images.items()):
            features = extract(np.concatenate(shown)[kept])
            scores = features @ weights.projection.T + weights.offset
            predicted = scores @ vars(weights)[f"{hemi}_coef"].T
            found = maps["encoding_models"][f"{hemi}_correlation_{dataset}"]
            responses = np.hstack(measured[6 * h + d : 6 * h + 6 : 2])
            expected = pearsonr(responses.astype(float), predicted.astype(float)).statistic
            # float32 predictions
            np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-4)


def test_a_part_of_the_signal_is_out_of_the_models_reach(tmp_path):
    files = CARD.files(simulate(tmp_path, n_train=200, n_test=100))
    maps = load_metadata(files.metadata(1))
    for hemi in ("lh", "rh"):
        visual = maps["fmri"][f"{hemi}_fsaverage_rois"]["nsdgeneral"]
        explained = maps["encoding_models"][f"{hemi}_explained_variance_nsdcore"][visual]
        assert 40 < np.median(explained) < 85
        assert (explained == 100).mean() < 0.1


def test_the_same_seed_gives_the_same_subject(tmp_path, berg_dir, maps, weights):
    again = simulate(tmp_path)
    np.testing.assert_array_equal(
        load_npy(CARD.files(again).weights_npy(1)).lh_coef, weights.lh_coef
    )
    repeated = load_metadata(CARD.files(again).metadata(1))["encoding_models"]
    for key, values in repeated.items():
        np.testing.assert_array_equal(values, maps[key])


def test_another_subject_differs_and_comes_beside(berg_dir, maps, capsys):
    simulate(berg_dir, subject=3, show_progress=True)
    shown = capsys.readouterr().err
    assert "Images" in shown
    assert "Vertices" in shown
    files = CARD.files(berg_dir)
    assert files.weights_npy(1).exists()
    other = load_metadata(files.metadata(3))["fmri"]
    assert not np.allclose(other["lh_ncsnr"], maps["lh_ncsnr"])


def test_subjects_share_the_test_images_and_their_numbers_alone(tmp_path):
    def shown_to(subject):
        shown = []

        def watch(images):
            shown.append(images)
            return extract(images)

        files = CARD.files(simulate(tmp_path, subject=subject, extract=watch))
        numbers = load_metadata(files.metadata(subject))["encoding_models"]
        return np.concatenate(shown), numbers["train_img_num"], numbers["test_img_num"]

    (first, train_1, test_1), (second, train_3, test_3) = shown_to(1), shown_to(3)
    assert len(first) == 60 + 40 + 284  # as many as are asked for: none is dropped
    np.testing.assert_array_equal(first[60:], second[60:])
    np.testing.assert_array_equal(test_1, test_3)
    assert not any((a == b).all() for a, b in zip(first[:60], second[:60], strict=True))
    assert len({*train_1, *train_3, *test_1}) == 60 + 60 + 40


def test_streams_of_chance_never_coincide():
    keys = [(), (0,), (0, 0), (0, 1), (1, 0), (1, 0, 0), (1, 4, 0), (1, 4, 0, 0)]
    states = {tuple(stream(seed, *key).generate_state(4)) for seed in (0, 1) for key in keys}
    assert len(states) == 2 * len(keys)


def save_converted(files, source_sha256):
    """Write the header of a converted file, by which its origin is known."""
    info = {"model_id": DEFAULT_MODEL_ID, "subject": "1", "simulated": "true"}
    info |= {"source_sha256": source_sha256, "source_bytes": "1", "source_mtime_ns": "1"}
    info |= {"format": FORMAT, "format_version": FORMAT_VERSION}
    files.weights_safetensors(1).parent.mkdir(parents=True, exist_ok=True)
    save_file({"offset": np.zeros(1, np.float32)}, files.weights_safetensors(1), info)


@pytest.fixture
def copied(tmp_path, berg_dir):
    """Files of a simulated subject that a test may change."""
    shutil.copytree(berg_dir, tmp_path / "copy")
    return CARD.files(tmp_path / "copy")


def contents(files):
    paths = (path for path in files.root.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in paths}


def test_a_simulated_subject_replaces_a_simulated_one_and_its_converted_weights(copied):
    save_converted(copied, sha256_of(copied.weights_npy(1)))
    simulate(copied.berg_dir, seed=4)
    provenance = load_metadata(copied.metadata(1))["provenance"]
    assert provenance["seed"] == 4
    assert provenance["weights_sha256"] == sha256_of(copied.weights_npy(1))
    assert not copied.weights_safetensors(1).exists()


@pytest.mark.parametrize(
    "real",
    [
        {"npy"},
        {"safetensors"},
        {"metadata"},
        {"npy", "metadata"},
        {"npy", "simulated metadata"},
        {"safetensors", "simulated metadata"},
        {"unreadable safetensors", "simulated metadata"},
        {"simulated npy"},
        {"simulated npy", "simulated metadata", "safetensors"},
    ],
    ids=lambda names: " + ".join(sorted(names)),
)
def test_what_may_be_real_is_never_replaced(tmp_path, copied, metadata, real):
    files = CARD.files(tmp_path)
    for path in (files.weights_npy(1), files.metadata(1)):
        path.parent.mkdir(parents=True)
    if "npy" in real:
        files.weights_npy(1).write_bytes(b"540 MB from the bucket")
    if "simulated npy" in real:
        shutil.copy(copied.weights_npy(1), files.weights_npy(1))
    if "safetensors" in real:
        save_converted(files, "0" * 64)
    if "unreadable safetensors" in real:
        files.weights_safetensors(1).write_bytes(b"half a file")
    if "metadata" in real:
        save_metadata(files.metadata(1), {k: v for k, v in metadata.items() if k != "provenance"})
    if "simulated metadata" in real:
        save_metadata(files.metadata(1), metadata)
    before = contents(files)
    with pytest.raises(InvalidParameterError, match="not known to be a simulated one"):
        simulate(tmp_path, extract=None)
    assert contents(files) == before


def test_a_real_subject_that_comes_meanwhile_stays(tmp_path):
    npy = CARD.files(tmp_path).weights_npy(1)

    def download(images):
        npy.write_bytes(b"540 MB from the bucket")
        return extract(images)

    with pytest.raises(InvalidParameterError, match="not known to be a simulated one"):
        simulate(tmp_path, extract=download)
    assert contents(CARD.files(tmp_path)) == {npy.name: b"540 MB from the bucket"}


def test_metadata_left_without_weights_can_be_replaced(copied):
    copied.weights_npy(1).unlink()
    simulate(copied.berg_dir)
    assert copied.weights_npy(1).exists()


def test_a_build_that_fails_changes_nothing(copied):
    def fail(images):
        raise KeyboardInterrupt

    before = contents(copied)
    with pytest.raises(KeyboardInterrupt):
        simulate(copied.berg_dir, seed=4, extract=fail)
    assert contents(copied) == before
    assert not list(copied.root.glob(".simulating-*"))


def test_files_come_whole_and_the_metadata_last(tmp_path, monkeypatch):
    replaced = []

    def watch(source, target):
        assert source.stat().st_size > 5
        replaced.append(target)
        move(source, target)

    move = replacing.os.replace
    files = CARD.files(tmp_path)
    with put_in_place_together(files, 1) as staged:
        for path in (staged.metadata(1), staged.weights_npy(1)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"content")
        assert contents(CARD.files(tmp_path)) != {}  # staged beside them
        assert not files.metadata(1).exists()
        monkeypatch.setattr(replacing.os, "replace", watch)
    assert replaced == [files.weights_npy(1), files.metadata(1)]
    assert len(contents(files)) == 2


def test_a_berg_dir_must_be_given():
    with pytest.raises(TypeError, match="berg_dir"):
        simulate_subject()
    with pytest.raises(InvalidParameterError, match="needs a berg_dir"):
        simulate(None)


def never(images):
    pytest.fail("an image was shown before the failure was found")


@pytest.mark.parametrize("seed", [-1, 1.5, "3", True, None, 2**63])
def test_a_seed_that_is_none(tmp_path, seed):
    with pytest.raises(InvalidParameterError, match="not a seed"):
        simulate(tmp_path, seed=seed, extract=never)


@pytest.mark.parametrize("level", [-1, 8, 2.5])
def test_a_level_that_is_none(tmp_path, level):
    with pytest.raises(InvalidParameterError, match="no such level"):
        simulate(tmp_path, level=level, extract=never)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "encoding_models").write_text("a file where the folder should be")
    with pytest.raises(ResourceError, match="cannot be written"):
        simulate(tmp_path, extract=never)


def test_missing_extras_are_found_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(fsaverage, "find_spec", lambda name: None)
    fsaverage.load_packaged.cache_clear()
    fsaverage.sphere.cache_clear()
    with pytest.raises(MissingExtraError, match="nilearn"):
        simulate(tmp_path, extract=never)
    images_module._photographs.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        simulate(tmp_path, extract=never)


@pytest.mark.parametrize("changes", [{"n_train": 12}, {"n_test": 1}, {"n_components": 0}])
def test_too_few_images(tmp_path, changes):
    with pytest.raises(InvalidParameterError, match="too few images"):
        simulate(tmp_path, **changes)


def test_a_subject_that_does_not_exist(tmp_path):
    with pytest.raises(InvalidParameterError, match="no subject 9"):
        simulate(tmp_path, subject=9)


def testalexnet_features_do_not_depend_on_the_batch():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 256, 256), dtype=np.uint8)
    network = alexnet_features()
    features = network(images)
    assert (features.dtype, features.shape) == (np.float32, (3, CARD.n_features))
    # Batches of other sizes are summed in another order.
    np.testing.assert_allclose(network(images[1:2])[0], features[1], atol=1e-5)
