import errno
import json
import pickle
import shutil
import threading

import dask
import numpy as np
import pytest
import xarray
import zarr

from berg import resources
from berg.catalog import find_card
from berg.errors import (
    BERGWarning,
    InvalidParameterError,
    MetadataNotFoundError,
    MissingExtraError,
    ResourceError,
)
from berg.responses import Readout, Responses, arrays
from berg.responses.arrays import to_xarray, write_zarr
from berg.responses.coarser import coarser_readout
from berg.selection import Regions

NAMES = ["cat", "größe/dog.jpg", "x.hdf5:imgBrick[3]", "", "tree", "a house with a long name"]
ROIS = {
    "V1v": {"lh": [3, 1, 2], "rh": [0, 11]},
    "V2v": {"lh": [4], "rh": [600]},  # rh 600 is not among the responses
    "FFA-2": {"lh": [], "rh": [6]},
    "OWFA": {"lh": [], "rh": []},
}


class CountedScores:
    """Scores that tell how often they were read."""

    def __init__(self, scores):
        self.scores, self.shape, self.dtype = scores, scores.shape, scores.dtype
        self.n_read = 0

    def __getitem__(self, rows):
        self.n_read += 1
        return self.scores[rows]


def make_responses(rng, *, n_lh=30, n_rh=20, names=NAMES, regions=None, scores=None, **given):
    coef = rng.standard_normal((n_lh + n_rh, 3), np.float32)
    intercept = rng.standard_normal(n_lh + n_rh, np.float32)
    readout = Readout(
        coef[:n_lh],
        intercept[:n_lh],
        coef[n_lh:],
        intercept[n_lh:],
        np.arange(n_lh),
        np.arange(n_rh),
    )
    if scores is None:
        scores = rng.standard_normal((len(names), 3), np.float32)
    return Responses(
        scores,
        readout,
        names=names,
        regions=regions,
        provenance={"subject": 1, "rois": ["V1v"], "note": "größe", "simulated": None},
        mesh="fsaverage3",
        **given,
    )


def make_regions(load=None):
    indices = {
        hemi: {name: np.array(both[hemi], dtype=np.int64) for name, both in ROIS.items()}
        for hemi in ("lh", "rh")
    }
    return Regions(find_card("fmri-nsd_fsaverage-alexnet_untrained"), 1, load or (lambda: indices))


@pytest.fixture
def responses(rng):
    return make_responses(rng, regions=make_regions())


@pytest.fixture
def computed(responses):
    return np.concatenate(responses.compute(), axis=1)


def test_a_dataset_is_lazy_and_has_the_responses(rng):
    scores = CountedScores(rng.standard_normal((6, 3), np.float32))
    responses = make_responses(rng, scores=scores)
    dataset = to_xarray(responses)
    assert scores.n_read == 0
    assert dask.is_dask_collection(dataset.response)
    values = dataset.response.compute()
    assert scores.n_read > 0
    assert values.dims == ("image", "vertex")
    assert values.dtype == np.float32
    # 1e-6: float32 products of three terms of order 1, in blocks of other sizes
    np.testing.assert_allclose(values, np.concatenate(responses.compute(), axis=1), atol=1e-6)


def test_a_dataset_is_labelled(responses):
    dataset = to_xarray(responses)
    assert dataset.image.values.tolist() == NAMES
    assert dataset.hemisphere.values.tolist() == ["lh"] * 30 + ["rh"] * 20
    assert dataset.fsaverage_vertex.values.tolist() == [*range(30), *range(20)]
    about = dict(dataset.response.attrs)
    assert (about.pop("units"), about.pop("long_name")) == ("z", "in silico fMRI response")
    for attrs in (dataset.attrs, about):  # of a DataArray that is taken out, too
        assert attrs["mesh"] == "fsaverage3"
        assert json.loads(attrs["provenance"]) == responses.provenance
        assert len(attrs) == 2


def test_regions_are_those_that_the_responses_cover(responses):
    dataset = to_xarray(responses)
    assert dataset.roi.values.tolist() == ["V1v", "FFA-2"]
    in_v1v = dataset.in_roi.sel(roi="V1v").values
    assert np.flatnonzero(in_v1v).tolist() == [1, 2, 3, 30, 41]
    assert dataset.in_roi.dtype == np.bool_
    assert np.flatnonzero(dataset.in_roi.sel(roi="FFA-2")).tolist() == [36]
    # without the right hemisphere, what is missing there is not missed
    assert to_xarray(responses.hemisphere("lh")).roi.values.tolist() == ["V1v", "V2v"]


def test_regions_of_a_coarser_mesh(responses):
    coarse = coarser_readout(responses.readout, "fsaverage0", from_mesh="fsaverage3")
    dataset = to_xarray(
        Responses(responses.scores, coarse, regions=responses.regions, mesh="fsaverage0")
    )
    assert dataset.sizes["vertex"] == 24
    # rh 600, which alone was missing, is no vertex of this mesh
    assert dataset.roi.values.tolist() == ["V1v", "V2v", "FFA-2"]
    assert np.flatnonzero(dataset.in_roi.sel(roi="V2v")).tolist() == [4]


