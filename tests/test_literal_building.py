"""The literal pipeline is an oracle of other tests; here its formulas are checked by hand."""

import ast
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from benchmarks import literal_building as literal
from scipy.io import savemat

NAN = np.nan
REAL_NSD = Path(__file__).parents[2] / "shared/data/nsd"
N_VERTICES, N_NATIVE, N_TRIALS = 9, 14, 30


def test_it_shares_nothing_with_the_package():
    for module in ("literal_building", "reference"):
        tree = ast.parse((Path(literal.__file__).parent / f"{module}.py").read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in imports for alias in node.names}
        names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
        assert not {name for name in names if name.split(".")[0] == "berg"}


def test_zscores_leave_out_what_is_missing_and_have_none_of_a_constant():
    betas = np.array([[1.0, 2, 5, NAN], [3, 2, NAN, NAN], [5, 2, 5, NAN], [7, 2, 9, NAN]])
    z = literal.zscored(betas)
    root5, root2 = np.sqrt(5), np.sqrt(2)  # standard deviations: sqrt(5) and sqrt(32 / 9)
    np.testing.assert_allclose(z[:, 0], np.array([-3, -1, 1, 3]) / root5, rtol=1e-6)
    np.testing.assert_allclose(z[:, 2], [-1 / root2, NAN, -1 / root2, root2], rtol=1e-6)
    assert np.isnan(z[:, [1, 3]]).all()


def test_repeats_that_exist_are_averaged_and_zero_stands_for_none():
    trials = np.array([[1.0, NAN], [2, 3], [5, NAN], [NAN, 7]], np.float32)
    means = literal.average_repeats(trials, np.array([4, 9, 4, 9]), np.array([4, 9]))
    np.testing.assert_array_equal(means, [[3, 0], [2, 5]])


