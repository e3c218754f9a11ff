import errno
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import FileFormatError, InvalidParameterError, ResourceError
from berg.training import feature_store
from berg.training.feature_store import FeatureStore


@pytest.fixture
def matrix():
    return np.random.default_rng(20200220).standard_normal((23, 50), dtype=np.float32)


@pytest.fixture
def narrow(monkeypatch):
    """Blocks of 8 columns, of which the last has 2."""
    monkeypatch.setattr(feature_store, "_MAX_COLUMNS", 8)


@pytest.fixture
def path(tmp_path, matrix, narrow):
    store = FeatureStore.create(tmp_path / "x.features", *matrix.shape)
    for start in range(0, 23, 5):
        store.write(start, matrix[start : start + 5])
    return tmp_path / "x.features"


def test_what_is_written_is_read(path, matrix):
    store = FeatureStore.open(path)
    assert store.shape == (23, 50)
    read = store[:, :]
    np.testing.assert_array_equal(read, matrix)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    assert read.flags.writeable


def test_blocks_are_all_columns(path, matrix):
    store = FeatureStore.open(path)
    blocks = list(store.blocks())
    assert [block.stop - block.start for block in blocks] == [8] * 6 + [2]
    np.testing.assert_array_equal(np.hstack([store[:, block] for block in blocks]), matrix)


@settings(max_examples=60)
@given(data=st.data())
def test_slices_are_those_of_an_array(tmp_path_factory, data):
    n_images, n_features = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 30)))
    matrix = np.arange(n_images * n_features, dtype=np.float32).reshape(n_images, n_features)
    path = tmp_path_factory.mktemp("store") / "x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_store, "_MAX_COLUMNS", data.draw(st.integers(1, 9)))
        store = FeatureStore.create(path, n_images, n_features)
    store.write(0, matrix)

    def one_slice(size):
        bound = st.none() | st.integers(-size - 2, size + 2)
        return slice(data.draw(bound), data.draw(bound))

    index = one_slice(n_images), one_slice(n_features)
    np.testing.assert_array_equal(FeatureStore.open(path)[index], matrix[index])
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, n_images)] * 2)))
    np.testing.assert_array_equal(store.read_rows(start, stop), matrix[start:stop])


@pytest.mark.parametrize(("n_images", "width"), [(100, 4096), (9_000, 4096), (30_000, 1250)])
def test_a_block_is_at_most_150_mb(tmp_path, monkeypatch, n_images, width):
    monkeypatch.setattr(feature_store, "_reserve", lambda file, n_bytes: None)
    store = FeatureStore.create(tmp_path / "x", n_images, 205_672)
    assert next(store.blocks()).stop == width


def test_batches_come_in_any_order_and_layout(tmp_path, matrix, narrow):
    store = FeatureStore.create(tmp_path / "x", 23, 50)
    store.write(9, np.asfortranarray(matrix[9:]))
    store.write(0, matrix[:9].astype(np.float64))
    store = FeatureStore.open(tmp_path / "x")
    np.testing.assert_array_equal(store[:, :], matrix)


def test_no_images(tmp_path):
    FeatureStore.create(tmp_path / "x", 0, 50)
    assert FeatureStore.open(tmp_path / "x")[:, :].shape == (0, 50)


def test_an_empty_batch_is_nothing(tmp_path, matrix):
    store = FeatureStore.create(tmp_path / "x", 23, 50)
    store.write(0, matrix)
    with pytest.raises(InvalidParameterError, match="is complete"):
        store.write(0, matrix[:0])
    store = FeatureStore.create(tmp_path / "x", 23, 50)
    store.write(3, matrix[:0])
    with pytest.raises(FileFormatError, match="not a complete"):
        FeatureStore.open(tmp_path / "x")


def test_a_store_that_lacks_images_cannot_be_opened(tmp_path, matrix):
    store = FeatureStore.create(tmp_path / "x", 23, 50)
    store.write(0, matrix[:22])
    with pytest.raises(FileFormatError, match="x is not a complete feature store"):
        FeatureStore.open(tmp_path / "x")
    store.write(22, matrix[22:])
    FeatureStore.open(tmp_path / "x")


def test_another_file_is_refused(tmp_path):
    for content in (b"", b"short", b"P" * 5000):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(FileFormatError, match="x is not a complete feature store"):
            FeatureStore.open(tmp_path / "x")


@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_is_refused(path, change):
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"0")
    with pytest.raises(FileFormatError, match=r"size that it states\n.*got: +869[57] bytes"):
        FeatureStore.open(path)


def test_a_file_that_becomes_shorter(path):
    store = FeatureStore.open(path)
    with path.open("rb+") as file:
        file.truncate(4096 + 23 * 50 * 4 - 8)
    store[:, :48]
    with pytest.raises(FileFormatError, match=r"became shorter.*\n.*8 bytes too few"):
        store[:, 48:]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ResourceError, match=r"x cannot be read\n.*No such file"):
        FeatureStore.open(tmp_path / "x")
    with pytest.raises(ResourceError, match=r"x cannot be written\n.*No such file"):
        FeatureStore.create(tmp_path / "none" / "x", 2, 3)


def test_a_full_disk_is_found_at_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store.os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match=r"x cannot be written\n.*No space left"):
        FeatureStore.create(tmp_path / "x", 2, 3)


def test_a_disk_that_fills_up(tmp_path, matrix, monkeypatch):
    monkeypatch.delattr(feature_store.os, "posix_fallocate")  # as where there is none
    monkeypatch.setattr(feature_store, "_HEADER_BYTES", 0)
    store = FeatureStore.create(tmp_path / "x", 23, 50)
    store.path = "/dev/full"
    with pytest.raises(ResourceError, match=r"/dev/full cannot be written\n.*No space left"):
        store.write(0, matrix)


@pytest.mark.parametrize(
    ("start", "shape"), [(-1, (3, 50)), (21, (3, 50)), (0, (3, 49)), (0, (50,))]
)
def test_a_batch_that_does_not_fit(tmp_path, start, shape):
    store = FeatureStore.create(tmp_path / "x", 23, 50)
    with pytest.raises(InvalidParameterError, match=r"does not fit into .*x\n.*\n.*images 0 to 22"):
        store.write(start, np.zeros(shape, np.float32))


def test_a_size_that_is_none(tmp_path):
    with pytest.raises(InvalidParameterError, match="3 x 0"):
        FeatureStore.create(tmp_path / "x", 3, 0)


def test_steps_are_refused(path):
    store = FeatureStore.open(path)
    with pytest.raises(InvalidParameterError, match="without gaps"):
        store[:, ::2]
    with pytest.raises(InvalidParameterError, match="without gaps"):
        store[::-1, :]


def test_reading_takes_the_memory_of_one_block(tmp_path):
    store = FeatureStore.create(tmp_path / "x", 500, 20_000)  # 40 MB, blocks of 8
    store.write(0, np.ones((500, 20_000), np.float32))
    block = next(store.blocks())
    tracemalloc.start()
    store[:, block]
    aligned = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    store[:, 10:3000]
    inside = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    block_bytes = 500 * 4096 * 4
    assert aligned < block_bytes + 10**5  # read straight into the result
    assert inside < block_bytes * (1 + 3000 / 4096) + 10**5