def test_missing_metadata_leave_the_regions_out(rng):
    def load():
        raise MetadataNotFoundError("no metadata", got="nothing")

    with pytest.warns(BERGWarning, match="no regions of interest: no metadata"):
        dataset = to_xarray(make_responses(rng, regions=make_regions(load)))
    assert "roi" not in dataset.coords
    assert "roi" not in to_xarray(make_responses(rng)).coords


def test_selections_and_means_are_those_of_the_array(responses, computed):
    dataset = to_xarray(responses)
    close = {"atol": 1e-6}  # float32
    np.testing.assert_allclose(dataset.response.sel(image="tree"), computed[4], **close)
    np.testing.assert_allclose(
        dataset.response.sel(image=["tree", "cat"]), computed[[4, 0]], **close
    )
    picked = dataset.response.isel(image=slice(1, None, 2), vertex=[31, 0, 4])
    np.testing.assert_allclose(picked, computed[1::2][:, [31, 0, 4]], **close)
    mean = dataset.mean("image").compute()
    np.testing.assert_allclose(mean.response, computed.mean(axis=0), **close)
    assert "hemisphere" in mean.coords
    in_v1v = dataset.in_roi.sel(roi="V1v")
    roi_mean = dataset.response.where(in_v1v).mean("vertex")
    np.testing.assert_allclose(roi_mean, computed[:, [1, 2, 3, 30, 41]].mean(axis=1), **close)
    by_hemisphere = dataset.response.groupby("hemisphere").mean()
    np.testing.assert_allclose(
        by_hemisphere.sel(hemisphere="lh"), computed[:, :30].mean(axis=1), **close
    )


def test_large_datasets_come_in_chunks(rng, monkeypatch):
    monkeypatch.setattr(arrays, "_CHUNK_VERTICES", 8)
    monkeypatch.setattr(arrays, "_DASK_CHUNK", 24)
    responses = make_responses(rng)
    dataset = to_xarray(responses)
    assert dataset.response.chunks == ((2, 2, 2), (8, 8, 8, 6, 10, 10))
    np.testing.assert_allclose(
        dataset.response, np.concatenate(responses.compute(), axis=1), atol=1e-6
    )


@pytest.mark.parametrize(("n_vertices", "expected"), [(163842, 32769), (18461, 18461), (500, 500)])
def test_chunks_of_real_sizes_take_tens_of_megabytes(n_vertices, expected):
    n_images, width = arrays._chunks((10**6, n_vertices), arrays._DASK_CHUNK)
    assert width == expected
    assert n_images * width * 4 <= 2**25
    assert n_images * width * 4 > 2**25 * 0.99


@pytest.mark.parametrize(("n_lh", "n_rh", "names"), [(0, 5, NAMES), (0, 0, NAMES), (4, 3, [])])
def test_empty_parts(tmp_path, rng, n_lh, n_rh, names):
    responses = make_responses(rng, n_lh=n_lh, n_rh=n_rh, names=names)
    dataset = to_xarray(responses).compute()
    assert dataset.response.shape == (len(names), n_lh + n_rh)
    path = write_zarr(responses, tmp_path / "r.zarr", show_progress=False)
    with xarray.open_zarr(path, consolidated=False) as stored:
        xarray.testing.assert_identical(stored.compute(), dataset)


