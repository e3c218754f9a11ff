import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from berg.spectral import SpectralConv2d, Workspace

# n_in, n_out, taps, side: those of AlexNet (with fewer channels), and odd ones
SHAPES = [(8, 12, 5, 27), (8, 12, 3, 13), (3, 2, 3, 8), (2, 3, 7, 9), (3, 5, 1, 4), (1, 1, 3, 1)]


def draw(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def convolve(convolution, maps, workspace):
    """Convolve maps in PyTorch's order of axes."""
    maps = maps.permute(2, 3, 0, 1).contiguous()
    spectra = torch.empty(convolution.n_products, *maps.shape[2:], dtype=convolution.dtype)
    convolution.transform(maps, spectra, workspace)
    products = convolution.multiply(spectra, workspace)
    return convolution.transform_back(products, workspace).permute(2, 3, 0, 1).clone()


@pytest.mark.parametrize(("n_in", "n_out", "n_taps", "side"), SHAPES)
@pytest.mark.parametrize("n_images", [1, 3])
def test_it_is_pytorchs_convolution(rng, n_in, n_out, n_taps, side, n_images):
    maps, weight = draw(rng, n_images, n_in, side, side), draw(rng, n_out, n_in, n_taps, n_taps)
    found = convolve(SpectralConv2d(weight, side), maps, Workspace())
    expected = conv2d(maps.double(), weight.double(), padding=n_taps // 2)
    # float32 sums; values are of the order of 10
    torch.testing.assert_close(found.double(), expected, atol=3e-5, rtol=1e-5)


def test_a_single_position_is_moved_by_the_kernel():
    maps, weight = torch.zeros(1, 1, 4, 4), torch.arange(9.0).view(1, 1, 3, 3)
    maps[0, 0, 0, 3] = 1  # in a corner: nothing comes in again at the other side
    found = convolve(SpectralConv2d(weight, 4), maps, Workspace())[0, 0]
    expected = torch.zeros(4, 4)
    expected[:2, 2:] = torch.tensor([[5.0, 4.0], [2.0, 1.0]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_rounding_is_that_of_the_sums(rng):
    """As AlexNet's widest convolution; Winograd's methods of this cost lose ten times as much."""
    maps = draw(rng, 4, 384, 13, 13).clamp_min_(0)
    weight = draw(rng, 64, 384, 3, 3)
    exact = conv2d(maps.double(), weight.double(), padding=1)
    direct = (conv2d(maps, weight, padding=1) - exact).std()
    found = convolve(SpectralConv2d(weight, 13), maps, Workspace())
    assert (found - exact).std() < 3 * direct


def test_in_bfloat16_it_rounds_as_the_sums_do(rng):
    maps = draw(rng, 4, 384, 13, 13).clamp_min_(0)
    weight = draw(rng, 64, 384, 3, 3)
    exact = conv2d(maps.double(), weight.double(), padding=1)
    direct = (conv2d(maps.bfloat16(), weight.bfloat16(), padding=1) - exact).std()
    found = convolve(SpectralConv2d(weight, 13, torch.bfloat16), maps, Workspace())
    assert found.dtype == torch.float32
    assert 0 < (found - exact).std() < 1.5 * direct


def test_a_workspace_serves_any_size_in_any_order(rng):
    workspace = Workspace()
    cases = [(n, *shape) for shape in SHAPES for n in (5, 1, 7)]
    for n_images, n_in, n_out, n_taps, side in cases:
        maps, weight = draw(rng, n_images, n_in, side, side), draw(rng, n_out, n_in, n_taps, n_taps)
        convolution = SpectralConv2d(weight, side)
        shared = convolve(convolution, maps, workspace)
        assert torch.equal(shared, convolve(convolution, maps, Workspace()))


def test_a_workspace_keeps_its_memory():
    workspace = Workspace()
    first = workspace.take("one", 4, 5)
    assert workspace.take("one", 2, 3).data_ptr() == first.data_ptr()
    assert workspace.take("other", 4, 5).data_ptr() != first.data_ptr()
