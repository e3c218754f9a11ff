import numpy as np
import pytest

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.errors import InvalidParameterError
from berg.metadata import load_metadata, save_metadata
from berg.simulation import simulate_subject
from berg.simulation.subject import _alexnet_features
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
    assert np.median(correlation[visual]) > 0.35  # the truth is linear in the scores
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


def test_the_same_seed_gives_the_same_subject(tmp_path, berg_dir, maps, weights):
    again = simulate(tmp_path)
    np.testing.assert_array_equal(
        load_npy(CARD.files(again).weights_npy(1)).lh_coef, weights.lh_coef
    )
    repeated = load_metadata(CARD.files(again).metadata(1))["encoding_models"]
    for key, values in repeated.items():
        np.testing.assert_array_equal(values, maps[key])


def test_another_subject_differs_and_comes_beside(berg_dir, maps, capsys):
    simulate(berg_dir, subject=2, show_progress=True)
    shown = capsys.readouterr().err
    assert "Images" in shown
    assert "Vertices" in shown
    files = CARD.files(berg_dir)
    assert files.weights_npy(1).exists()
    other = load_metadata(files.metadata(2))["fmri"]
    assert not np.allclose(other["lh_ncsnr"], maps["lh_ncsnr"])


def test_a_simulated_subject_replaces_a_simulated_one_and_its_converted_weights(tmp_path, metadata):
    files = CARD.files(tmp_path)
    save_metadata(files.metadata(1), metadata)
    files.weights_safetensors(1).parent.mkdir(parents=True)
    files.weights_safetensors(1).write_bytes(b"made from the weights before")
    simulate(tmp_path, seed=4)
    assert load_metadata(files.metadata(1))["provenance"]["seed"] == 4
    assert not files.weights_safetensors(1).exists()


def test_a_real_subject_is_never_overwritten(tmp_path, metadata):
    files = CARD.files(tmp_path)
    files.weights_npy(1).parent.mkdir(parents=True)
    files.weights_npy(1).write_bytes(b"540 MB from the bucket")
    with pytest.raises(InvalidParameterError, match="not a simulated one"):
        simulate(tmp_path)
    real = {part: metadata[part] for part in ("fmri", "encoding_models")}
    save_metadata(files.metadata(1), real)
    with pytest.raises(InvalidParameterError, match="not a simulated one"):
        simulate(tmp_path)
    assert files.weights_npy(1).read_bytes() == b"540 MB from the bucket"


@pytest.mark.parametrize("changes", [{"n_train": 12}, {"n_test": 1}, {"n_components": 0}])
def test_too_few_images(tmp_path, changes):
    with pytest.raises(InvalidParameterError, match="too few images"):
        simulate(tmp_path, **changes)


def test_a_subject_that_does_not_exist(tmp_path):
    with pytest.raises(InvalidParameterError, match="no subject 9"):
        simulate(tmp_path, subject=9)


def test_alexnet_features_do_not_depend_on_the_batch():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 256, 256), dtype=np.uint8)
    network = _alexnet_features()
    features = network(images)
    assert (features.dtype, features.shape) == (np.float32, (3, CARD.n_features))
    # Batches of other sizes are summed in another order.
    np.testing.assert_allclose(network(images[1:2])[0], features[1], atol=1e-5)
