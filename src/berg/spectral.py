"""Convolutions by way of Fourier transforms, for a processor without a graphics card.

A convolution is a product of spectra. With as many channels as AlexNet's maps have, that takes a
fourteenth to a fifth of the multiplications: 5×5 kernels on 27×27 maps need 1,261 products for each
pair of channels where the sums need 18,225, and 3×3 kernels on 13×13 maps 292 where the sums need
1,521. The transforms are products with small real matrices, so that the whole is a few calls of the
linear algebra library that PyTorch comes with. Rounding is about that of the sums: the matrices are
orthogonal up to scale, unlike those of Winograd's methods.

References
----------
Mathieu, Henaff & LeCun (2014). Fast training of convolutional networks through FFTs.
https://doi.org/10.48550/arXiv.1312.5851
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class Workspace:
    """Memory for what lies between the steps, kept: new memory costs more than a step does."""

    def __init__(self) -> None:
        self._areas: dict[str, torch.Tensor] = {}

    def take(self, area: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return an array of an area, with whatever is in it.

        Parameters
        ----------
        area : str
            What is asked of an area again has the same memory.
        *shape : int
        dtype : torch.dtype
            Always the same for an area.

        Returns
        -------
        torch.Tensor
        """
        n_values = int(np.prod(shape))
        if area not in self._areas or self._areas[area].numel() < n_values:
            self._areas.pop(area, None)  # freed before there is more
            # Memory that is made in inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                self._areas[area] = torch.empty(n_values, dtype=dtype)
        return self._areas[area][:n_values].view(shape)


