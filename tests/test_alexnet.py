import numpy as np
import pytest
import torch
from benchmarks import reference
from torch import nn

from berg import alexnet
from berg.errors import BERGWarning, ModelLoadError


@pytest.fixture(scope="module")
def drawn():
    return alexnet.draw_parameters()


def test_drawn_parameters_have_the_fingerprint(drawn):
    assert sum(values.size for values in drawn.values()) == 61_100_840
    assert alexnet.compute_fingerprint(drawn) == alexnet.FINGERPRINT


def test_one_changed_bit_changes_the_fingerprint(drawn):
    changed = dict(drawn)
    bias = changed["classifier.6.bias"].copy()
    bias[-1] = np.nextafter(bias[-1], np.float32(1))
    changed["classifier.6.bias"] = bias
    assert alexnet.compute_fingerprint(changed) != alexnet.FINGERPRINT


def test_weights_lie_within_pytorchs_bounds(drawn):
    # kaiming_uniform_ with a = sqrt(5) is uniform within ±1 / sqrt(fan_in)
    weight = drawn["features.0.weight"]
    bound = 1 / np.sqrt(3 * 11 * 11)
    assert weight.min() >= -bound * (1 + 1e-6)
    assert 0.99 * bound < weight.max() <= bound * (1 + 1e-6)


def plain_network(parameters: dict[str, np.ndarray]) -> nn.Module:
    """The architecture in PyTorch's own words, without our tricks of memory layout."""
    network = nn.Module()
    network.features = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    network.avgpool = nn.AdaptiveAvgPool2d((6, 6))
    network.classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)),
    )
    network.load_state_dict({name: torch.from_numpy(v) for name, v in parameters.items()})
    return network.eval()


def test_layers_agree_with_the_architecture_written_out(drawn, rng):
    images = torch.from_numpy(rng.standard_normal((2, 3, 224, 224), dtype=np.float32))
    plain = plain_network(drawn)
    expected = {}
    with torch.inference_mode():
        activations = images
        for number, module in plain.features.named_children():
            activations = module(activations)
            expected[f"features.{number}"] = activations
        activations = plain.avgpool(activations).flatten(1)
        for number, module in plain.classifier.named_children():
            activations = module(activations)
            expected[f"classifier.{number}"] = activations
        layers = alexnet.load_alexnet()(images.contiguous(memory_format=torch.channels_last))
    for layer, found in zip(alexnet.LAYERS, layers, strict=True):
        assert found.shape == (2, *layer.shape)
        # float32 sums of up to 9,216 terms in another order
        torch.testing.assert_close(found, expected[layer.node], atol=1e-5, rtol=1e-4)
    flat = alexnet.flatten_features(layers)
    assert flat.shape == (2, alexnet.N_FEATURES) == (2, 205_672)
    torch.testing.assert_close(flat[:, :46_656], layers[0].reshape(2, -1))


def test_loading_leaves_the_callers_state_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    threads = torch.get_num_threads()
    network = alexnet.load_alexnet()
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
    assert torch.get_num_threads() == threads
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cache_is_written_once_and_read_again(own_cache):
    first = alexnet.load_parameters()
    (cached,) = own_cache.glob("*.safetensors")
    written = cached.stat().st_mtime_ns
    again = alexnet.load_parameters()
    assert cached.stat().st_mtime_ns == written
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("damage", ["flip", "truncate", "other"])
def test_a_damaged_cache_is_said_and_mended(own_cache, damage):
    alexnet.load_parameters()
    (cached,) = own_cache.glob("*.safetensors")
    content = bytearray(cached.read_bytes())
    if damage == "flip":
        content[-7] ^= 1
    elif damage == "truncate":
        del content[len(content) // 2 :]
    else:
        content = bytearray(b"not safetensors")
    cached.write_bytes(content)
    with pytest.warns(BERGWarning, match="made again"):
        parameters = alexnet.load_parameters()
    values = {name: value.numpy() for name, value in parameters.items()}
    assert alexnet.compute_fingerprint(values) == alexnet.FINGERPRINT
    alexnet.load_parameters()  # mended: no warning, which would be an error here


def test_a_machine_that_draws_other_numbers_is_refused(own_cache, monkeypatch, drawn):
    other = dict(drawn, **{"features.0.bias": drawn["features.0.bias"] + 1})
    monkeypatch.setattr(alexnet, "draw_parameters", lambda: other)
    with pytest.raises(ModelLoadError, match="another untrained AlexNet"):
        alexnet.load_parameters()
    assert not list(own_cache.glob("*.safetensors"))


def test_a_cache_that_cannot_be_written_is_only_slower(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way of the folder")
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path / "file"))
    assert len(alexnet.load_parameters()) == 16
    assert "cannot cache the network" in caplog.text


def test_without_channels_last_the_bits_are_those_of_plain_modules(rng):
    torch.manual_seed(20200220)
    plain = reference.alexnet()
    images = torch.from_numpy(rng.standard_normal((5, 3, 224, 224), dtype=np.float32))
    with torch.inference_mode():
        layers = alexnet.load_alexnet("cpu", channels_last=False)(images)
    ours = alexnet.flatten_features(layers).numpy()
    np.testing.assert_array_equal(ours, reference.extract_features(plain, images))
