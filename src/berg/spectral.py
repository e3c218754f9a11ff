"""Convolutions by way of Fourier transforms, for a processor without a graphics card.

A convolution is a product of spectra. With as many channels as AlexNet's maps have, that takes a
fourteenth to a fifth of the multiplications: 5×5 kernels on 27×27 maps need 1,305 products for each
pair of channels where the sums need 18,225, and 3×3 kernels on 13×13 maps 336 where the sums need
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
    The product of two complex numbers takes three real ones: with T₁ = (a + b)u, T₂ = a(v − u) and
    T₃ = b(u + v), it is (a + ib)(u + iv) = (T₁ − T₃) + i(T₁ + T₂). The matrix of the transform
    gives a + b beside a and b, and that of the inverse puts the three together: no step is added.
    """

    def __init__(self, weight: torch.Tensor, side: int) -> None:
        n_taps = weight.shape[-1]
        # The maps wrap around. Zeros between the last position and the first keep them apart, and
        # the same zeros serve both ends.
        self.side, self.period = side, side + n_taps // 2
        self._n_columns = self.period // 2 + 1  # the others are their mirror images
        self._products = self._transform_weight(weight)
        self._forward_columns, self._forward_rows, self._back_rows, self._back_columns = (
            torch.from_numpy(matrix.astype(np.float32)) for matrix in self._matrices()
        )

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
        side, period, columns = self.side, self.period, self._n_columns
        n_images = maps.shape[2]
        n_in, n_out = self._products.shape[1:]
        given, made = n_images * n_in, n_images * n_out
        by_column = workspace.take(0, side, 2 * columns, given)
        torch.matmul(self._forward_columns, maps.view(side, side, given), out=by_column)
        spectra = workspace.take(1, 3 * period, columns * given)
        torch.mm(self._forward_rows, by_column.view(2 * side, columns * given), out=spectra)
        products = workspace.take(0, 3 * period * columns, n_images, n_out)
        torch.bmm(spectra.view(-1, n_images, n_in), self._products, out=products)
        by_row = workspace.take(1, 2 * side, columns * made)
        torch.mm(self._back_rows, products.view(3 * period, columns * made), out=by_row)
        convolved = workspace.take(0, side, side, made)
        torch.matmul(self._back_columns, by_row.view(side, 2 * columns, made), out=convolved)
        return convolved.view(side, side, n_images, n_out)

    def _transform_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the real factors v − u, u + v and u, shape (3 · period · columns, n_in, n_out)."""
        n_out, n_in, n_taps, _ = weight.shape
        # PyTorch's convolution is a correlation: the spectrum is conjugate.
        offsets = np.arange(n_taps) - n_taps // 2
        rows, columns = np.arange(self.period), np.arange(self._n_columns)
        turn = np.exp(2j * np.pi / self.period * np.outer(rows, offsets))
        spectrum = np.kron(turn, turn[: len(columns)])  # (period · columns, taps²)
        u, v = spectrum.real, spectrum.imag
        factors = torch.from_numpy(np.concatenate([v - u, u + v, u]).astype(np.float32))
        taps = weight.permute(2, 3, 1, 0).reshape(n_taps**2, n_in * n_out)
        return torch.mm(factors, taps).view(-1, n_in, n_out)

    def _matrices(self) -> list[NDArray[np.float64]]:
        """Return the transforms of columns and rows, and back, for real and imaginary parts."""
        side, period = self.side, self.period
        positions = np.arange(side)
        columns = np.outer(np.arange(self._n_columns), positions) * (2 * np.pi / period)
        forward_columns = np.concatenate([np.cos(columns), -np.sin(columns)])
        rows = np.outer(np.arange(period), positions) * (2 * np.pi / period)
        cos, sin = np.cos(rows), np.sin(rows)
        a, b = np.stack([cos, sin], -1), np.stack([-sin, cos], -1)  # of (real, imaginary)
        forward_rows = np.concatenate([a, b, a + b]).reshape(3 * period, 2 * side)
        cos, sin = cos.T / period, sin.T / period
        real = np.concatenate([-sin, -cos, cos - sin], 1)  # of T₂, T₃, T₁
        imaginary = np.concatenate([cos, -sin, cos + sin], 1)
        back_rows = np.stack([real, imaginary], 1).reshape(2 * side, 3 * period)
        # Each column but the first, and the middle one of an even period, stands for two.
        counts = np.full(self._n_columns, 2.0)
        counts[0] = 1
        if period % 2 == 0:
            counts[-1] = 1
        back_columns = np.concatenate([np.cos(columns.T) * counts, -np.sin(columns.T) * counts], 1)
        return [forward_columns, forward_rows, back_rows, back_columns / period]
