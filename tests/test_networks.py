import logging
import threading

import numpy as np
import pytest
import torch

from berg import alexnet, networks, stimuli
from berg.networks import SpectralAlexNet, load_network
from berg.simulation.natural_images import natural_images, photograph_samples


@pytest.fixture(scope="module")
def plain():
    return alexnet.load_alexnet(channels_last=False)


@pytest.fixture(scope="module")
def spectral():
    return load_network("cpu")


@pytest.fixture(scope="module")
def images():
    """Photographs and made images, as the network sees them."""
    rng = np.random.default_rng(5)
    pixels = np.concatenate([photograph_samples(12, rng), natural_images(12, rng, "test")])
    return stimuli.preprocess(torch.from_numpy(pixels))


@pytest.fixture(scope="module")
def expected(plain, images):
    with torch.inference_mode():
        return plain(images.contiguous())


def run(network, images):
    with torch.inference_mode():
        return network(images)


def test_on_a_cpu_the_convolutions_are_spectral(spectral):
    assert isinstance(spectral, SpectralAlexNet)
    assert spectral.precision == "float32"
    assert "Fourier" in spectral.engine


def test_activations_are_those_of_plain_pytorch(spectral, images, expected):
    for layer, found, wanted in zip(alexnet.LAYERS, run(spectral, images), expected, strict=True):
        assert found.shape == (len(images), *layer.shape)
        assert found.dtype == torch.float32
        # Of the largest activation, which is of the order of 1 in the first layers: rounding.
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max().clamp_min(0.1), layer.node


def test_it_rounds_no_more_than_pytorchs_own_channels_last(spectral, images, expected):
    """Rare features are divided by scales down to 1e-7, so that rounding counts."""
    others = run(alexnet.load_alexnet(), images)
    for found, other, wanted in zip(
        run(spectral, images)[1:5], others[1:5], expected[1:5], strict=True
    ):
        assert (found - wanted).std() < 1.5 * (other - wanted).std()


def test_few_images_go_through_pytorchs_convolutions(images):
    network = load_network("cpu")
    few = images[: networks._FEWEST - 1]
    found = run(network, few)
    assert network._stages == []  # 340 MB that one image is not worth
    for a, b in zip(found, run(alexnet.load_alexnet(), few), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("chunk", "part"), [(16, 32), (17, 1), (23, 5), (128, 7)])
def test_chunks_and_their_parts_do_not_matter(monkeypatch, spectral, images, chunk, part):
    whole = run(spectral, images)
    monkeypatch.setattr(networks, "_CHUNK", chunk)
    monkeypatch.setattr(networks, "_PART", part)
    for found, wanted in zip(run(spectral, images), whole, strict=True):
        torch.testing.assert_close(found, wanted, atol=5e-6, rtol=1e-5)  # rounding


@pytest.mark.parametrize("i_layer", [2, 6])
def test_images_that_drive_delicate_features_are_computed_as_plainly_as_can_be(
    spectral, plain, images, expected, i_layer
):
    layers = run(spectral, images)
    nothing = [torch.empty(0, dtype=torch.int64)] * len(alexnet.LAYERS)
    kept = [layer.clone() for layer in layers]
    assert spectral.settle(images, layers, lambda: nothing) is layers
    assert all(torch.equal(a, b) for a, b in zip(layers, kept, strict=True))
    # A feature that some images drive, and others do not.
    is_active = alexnet.channels_last(expected[i_layer]) > 0
    feature = int((is_active.sum(dim=0) == 5).nonzero()[0])
    delicate = [*nothing[:i_layer], torch.tensor([feature]), *nothing[i_layer + 1 :]]
    driven = is_active[:, feature]
    with torch.inference_mode():
        spectral.settle(images, layers, lambda: delicate)
        exact = plain(images[driven].contiguous())
    for i, (layer, before, wanted) in enumerate(zip(layers, kept, exact, strict=True)):
        assert torch.equal(layer[driven], wanted if i <= i_layer else before[driven])
        assert torch.equal(layer[~driven], before[~driven])
    assert not torch.equal(layers[2][driven], kept[2][driven])


def test_it_works_outside_of_inference_mode_after_it_was_inside(images):
    network = load_network("cpu")
    inside = run(network, images[:16])
    for found, wanted in zip(network(images[:16]), inside, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


def test_no_images_give_empty_activations(spectral, images):
    for layer, found in zip(alexnet.LAYERS, run(spectral, images[:0]), strict=True):
        assert found.shape == (0, *layer.shape)


def test_results_are_the_callers_and_two_threads_do_not_mix(spectral, images):
    groups = [images[:16], images[8:]]
    expected = [run(spectral, group) for group in groups]
    kept = [[layer.clone() for layer in layers] for layers in expected]
    found = [[], []]

    def work(i):
        for _ in range(3):
            found[i].append(run(spectral, groups[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert all(torch.equal(a, b) for a, b in zip(expected[i], kept[i], strict=True))
        for layers in found[i]:
            for a, b in zip(layers, kept[i], strict=True):
                torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_bfloat16_computes_in_it_and_gives_float32(images, expected):
    network = load_network("cpu", "bfloat16")
    assert (network.dtype, network.precision) == (torch.bfloat16, "bfloat16")
    found = run(network, images)
    assert {layer.dtype for layer in found} == {torch.float32}
    correlations = [
        np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(found, expected, strict=True)
    ]
    assert min(correlations) > 0.999  # 8 bits of mantissa
    assert not torch.equal(found[0], expected[0])


def test_loading_tells_the_engine(caplog):
    caplog.set_level(logging.INFO, "berg")
    load_network("cpu", "bfloat16")
    assert "network: convolutions by Fourier transforms in bfloat16, PyTorch's own" in caplog.text
    assert "on cpu" in caplog.text
