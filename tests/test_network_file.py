import json

import numpy as np
import pytest

from berg import alexnet, network_file
from berg.layout import cached_network
from berg.network_file import FINGERPRINT, begin_reading, read_network


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A name of the test's own for the cached network; its 244 MB are not copied."""
    alexnet.load_parameters()
    whole = cached_network(FINGERPRINT)
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path))
    cached_network(FINGERPRINT).symlink_to(whole)
    return cached_network(FINGERPRINT)


def test_what_a_thread_began_is_read_once(cached, monkeypatch):
    begin_reading()
    with monkeypatch.context() as patch:
        patch.setattr(network_file, "_read", None)  # the thread has it: nothing is read again
        found = read_network(cached)
    assert found is not None
    assert read_network(cached) is not found


def test_parameters_are_the_library_s(cached):
    from safetensors.numpy import load_file

    expected, found = load_file(cached), alexnet.load_parameters()
    assert list(found) == [name for name, _ in network_file.parameter_shapes()]
    for name, values in found.items():
        np.testing.assert_array_equal(values.numpy(), expected[name])


def test_writing_to_the_parameters_leaves_the_file_alone(cached):
    alexnet.load_parameters()["classifier.6.bias"].zero_()
    assert read_network(cached) is not None


def test_where_nothing_is_cached_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path))
    begin_reading()
    assert not network_file._begun


def test_a_bad_file_that_was_made_again_is_read_again(cached):
    whole = cached.with_name("whole")
    cached.rename(whole)
    cached.write_bytes(b"damaged")
    begin_reading()
    network_file._begun[cached].result()
    whole.replace(cached)
    assert read_network(cached) is not None


def header(**entries):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 40,  # a header of 2**64 - 1 bytes
        header(),
        b"\x02" + bytes(7) + b"[]",
        header(**{name: {} for name, _ in network_file.parameter_shapes()}),
        header(**{name: {"data_offsets": "x"} for name, _ in network_file.parameter_shapes()}),
        header(**{name: {"data_offsets": [-9, 0]} for name, _ in network_file.parameter_shapes()}),
    ],
)
def test_what_is_no_network_is_none(tmp_path, content):
    path = tmp_path / "network"
    path.write_bytes(content)
    assert read_network(path) is None
