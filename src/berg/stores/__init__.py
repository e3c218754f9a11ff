"""Long runs: scores or responses of many images in one folder, written chunk by chunk."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from berg.stores.running import StoreRun, encode_to_store

__all__ = [
    "DEFAULT_CHUNK",
    "Recipe",
    "Store",
    "StoreRun",
    "StoreSummary",
    "describe_store",
    "encode_to_store",
    "open_store",
]


def __getattr__(name: str) -> Any:
    """Import what computes when it is asked for: opening a store needs no torch."""
    if name not in ("StoreRun", "encode_to_store"):
        raise AttributeError(f"module 'berg.stores' has no attribute {name!r}")
    from berg.stores import running

    return getattr(running, name)