class SpectralConv2d:
    """A convolution of square maps with stride 1 that keeps their size, without a bias.

    The same as `torch.nn.functional.conv2d(maps, weight, padding="same")` but for rounding and for
    the order of the maps' axes. It takes three steps: `transform`, `multiply` and `transform_back`.
    The first and the last can be taken for a part of the images at a time.

    Parameters
    ----------
    weight : torch.Tensor of float32, shape (n_out, n_in, n_taps, n_taps)
        An odd number of taps.
    side : int
        Of the maps, in positions.
    dtype : torch.dtype
        What spectra are multiplied in. The transforms are computed in float32, whatever it is.

    Attributes
    ----------
    n_products : int
        Number of real products for each image and pair of channels.
    n_in, n_out : int
    dtype

    Notes
    -----
    Of real maps, the frequencies along an axis are one or two real ones (0, and the highest of an
    even period) and pairs of complex ones, of which one is kept. First the columns' transform gives
    real and complex frequencies; then the rows' of the real ones is again that of real numbers.

    The product of two complex numbers takes three real ones: with T₁ = (a + b)u, T₂ = a(v − u) and
    T₃ = b(u + v), it is (a + ib)(u + iv) = (T₁ − T₃) + i(T₁ + T₂). The matrix of a transform gives
    a + b beside a and b, and that of its inverse puts the three together: no step is added.

    Spectra and products are in order of the columns' frequencies: those of the real ones, then of
    the pairs. So each of a transform's matrix products is a batch of small ones, of a row of
    positions or of a frequency each, for which PyTorch's library is faster than for a large one.
    """

    def __init__(self, weight: torch.Tensor, side: int, dtype: torch.dtype = torch.float32) -> None:
        n_taps = weight.shape[-1]
        # The maps wrap around. Zeros between the last position and the first keep them apart, and
        # the same zeros serve both ends.
        self.side, self.period = side, side + n_taps // 2
        self._n_real = 2 - self.period % 2
        self._n_pairs = (self.period - self._n_real) // 2
        self._forward, self._back = self._matrices()
        self._factors = self._transform_weight(weight).to(dtype)
        self.n_products, self.n_in, self.n_out = self._factors.shape
        self.dtype = dtype

    def transform(self, maps: torch.Tensor, spectra: torch.Tensor, workspace: Workspace) -> None:
        """Compute spectra.

        Parameters
        ----------
        maps : torch.Tensor of float32, shape (side, side, n_images, n_in)
            Contiguous, perhaps what `transform_back` returned.
        spectra : torch.Tensor of `dtype`, shape (n_products, n_images, n_in)
            Overwritten; perhaps a part of that of more images.
        workspace : Workspace
        """
        side, n_real, n_pairs = self.side, self._n_real, self._n_pairs
        n_images, n_in = maps.shape[2:]
        given = n_images * n_in
        rows = maps.view(side, side, given)
        real = workspace.take("real columns", side, n_real, given)
        pairs = workspace.take("columns", side, 2 * n_pairs, given)
        _multiply(self._forward[0], rows, out=real)
        _multiply(self._forward[1], rows, out=pairs)
        made = workspace.take("spectra of a part", self.n_products, given)
        # Of a pair, rows of real and imaginary parts alternate.
        pairs = pairs.view(2 * side, n_pairs, given)
        _multiply(self._forward[2], real.transpose(0, 1), out=self._of_real(made))
        _multiply(self._forward[3], pairs.transpose(0, 1), out=self._of_pairs(made))
        spectra.copy_(made.view(-1, n_images, n_in))

    def multiply(self, spectra: torch.Tensor, workspace: Workspace) -> torch.Tensor:
        """Multiply the spectra of maps by that of the weight: the convolution.

        Parameters
        ----------
        spectra : torch.Tensor of `dtype`, shape (n_products, n_images, n_in)
        workspace : Workspace

        Returns
        -------
        torch.Tensor of `dtype`, shape (n_products, n_images, n_out)
            Of the workspace's area "products".
        """
        shape = (*spectra.shape[:2], self.n_out)
        products = workspace.take("products", *shape, dtype=self.dtype)
        return torch.bmm(spectra, self._factors, out=products)

    def transform_back(self, products: torch.Tensor, workspace: Workspace) -> torch.Tensor:
        """Compute maps from products of spectra.

        Parameters
        ----------
        products : torch.Tensor of `dtype`, shape (n_products, n_images, n_out)
            As `multiply` returns them, or of a part of the images.
        workspace : Workspace

        Returns
        -------
        torch.Tensor of float32, shape (side, side, n_images, n_out)
            Of the workspace's area "convolved": the next call writes to it.
        """
        side, n_real, n_pairs = self.side, self._n_real, self._n_pairs
        n_images, n_out = products.shape[1:]
        if self.dtype != torch.float32:
            in_full = workspace.take("products of a part", *products.shape)
            products = in_full.copy_(products)
        given = products.view(self.n_products, -1)
        made = given.shape[1]
        columns = workspace.take("columns", self.period, side, made)
        real, pairs = columns[:n_real], columns[n_real:].view(n_pairs, 2 * side, made)
        _multiply(self._back[0], self._of_real(given), out=real)
        _multiply(self._back[1], self._of_pairs(given), out=pairs)
        convolved = workspace.take("convolved", side, side, made)
        _multiply(self._back[2], columns.transpose(0, 1), out=convolved)
        return convolved.view(side, side, n_images, n_out)

    def _of_real(self, products: torch.Tensor) -> torch.Tensor:
        """Those of the real columns, of an array (n_products, any number): one block a column."""
        n_rows = self._n_real + 3 * self._n_pairs
        first = products[: self._n_real * n_rows]
        return first.view(self._n_real, n_rows, products.shape[1])

    def _of_pairs(self, products: torch.Tensor) -> torch.Tensor:
        """Those of the pairs of columns, of an array (n_products, any number)."""
        n_rows = 3 * self.period
        last = products[len(products) - self._n_pairs * n_rows :]
        return last.view(self._n_pairs, n_rows, products.shape[1])

    def _transform_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the real factors of all products, shape (n_products, n_in, n_out)."""
        n_out, n_in, n_taps, _ = weight.shape
        # PyTorch's convolution is a correlation: the spectrum is conjugate.
        offsets = np.arange(n_taps) - n_taps // 2
        turn = np.exp(2j * np.pi / self.period * np.outer(np.arange(self.period), offsets))
        real, pairs = self._columns()
        factors = []  # of taps, in the order of the spectra
        for column in turn[real]:
            factors += [np.kron(turn[real], column).real, *_three(np.kron(turn[pairs], column))]
        for column in turn[pairs]:
            factors += _three(np.kron(turn, column))
        taps = weight.permute(2, 3, 1, 0).reshape(n_taps**2, n_in * n_out)
        matrix = torch.from_numpy(np.concatenate(factors).astype(np.float32))
        return torch.mm(matrix, taps).view(-1, n_in, n_out)

    def _columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the frequencies that are real for real maps, and one of each other pair."""
        frequencies = np.arange(self.period // 2 + 1)
        is_real = frequencies * 2 % self.period == 0
        return frequencies[is_real], frequencies[~is_real]

    def _matrices(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the matrices of the transforms, and of those back.

        Forward: positions to real columns; to pairs of columns; rows of real columns; rows of
        pairs. Back: rows of real columns; of pairs; columns to positions.
        """
        period = self.period
        real, pairs = self._columns()
        angles = np.outer(np.arange(period), np.arange(self.side)) * (2 * np.pi / period)
        cos, sin = np.cos(angles), np.sin(angles)
        # Real numbers a: a·cos for real frequencies, a·cos − i·a·sin for the others.
        a, b = cos[pairs], -sin[pairs]
        forward_real = np.concatenate([cos[real], a, b, a + b])
        # Complex numbers, whose real and imaginary parts alternate.
        a, b = np.stack([cos, sin], -1), np.stack([-sin, cos], -1)
        forward_pairs = np.concatenate([a, b, a + b]).reshape(3 * period, -1)
        # A pair stands for two frequencies. Products come as T₂, T₃, T₁.
        cos, sin = cos.T / period, sin.T / period
        back_pair = _from_three(2 * cos[:, pairs], -2 * sin[:, pairs])
        forward = [
            np.cos(angles[real]),
            np.concatenate([np.cos(angles[pairs]), -np.sin(angles[pairs])]),
            forward_real,
            forward_pairs,
        ]
        alternating = np.stack([2 * cos[:, pairs], -2 * sin[:, pairs]], -1).reshape(self.side, -1)
        back = [
            np.concatenate([cos[:, real], back_pair], 1),
            np.concatenate([_from_three(cos, -sin), _from_three(sin, cos)]),
            np.concatenate([cos[:, real], alternating], 1),
        ]
        as_tensors = [
            [torch.from_numpy(np.ascontiguousarray(matrix, np.float32)) for matrix in matrices]
            for matrices in (forward, back)
        ]
        return as_tensors[0], as_tensors[1]


def _multiply(matrix: torch.Tensor, given: torch.Tensor, out: torch.Tensor) -> None:
    """Multiply each of many arrays (n, any number) by a matrix (m, n)."""
    torch.bmm(matrix.expand(len(given), *matrix.shape), given, out=out)


def _three(spectrum: NDArray[np.complex128]) -> list[NDArray[np.float64]]:
    """Return the factors of T₂, T₃ and T₁ for a spectrum u + iv."""
    u, v = spectrum.real, spectrum.imag
    return [v - u, u + v, u]


def _from_three(
    of_real: NDArray[np.float64], of_imaginary: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of T₂, T₃ and T₁ in a sum of weighted real and imaginary parts."""
    return np.concatenate([of_imaginary, -of_real, of_real + of_imaginary], 1)
