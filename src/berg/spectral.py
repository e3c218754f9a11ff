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
    """Memory for what lies between the steps, kept: new memory costs more than a step does.

    Two areas, which the steps read from and write to in turn.
    """

    def __init__(self) -> None:
        self._areas = [torch.empty(0), torch.empty(0)]

    def take(self, area: int, *shape: int) -> torch.Tensor:
        """Return an array of an area, with whatever is in it.

        Parameters
        ----------
        area : {0, 1}
        *shape : int

        Returns
        -------
        torch.Tensor of float32
        """
        n_values = int(np.prod(shape))
        if self._areas[area].numel() < n_values:
            self._areas[area] = torch.empty(0)  # freed before there is more
            # Memory that is made in inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                self._areas[area] = torch.empty(n_values)
        return self._areas[area][:n_values].view(shape)


class SpectralConv2d:
    """A convolution of square maps with stride 1 that keeps their size, without a bias.

    The same as `torch.nn.functional.conv2d(maps, weight, padding="same")` but for rounding and for
    the order of the maps' axes.

    Parameters
    ----------
    weight : torch.Tensor of float32, shape (n_out, n_in, n_taps, n_taps)
        An odd number of taps.
    side : int
        Of the maps, in positions.

    Notes
    -----
    Of real maps, the frequencies along an axis are one or two real ones (0, and the highest of an
    even period) and pairs of complex ones, of which one is kept. First the columns' transform gives
    real and complex frequencies; then the rows' of the real ones is again that of real numbers.

    The product of two complex numbers takes three real ones: with T₁ = (a + b)u, T₂ = a(v − u) and
    T₃ = b(u + v), it is (a + ib)(u + iv) = (T₁ − T₃) + i(T₁ + T₂). The matrix of a transform gives
    a + b beside a and b, and that of its inverse puts the three together: no step is added.
    """

    def __init__(self, weight: torch.Tensor, side: int) -> None:
        n_taps = weight.shape[-1]
        # The maps wrap around. Zeros between the last position and the first keep them apart, and
        # the same zeros serve both ends.
        self.side, self.period = side, side + n_taps // 2
        self._n_real = 2 - self.period % 2
        self._n_complex = (self.period - self._n_real) // 2
        self._factors = self._transform_weight(weight)
        self._forward, self._back = self._matrices()

    def __call__(self, maps: torch.Tensor, workspace: Workspace) -> torch.Tensor:
        """Convolve.

        Parameters
        ----------
        maps : torch.Tensor of float32, shape (side, side, n_images, n_in)
            Contiguous, and not of the workspace.
        workspace : Workspace

        Returns
        -------
        torch.Tensor of float32, shape (side, side, n_images, n_out)
            Of the workspace's area 0, which the next call writes to.
        """
        side, period, n_real, n_complex = self.side, self.period, self._n_real, self._n_complex
        n_images = maps.shape[2]
        n_products, n_in, n_out = self._factors.shape
        n_of_real = (n_real + 3 * n_complex) * n_real  # products of the real columns come first
        given, made = n_images * n_in, n_images * n_out

        columns = workspace.take(0, side * period, given)
        real, pairs = columns[: side * n_real], columns[side * n_real :]
        rows = maps.view(side, side, given)
        torch.matmul(self._forward[0], rows, out=real.view(side, n_real, given))
        torch.matmul(self._forward[1], rows, out=pairs.view(side, 2 * n_complex, given))
        spectra = workspace.take(1, n_products, n_images, n_in)
        _multiply(self._forward[2], real, out=spectra[:n_of_real])
        _multiply(self._forward[3], pairs, out=spectra[n_of_real:])
        products = workspace.take(0, n_products, n_images, n_out)
        torch.bmm(spectra, self._factors, out=products)
        # For each row: a real column and the real parts of all pairs; the other real column, if
        # there is one, and the imaginary parts.
        columns = workspace.take(1, side, 2, 1 + n_complex, made)
        real_products = products[:n_of_real].view(-1, n_real, made)
        for i in range(2):
            if i < n_real:
                torch.mm(self._back[0], real_products[:, i], out=columns[:, i, 0])
            else:
                columns[:, i, 0] = 0
        pairs = columns.view(2 * side, 1 + n_complex, made)[:, 1:]
        _multiply(self._back[1], products[n_of_real:], out=pairs)
        convolved = workspace.take(0, side, side, made)
        torch.matmul(self._back[2], columns.view(side, -1, made), out=convolved)
        return convolved.view(side, side, n_images, n_out)

    def _transform_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the real factors of all products, shape (n_products, n_in, n_out)."""
        n_out, n_in, n_taps, _ = weight.shape
        # PyTorch's convolution is a correlation: the spectrum is conjugate.
        offsets = np.arange(n_taps) - n_taps // 2
        turn = np.exp(2j * np.pi / self.period * np.outer(np.arange(self.period), offsets))
        real, pairs = self._columns()
        # Of (frequency of the row, of the column), in the order of the spectra.
        of_real = [np.kron(turn[rows], turn[real]) for rows in (real, pairs)]
        factors = [of_real[0].real, *_three(of_real[1]), *_three(np.kron(turn, turn[pairs]))]
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
        of_pairs = np.stack([_from_three(cos, -sin), _from_three(sin, cos)], 1)
        others = np.zeros((self.side, 1)) if self._n_real == 1 else cos[:, real[1:]]
        back = [
            np.concatenate([cos[:, real], back_pair], 1),
            of_pairs.reshape(2 * self.side, -1),
            np.concatenate([cos[:, real[:1]], 2 * cos[:, pairs], others, -2 * sin[:, pairs]], 1),
        ]
        as_tensors = [
            [torch.from_numpy(np.ascontiguousarray(matrix, np.float32)) for matrix in matrices]
            for matrices in (forward, back)
        ]
        return as_tensors[0], as_tensors[1]


def _multiply(matrix: torch.Tensor, given: torch.Tensor, out: torch.Tensor) -> None:
    """Multiply by a matrix along the first axis, or the first ones, of an array."""
    n_made, n_given = matrix.shape
    torch.mm(matrix, given.view(n_given, -1), out=out.view(n_made, -1))


def _three(spectrum: NDArray[np.complex128]) -> list[NDArray[np.float64]]:
    """Return the factors of T₂, T₃ and T₁ for a spectrum u + iv."""
    u, v = spectrum.real, spectrum.imag
    return [v - u, u + v, u]


def _from_three(
    of_real: NDArray[np.float64], of_imaginary: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of T₂, T₃ and T₁ in a sum of weighted real and imaginary parts."""
    return np.concatenate([of_imaginary, -of_real, of_real + of_imaginary], 1)
