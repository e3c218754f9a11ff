import shutil

import numpy as np
import pytest

from berg.errors import FileFormatError, InvalidParameterError, NSDFilesNotFoundError
from berg.nsd.design import partition_images
from berg.nsd.survey import survey
from nsd_tree_fixture import (
    HEIGHT,
    N_COLOUR,
    N_SESSIONS,
    N_TRIALS,
    N_VERTICES,
    SYNTHETIC_ORDER,
    WIDTH,
    write_design,
    write_images,
    write_mgh,
    write_nsd,
)


@pytest.fixture
def tree(tmp_path):
    return write_nsd(tmp_path / "natural-scenes-dataset")


def test_finds_what_there_is(tree):
    nsd = survey(str(tree.files.nsd_dir), iter([2, 1, 2]))
    assert list(nsd.subjects) == [2, 1]
    assert nsd.files == tree.files
    assert nsd.synthetic_images.tolist() == (SYNTHETIC_ORDER - 1).tolist()
    for subject, data in nsd.subjects.items():
        assert (data.subject, data.n_sessions, data.n_vertices) == (
            subject,
            N_SESSIONS,
            N_VERTICES,
        )
        partition = partition_images(nsd.design, subject, N_SESSIONS)
        np.testing.assert_array_equal(data.partition.train, partition.train)
        assert (data.n_synthetic, data.n_colour) == (8, N_COLOUR)
        for hemi in ("lh", "rh"):
            core, synthetic = data.betas[hemi], data.synthetic_betas[hemi]
            paths = [tree.files.betas(subject, hemi, n + 1) for n in range(N_SESSIONS)]
            assert [betas.path for betas in core] == paths
            np.testing.assert_array_equal(core[1].read().T, tree.arrays[paths[1]])
            assert synthetic.path == tree.files.synthetic_betas(subject, hemi)
            assert synthetic.n_trials == len(SYNTHETIC_ORDER)
            assert data.ncsnr[hemi].shape == (N_VERTICES,)
            assert data.rois[hemi]["V1v"].size
        assert all(path.is_file() for path in data.roi_files)


def test_takes_the_first_sessions_only(tree):
    tree.files.betas(1, "lh", 3).unlink()
    tree.files.betas(1, "rh", 3).unlink()
    data = survey(tree.files.nsd_dir, [1], n_sessions=2).subjects[1]
    assert len(data.betas["lh"]) == len(data.betas["rh"]) == data.n_sessions == 2


def test_all_that_is_missing_is_in_one_message(tree):
    files = tree.files
    missing = [
        files.synthetic_design,
        files.stimuli,
        files.betas(1, "rh", 2),
        files.ncsnr(1, "lh"),
        files.synthetic_betas(1, "rh"),
        files.white_to_fsaverage(1, "lh"),
        files.roi_labels(1, "rh", "floc-places"),
        files.roi_names(1, "streams"),
        files.synthetic_colour_stimuli(2),
    ]
    for path in missing:
        path.unlink()
    missing += [files.betas(2, hemi, n) for n in (1, 2, 3) for hemi in ("lh", "rh")]
    shutil.rmtree(files.betas(2, "lh", 1).parent)
    missing += [files.ncsnr(2, hemi) for hemi in ("lh", "rh")]
    # Without any session of subject 2, it is known only that the first must be there.
    missing = [path for path in missing if "session02" not in path.name or "subj01" in str(path)]
    missing = [path for path in missing if "session03" not in path.name]
    with pytest.raises(NSDFilesNotFoundError) as raised:
        survey(files.nsd_dir, [1, 2])
    named = [line.strip() for line in str(raised.value).splitlines() if line[:12].isspace()]
    assert sorted(named) == sorted(map(files.relative, missing))
    assert f"{len(missing)} files of the Natural Scenes Dataset not found" in str(raised.value)
    assert "`--sessions 1` uses only these, if nothing later is there" in str(raised.value)


def test_a_missing_design_does_not_hide_what_else_is_missing(tree):
    tree.files.design.unlink()
    tree.files.ncsnr(2, "rh").unlink()
    with pytest.raises(NSDFilesNotFoundError, match="2 files") as raised:
        survey(tree.files.nsd_dir, [2])
    assert "nsddata/experiments/nsd/nsd_expdesign.mat" in str(raised.value)
    assert "--sessions" not in str(raised.value)