def test_ncsnr_by_hand():
    # Two images seen twice. Of the first vertex, the variances within are 2 and 8, so the noise
    # variance is 5; around the mean of 7.5 the squares are 42.25, 20.25, 12.25 and 56.25, over 3.
    # The second has no noise, the third no signal, the fourth no trials.
    trials = np.array([[1.0, 1, 1, NAN], [3, 1, -1, NAN], [11, 2, 1, NAN], [15, 2, -1, NAN]])
    ncsnr = literal.ncsnr_of_trials(trials, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(ncsnr, [np.sqrt((131 / 3 - 5) / 5), NAN, 0, NAN], rtol=1e-6)


def test_ceiling_and_explained_variance_by_hand():
    ceiling = literal.noise_ceiling(np.array([0.0, 1, NAN]), np.array([3, 3]))
    np.testing.assert_allclose(ceiling, [0, 0.75, NAN])
    percent = literal.explained_variance(np.array([0.1, 0.3, 0.9, 0.3]), np.array([0, 0.6, 0.6, 1]))
    np.testing.assert_allclose(percent, [NAN, 50, 100, 30])


def test_correlations_are_not_negative_and_undefined_for_a_constant():
    measured = np.array([[1.0, 1, 0], [2, 2, 0], [6, 6, 0]])
    predicted = np.array([[2.0, 6, 1], [4, 2, 2], [12, 1, 3]])
    np.testing.assert_allclose(literal.correlate(measured, predicted), [1, 0, NAN])


def test_partitions_of_a_design_by_hand(tmp_path):
    # Images 1 and 2 are shared; the second is seen twice in two sessions of four trials.
    write_design(tmp_path, [1, 2, 3, 1, 1, 2, 4, 3, 5, 5, 5, 5], [[1, 2, 9, 8, 7], [1, 2, 6, 5, 4]])
    trials, partitions = literal.read_design(tmp_path, 2, 2)
    np.testing.assert_array_equal(trials, [0, 1, 5, 0, 0, 1, 4, 5])
    assert {name: ids.tolist() for name, ids in partitions.items()} == {
        "train": [4, 5],
        "val": [1],
        "test": [0],
    }


@pytest.mark.skipif(not REAL_NSD.exists(), reason="NSD's design is not in ../shared/data/nsd")
@pytest.mark.parametrize(("subject", "n_train", "n_val"), [(1, 9000, 485), (4, 8302, 392)])
def test_partitions_of_nsd_itself(tmp_path, subject, n_train, n_val):
    folder = tmp_path / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    (folder / "nsd_expdesign.mat").symlink_to(REAL_NSD / "nsd_expdesign.mat")
    _, partitions = literal.read_design(tmp_path, subject, 40 if subject == 1 else 30)
    sizes = {name: len(ids) for name, ids in partitions.items()}
    assert sizes == {"train": n_train, "val": n_val, "test": 515}


def test_a_tiny_dataset_from_end_to_end(tmp_path, rng):
    tree = write_tree(tmp_path / "nsd", rng)
    built = literal.build(tree, 1, tmp_path / "out", n_components=3, svd_solver="full")

    train, test = built.partitions["train"], built.partitions["test"]
    assert len(test) == 2
    betas = []  # as the bytes lie in the file: after the header, vertex fastest
    for session in (1, 2):
        path = tree / CORE / f"lh.betas_session{session:02d}.mgh"
        values = np.frombuffer(path.read_bytes(), ">f4", N_TRIALS * N_VERTICES, offset=284)
        betas.append(values.reshape(N_TRIALS, N_VERTICES).astype(float))
    z = np.concatenate([(b - b.mean(0)) / np.where(b.std(0), b.std(0), NAN) for b in betas])
    trials, _ = literal.read_design(tree, 1, 2)
    means = np.nan_to_num([z[trials == i].mean(0) for i in np.append(train, test)])
    scores = np.vstack([built.scores["train"], built.scores["test"]])
    with_one = np.column_stack([scores, np.ones(len(scores))])
    fitted = np.linalg.lstsq(with_one[: len(train)], means[: len(train)])[0]
    # float32 scores and z-scores of size 1 to 100, of 20 images: errors of about 1e-6.
    np.testing.assert_allclose(built.measured["test"]["lh"], means[-2:], atol=1e-5)
    np.testing.assert_allclose(
        built.predictions["test"]["lh"], with_one[-2:] @ fitted, rtol=1e-4, atol=1e-4
    )
    assert np.isnan(built.maps["lh_correlation_nsdcore"][0])  # constant in both sessions
    np.testing.assert_array_equal(built.rois["lh"]["V1v"], [0, 3])
    np.testing.assert_array_equal(built.rois["rh"]["OWFA"], [])
    np.testing.assert_array_equal(built.rois["rh"]["nsdgeneral"], [1, 2])

    weights = np.load(tmp_path / "out/weights.npy", allow_pickle=True).item()
    assert weights["pca_param"]["components_"].shape == (3, 205_672)
    assert weights["lh_reg_param"]["coef_"].shape == (N_VERTICES, 3)
    metadata = np.load(tmp_path / "out/metadata.npy", allow_pickle=True).item()
    for measure in ("correlation", "r2", "noise_ceiling", "explained_variance"):
        values = metadata["encoding_models"][f"rh_{measure}_nsdsynthetic"]
        assert (values.shape, values.dtype) == ((N_VERTICES,), np.float32)
    assert sum(built.seconds.values()) > 0


CORE = "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"


def write_design(root: Path, ordering: list[int], images: list[list[int]], per_session: int = 4):
    folder = root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    pattern = np.ones((len(ordering) // per_session, 2, per_session // 2), np.uint8)
    variables = {"masterordering": [ordering], "subjectim": images, "stimpattern": pattern}
    savemat(folder / "nsd_expdesign.mat", variables)


def write_tree(root: Path, rng: np.random.Generator) -> Path:
    """Two sessions of 30 trials of 2 shared and 18 own images, and NSD-synthetic of 5 images."""
    ordering = np.concatenate([[1, 2] * 3, np.arange(3, 21).repeat(3)])
    write_design(
        root, rng.permutation(ordering).tolist(), [[*range(1, 21)], [1, 2, *range(30, 48)]], 30
    )
    folder = root / "nsddata/experiments/nsdsynthetic"
    folder.mkdir()
    synthetic = rng.permutation([1, 2, 3, 4, 5] * 2 + [4, 5])
    savemat(folder / "nsdsynthetic_expdesign.mat", {"masterordering": synthetic})
    stimuli = {
        "nsd/nsd_stimuli.hdf5": (50, 64, 64, 3),
        "nsdsynthetic/nsdsynthetic_stimuli.hdf5": (3, 64, 120, 3),
        "nsdsynthetic/nsdsynthetic_colorstimuli_subj01.hdf5": (2, 64, 120, 3),
    }
    for name, shape in stimuli.items():
        path = root / "nsddata_stimuli/stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["imgBrick"] = rng.integers(0, 256, shape, np.uint8)
    labels = root / "nsddata/freesurfer/subj01/label"
    labels.mkdir(parents=True)
    for collection in literal.ROI_COLLECTIONS:
        (labels / f"{collection}.mgz.ctab").write_text("0 Unknown\n1\tnone\n")
    (labels / "prf-visualrois.mgz.ctab").write_text("0 Unknown\n1\tV1v\n")
    (labels / "floc-words.mgz.ctab").write_text("0 Unknown\n1  OVWFA\n")
    for hemi in literal.HEMISPHERES:
        for session in (1, 2):
            betas = rng.normal(3, 2, (N_VERTICES, N_TRIALS))
            betas[0] = session
            write_mgh(root / CORE / f"{hemi}.betas_session{session:02d}.mgh", betas)
        write_mgh(root / CORE / f"{hemi}.ncsnr.mgh", rng.uniform(0.1, 1, N_VERTICES))
        folder = root / Path(CORE).parent / "nsdsyntheticbetas_fithrf_GLMdenoise_RR"
        betas = rng.normal(0, 1, (N_VERTICES, len(synthetic)))
        write_mgh(folder / f"{hemi}.betas_nsdsynthetic.mgh", betas)
        native = np.arange(N_NATIVE, 0, -1)[:N_VERTICES]  # vertex v is the native one 14 - v
        transforms = root / "nsddata/ppdata/subj01/transforms"
        write_mgh(transforms / f"{hemi}.white-to-fsaverage.mgz", native)
        for collection in literal.ROI_COLLECTIONS:
            values = np.zeros(N_NATIVE)
            if collection == "prf-visualrois":
                values[[13, 10]] = 1  # 0-based natives of vertices 0 and 3
            write_mgh(labels / f"{hemi}.{collection}.mgz", values)
        general = np.isin(np.arange(N_VERTICES), [1, 2])
        write_mgh(labels.parents[1] / f"fsaverage/label/{hemi}.nsdgeneral.mgz", general)
    return root


def write_mgh(path: Path, values: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values, np.float32)[:, None, None]
    nib.save(nib.MGHImage(values, np.eye(4)), path)