def test_netcdf_keeps_the_dataset(tmp_path, responses):
    dataset = to_xarray(responses)
    dataset.to_netcdf(tmp_path / "r.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "r.nc", engine="scipy") as stored:
        xarray.testing.assert_identical(stored.compute(), dataset.compute())


@pytest.mark.parametrize("chunk", [1, 24, 2**21])
def test_zarr_keeps_the_dataset(tmp_path, monkeypatch, responses, chunk):
    monkeypatch.setattr(arrays, "_CHUNK_VERTICES", 8)
    monkeypatch.setattr(arrays, "_ZARR_CHUNK", chunk)
    path = write_zarr(responses, tmp_path / "new" / "r.zarr", show_progress=False)
    assert path == tmp_path / "new" / "r.zarr"
    assert [each.name for each in path.parent.iterdir()] == ["r.zarr"]
    with xarray.open_zarr(path, consolidated=False) as stored:
        assert stored.response.dtype == np.float32
        labels, expected = stored.compute(), to_xarray(responses).compute()
        np.testing.assert_allclose(labels.response, expected.response, atol=1e-6)
        xarray.testing.assert_identical(
            labels.drop_vars("response"), expected.drop_vars("response")
        )
        assert labels.response.attrs == expected.response.attrs
    stored = zarr.open_group(path, mode="r")
    assert stored.metadata.zarr_format == 3
    assert stored["response"].metadata.dimension_names == ("image", "vertex")
    assert np.isnan(stored["response"].fill_value)


def test_half_precision(tmp_path, responses, computed):
    path = write_zarr(responses, tmp_path / "r.zarr", "float16", show_progress=False)
    with xarray.open_zarr(path, consolidated=False) as stored:
        assert stored.response.dtype == np.float16
        # half a step of 2**-10 relative, and 1e-6 of float32 before it
        np.testing.assert_allclose(stored.response, computed, rtol=2**-11, atol=2e-6)


def test_what_is_too_large_for_half_precision_is_refused(tmp_path, rng):
    scores = rng.standard_normal((6, 3), np.float32)
    scores[2] = np.nan  # an image that could not be read
    scores[4] = 1e6
    responses = make_responses(rng, scores=scores)
    with pytest.raises(
        InvalidParameterError, match=r'too large for float16(.*\n)+.*65504(.*\n)+.*dtype="float32"'
    ):
        responses.to_zarr(tmp_path / "r.zarr", "float16", show_progress=False)
    assert list(tmp_path.iterdir()) == []
    responses[:4].to_zarr(tmp_path / "r.zarr", "float16", show_progress=False)


@pytest.mark.parametrize("show_progress", [True, False])
def test_progress_of_writing_is_shown_or_not(tmp_path, capsys, responses, show_progress):
    responses.to_zarr(tmp_path / "r.zarr", show_progress=show_progress)
    assert ("Writing" in capsys.readouterr().err) == show_progress


def test_the_same_responses_make_the_same_bytes(tmp_path, responses):
    folders = [write_zarr(responses, tmp_path / name, show_progress=False) for name in ("a", "b")]
    files = [
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in folders
    ]
    assert files[0] == files[1]


def test_responses_are_computed_block_by_block(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(arrays, "_ZARR_CHUNK", 100)
    largest = 0

    class Watched(CountedScores):
        def __getitem__(self, rows):
            nonlocal largest
            part = super().__getitem__(rows)
            largest = max(largest, len(part))
            return part

    names = [str(i) for i in range(40)]
    scores = Watched(rng.standard_normal((40, 3), np.float32))
    write_zarr(make_responses(rng, names=names, scores=scores), tmp_path / "r.zarr")
    assert largest == 2


def test_what_exists_is_not_overwritten(tmp_path, responses):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for name, kind in (("folder", "folder"), ("file", "file")):
        with pytest.raises(InvalidParameterError, match=rf"exists already(.*\n)+.*a {kind}"):
            write_zarr(responses, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch, responses):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        ResourceError, match=r"responses to 6 images do not fit(.*\n)+.*1.0 kB free"
    ):
        write_zarr(responses, tmp_path / "new" / "r.zarr", show_progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, responses, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(zarr, "open_array", fail)
    expected = ResourceError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_zarr(responses, tmp_path / "r.zarr", show_progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_space_that_is_asked_for_is_enough(tmp_path, monkeypatch, rng):
    asked = []
    monkeypatch.setattr(arrays, "check_space", lambda folder, n, what: asked.append(n))
    names = ["".join(rng.choice(list("abcdefgh"), 200)) for _ in range(300)]
    path = write_zarr(
        make_responses(rng, n_lh=642, n_rh=642, names=names, regions=make_regions()),
        tmp_path / "r.zarr",
        show_progress=False,
    )
    assert sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) <= asked[0]


def test_other_dtypes_are_refused(tmp_path, responses):
    with pytest.raises(InvalidParameterError, match=r"as 'float46'. Did you mean 'float16'"):
        write_zarr(responses, tmp_path / "r.zarr", "float46")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["zarr", "xarray", "dask"])
def test_what_is_not_installed_is_named(tmp_path, monkeypatch, responses, package):
    monkeypatch.setattr(arrays, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(
        MissingExtraError, match=rf'no {package}(.*\n)+.*pip install "berg\[scale\]"'
    ):
        write_zarr(responses, tmp_path / "r.zarr")
    if package == "zarr":
        to_xarray(responses)


def test_names_that_are_no_text_are_stored(tmp_path, rng):
    names = ["a\udcff.jpg", *NAMES[1:]]
    path = write_zarr(make_responses(rng, names=names), tmp_path / "r.zarr", show_progress=False)
    with xarray.open_zarr(path, consolidated=False) as stored:
        assert stored.image.values.tolist() == ["a?.jpg", *NAMES[1:]]


def test_a_dataset_goes_to_other_processes(responses, computed):
    dataset = pickle.loads(pickle.dumps(to_xarray(responses)))  # noqa: S301 - our own
    np.testing.assert_allclose(dataset.response, computed, atol=1e-6)


def test_threads_may_compute_at_once(responses, computed):
    dataset = to_xarray(responses)
    results = [None] * 4

    def compute(i):
        results[i] = dataset.response.values

    threads = [threading.Thread(target=compute, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_allclose(result, computed, atol=1e-6)