def test_a_damaged_design_does_not_hide_what_is_missing(tree):
    tree.files.design.write_bytes(b"noise")
    tree.files.ncsnr(2, "rh").rename(tree.files.nsd_dir / "away")
    with pytest.raises(NSDFilesNotFoundError, match=r"1 file .*\n.*\n.*subj02.*rh\.ncsnr\.mgh"):
        survey(tree.files.nsd_dir, [2])
    (tree.files.nsd_dir / "away").rename(tree.files.ncsnr(2, "rh"))
    with pytest.raises(FileFormatError, match="download this one file again"):
        survey(tree.files.nsd_dir, [2])


def test_nsdgeneral_must_be_somewhere(tree):
    tree.files.fsaverage_nsdgeneral("lh").unlink()
    assert survey(tree.files.nsd_dir, [1]).subjects[1].rois["lh"]["nsdgeneral"].size
    with pytest.raises(NSDFilesNotFoundError, match=r"subj02/label/lh\.nsdgeneral\.mgz"):
        survey(tree.files.nsd_dir, [2])


def test_directories_that_are_not_nsd(tmp_path):
    with pytest.raises(NSDFilesNotFoundError, match="no such directory"):
        survey(tmp_path / "absent", [1])
    with pytest.raises(NSDFilesNotFoundError, match="no folder nsddata in it"):
        survey(tmp_path, [1])


def test_a_folder_inside_of_the_dataset(tree):
    with pytest.raises(NSDFilesNotFoundError) as raised:
        survey(tree.files.nsd_dir / "nsddata", [1])
    do = f"point --nsd-dir at the folder that holds nsddata: {tree.files.nsd_dir}"
    assert do in str(raised.value)


@pytest.mark.parametrize(
    ("subjects", "n_sessions", "match"),
    [
        ([], None, "no subject to look for"),
        ([1, 3], None, "the design has no subject 3"),
        ([0], None, "the design has no subject 0"),
        ([1], 4, r"does not order that many sessions(.*\n)*.*leave `--sessions` out"),
        ([1], 0, r"1 or more\n.*leave it out"),
    ],
)
def test_what_cannot_be_asked_for(tree, subjects, n_sessions, match):
    with pytest.raises(InvalidParameterError, match=match):
        survey(tree.files.nsd_dir, subjects, n_sessions)


def betas(n_vertices, n_trials):
    return np.ones((n_vertices, n_trials), np.float32)


def images(n):
    return np.zeros((n, HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda files: write_mgh(files.betas(1, "rh", 2), betas(N_VERTICES, N_TRIALS - 1)),
            r"rh\.betas_session02\.mgh has another number of trials",
        ),
        (
            lambda files: write_mgh(files.betas(1, "lh", 3), betas(N_VERTICES + 1, N_TRIALS)),
            r"lh\.betas_session03\.mgh has another number of vertices",
        ),
        (
            lambda files: write_mgh(files.synthetic_betas(1, "lh"), betas(N_VERTICES, 744)),
            r"lh\.betas_nsdsynthetic\.mgh has another number of trials",
        ),
        (
            lambda files: write_mgh(files.ncsnr(1, "rh"), np.ones(N_VERTICES - 1, np.float32)),
            r"rh\.ncsnr\.mgh is not on the surface of the betas",
        ),
        (
            lambda files: write_mgh(
                files.white_to_fsaverage(1, "rh"), np.ones(N_VERTICES - 1, np.float32)
            ),
            r"rh\.white-to-fsaverage\.mgz is not on the surface of the betas",
        ),
        (
            lambda files: files.roi_names(1, "streams").write_text("early 1"),
            r"streams\.mgz\.ctab has an unexpected line",
        ),
        (
            lambda files: write_images(files.stimuli, images(8)),
            r"shows images that are not in nsd_stimuli\.hdf5",
        ),
        (
            lambda files: write_images(files.stimuli, images(40), "bricks"),
            "no imgBrick, but 'bricks'",
        ),
        (
            lambda files: write_images(files.synthetic_colour_stimuli(1), images(2)),
            "8 images in the design, 7 in nsdsynthetic_stimuli",
        ),
        (
            lambda files: write_design(files.synthetic_design, masterordering=np.ones((1, 5))),
            "1 images in the design, 8 in",
        ),
        (
            lambda files: (
                write_mgh(files.betas(1, "lh", 4), betas(N_VERTICES, N_TRIALS))
                or write_mgh(files.betas(1, "rh", 4), betas(N_VERTICES, N_TRIALS))
            ),
            "more trials than the design orders",
        ),
    ],
)
def test_files_that_do_not_fit_together(tree, change, match):
    change(tree.files)
    with pytest.raises(FileFormatError, match=match):
        survey(tree.files.nsd_dir, [1])
