"""Pictures inside the page: photographs and cortical maps as data URIs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from berg.surface.fsaverage import Hemi, upsample
from berg.surface.painting import ColourScale, paint
from berg.surface.raster import View, surface_view

Values = NDArray[np.floating[Any]]

PHOTOGRAPH_SIDE, THUMBNAIL_SIDE = 320, 160  # pixels
_MM_PER_PIXEL = 0.45  # the inflated hemisphere is 480 pixels wide
_GAP = 12  # pixels between views
_HEMIS: tuple[Hemi, Hemi] = ("lh", "rh")


def photograph_uri(pixels: NDArray[np.uint8], side: int) -> str:
    """Return a square photograph, not larger than a side, as a JPEG.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (3, n, n)
    side : int
        Pixels.

    Returns
    -------
    str
        ``data:image/jpeg;base64,…``
    """
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _data_uri(image, "jpeg", quality=85)


def cortex_uri(lh: Values, rh: Values, scale: ColourScale, views: Sequence[View]) -> str:
    """Return a map seen from several sides, left hemisphere to the left, as a WebP.

    Parameters
    ----------
    lh, rh : numpy.ndarray of floating dtype, shape (n_vertices,)
        On any level of fsaverage. NaN stays grey.
    scale : ColourScale
    views : sequence of {"lateral", "medial", "ventral", "dorsal", "posterior"}
        One row each.

    Returns
    -------
    str
        ``data:image/webp;base64,…``, transparent around the brain.
    """
    whole = {"lh": upsample(lh), "rh": upsample(rh)}
    painted = [
        [
            paint(surface_view(hemi, view, _MM_PER_PIXEL), hemi, whole[hemi], scale)
            for hemi in _HEMIS
        ]
        for view in views
    ]
    width = max(panel.shape[1] for row in painted for panel in row)
    heights = [max(panel.shape[0] for panel in row) for row in painted]
    picture = Image.new(
        "RGBA", (2 * width + _GAP, sum(heights) + _GAP * (len(heights) - 1)), (255, 255, 255, 0)
    )
    top = 0
    for row, height in zip(painted, heights, strict=True):
        for side, panel in enumerate(row):
            left = side * (width + _GAP) + (width - panel.shape[1]) // 2
            picture.paste(Image.fromarray(panel), (left, top + (height - panel.shape[0]) // 2))
        top += height + _GAP
    return _data_uri(picture, "webp", quality=88, method=4)


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode('ascii')}"
