"""Images on disk: which there are, and their pixels in batches."""

from berg.sources.batches import Batch, check_any_is_good, read_batches
from berg.sources.collection import ImageCollection
from berg.sources.finding import find_images
from berg.sources.photos import ReadImage
from berg.sources.reading import ImageReader
from berg.sources.references import (
    ArrayImage,
    HDF5Image,
    ImageFile,
    ImageReference,
    ShardImage,
    show_name,
)

__all__ = [
    "ArrayImage",
    "Batch",
    "HDF5Image",
    "ImageCollection",
    "ImageFile",
    "ImageReader",
    "ImageReference",
    "ReadImage",
    "ShardImage",
    "check_any_is_good",
    "find_images",
    "read_batches",
    "show_name",
]
