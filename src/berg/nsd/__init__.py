"""The Natural Scenes Dataset on disk: typed readers of the files that model building needs."""

from importlib.util import find_spec

from berg.errors import MissingExtraError

if _missing := [name for name in ("h5py", "nibabel", "scipy") if find_spec(name) is None]:
    raise MissingExtraError(
        "the Natural Scenes Dataset is read with packages that are not installed",
        got=f"no {', '.join(_missing)}",
        do='pip install "berg[nsd]"',
    )
