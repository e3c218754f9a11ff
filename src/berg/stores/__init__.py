"""Long runs: scores or responses of many images in one folder, written chunk by chunk."""

from importlib.util import find_spec

from berg.errors import MissingExtraError

if _missing := [name for name in ("zarr", "psutil") if find_spec(name) is None]:
    raise MissingExtraError(
        "stores need packages that are not installed",
        got=f"no {', '.join(_missing)}",
        do='pip install "berg[scale]"',
    )

from berg.stores.reading import StoreSummary, describe_store, open_store
from berg.stores.recipe import DEFAULT_CHUNK, Recipe
from berg.stores.store import Store

__all__ = [
    "DEFAULT_CHUNK",
    "Recipe",
    "Store",
    "StoreSummary",
    "describe_store",
    "open_store",
]
