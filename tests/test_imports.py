"""What importing loads, and the paths that users of the existing toolkit import from."""

import importlib
import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "numpy", "scipy", "sklearn", "nilearn", "matplotlib", "PIL", "yaml"),
    *("zarr", "xarray", "dask", "distributed", "h5py", "botocore", "urllib3"),
)


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running the code."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_berg_loads_nothing_heavy():
    assert not loaded_by("import berg").intersection(HEAVY)


def test_catalog_needs_no_torch():
    code = "from berg import BERG, BERGError\nBERG('x').get_model_catalog()"
    assert not loaded_by(code).intersection({"torch", "scipy", "sklearn", "nilearn"})


def test_the_cached_network_is_proved_without_what_takes_long_to_import():
    assert not loaded_by("import berg.network_file").intersection(HEAVY)


def test_importing_looks_for_no_garbage_until_it_is_over():
    code = (
        "import gc\nfrom berg.cli.group import importing\n"
        "with importing():\n    assert not gc.isenabled()\n"
        "assert gc.isenabled() and gc.get_freeze_count()\n"
        "gc.disable()\n"
        "with importing():\n    pass\n"
        "assert not gc.isenabled()"
    )
    loaded_by(code)


def test_importing_freezes_nothing_where_torch_is_there():
    code = (
        "import gc, torch\nfrom berg.cli.group import importing\n"
        "with importing():\n    assert gc.isenabled()\n"
        "assert gc.isenabled() and not gc.get_freeze_count()"
    )
    loaded_by(code)


def test_verifying_needs_no_s3_client():
    assert not loaded_by("import berg\nberg.verify").intersection({"botocore", "torch"})


def test_opening_a_store_needs_no_torch():
    code = "import berg\nberg.open_store"
    assert "torch" not in loaded_by(code)
    assert {"torch", "zarr"} <= loaded_by(code.replace("open_store", "encode_to_store"))


def test_the_doors_to_stores_are_one():
    berg, stores, running = map(
        importlib.import_module, ("berg", "berg.stores", "berg.stores.running")
    )
    assert berg.encode_to_store is stores.encode_to_store is running.encode_to_store
    assert all(getattr(stores, name) is not None for name in stores.__all__)
    with pytest.raises(AttributeError, match="zebra"):
        _ = stores.zebra


def test_command_line_help_needs_no_torch():
    code = (
        "from click.testing import CliRunner\nfrom berg.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0"
    )
    assert not loaded_by(code).intersection({"torch", "numpy", "yaml", "botocore"})


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("berg", ["BERG", "BaseModelInterface", "BERGError", "StimulusError"]),
        ("berg.core", ["BERG"]),
        ("berg.core.berg", ["BERG"]),
        (
            "berg.core.exceptions",
            [
                "BERGError",
                "ModelNotFoundError",
                "ModelLoadError",
                "InvalidParameterError",
                "StimulusError",
                "ResourceError",
            ],
        ),
        ("berg.interfaces", ["BaseModelInterface"]),
        ("berg.interfaces.base_model", ["BaseModelInterface"]),
    ],
)
def test_import_paths_of_the_existing_toolkit(module, names):
    berg = importlib.import_module("berg")
    for name in names:
        found = getattr(importlib.import_module(module), name)
        assert found is getattr(berg, name)


def test_unknown_name_is_an_attribute_error():
    berg = importlib.import_module("berg")
    with pytest.raises(AttributeError, match="zebra"):
        _ = berg.zebra


def test_every_public_name_resolves():
    berg = importlib.import_module("berg")
    assert all(getattr(berg, name) is not None for name in dir(berg))
