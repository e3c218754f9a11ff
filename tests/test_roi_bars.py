import numpy as np
import pytest

from accuracy_fixture import metadata
from berg.errors import InvalidParameterError
from berg.plotting import plot_roi_accuracy

CEILING = [0.5, 0.5, 0.5, 0.05, *[0.5] * 8]  # vertex 3 does not count


def subject(scores, rois, **changes):
    maps = {"noise_ceiling": CEILING, "explained_variance": [*scores, *[0.0] * (12 - len(scores))]}
    return metadata(maps, rois, **changes)


@pytest.fixture
def subjects():
    """V1v: medians 20 and 40; FFA-1: 30, and the second has none; hV4: none has it."""
    rois = {"V1v": ([0, 1, 3], [2]), "FFA-1": ([2], []), "hV4": ([], [])}
    lacking = {"V1v": ([0], []), "FFA-1": ([], []), "hV4": ([], [])}
    return {1: subject([10, 20, 30, 99], rois), 7: subject([40], lacking)}


def bars(axes):
    return [bar.get_height() for bar in axes.patches]


def dots(axes):
    """The heights of the dots, a list for each subject."""
    return [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "None"]


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts] + [
        t.get_text() for t in figure.texts
    ]


def test_bars_are_means_of_the_subjects_medians(subjects):
    figure = plot_roi_accuracy(subjects, model="a-model")
    (axes,) = figure.axes
    # V1v of subject 1: the median of 10 and 20 (left), 30 (right); 99 has too low a ceiling.
    np.testing.assert_allclose(bars(axes), [(20 + 40) / 2, 30])
    np.testing.assert_allclose(dots(axes), [[20, 30], [40, np.nan]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["V1v", "FFA-1"]
    assert axes.get_ylabel().replace("\n", " ") == (
        "NSD-core median explained variance (% of the noise ceiling)"
    )
    assert axes.get_ylim() == (0, 100)


def test_what_is_written(subjects):
    figure = plot_roi_accuracy(subjects, model="a-model")
    written = texts(figure)
    assert "mean of 2 subjects (1, 7) · a-model" in written
    assert written.count("n=1") == 1
    assert "in none of the subjects: hV4" in written
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["subject 1", "subject 7"]
    assert {"retinotopic", "faces"} <= set(written)
    assert not any("simulated" in text for text in written)
    what = "median over the vertices with a noise ceiling of at least 0.1"
    assert f"{what}; bars: mean of the subjects" in written
    alone = texts(plot_roi_accuracy(subjects[7], least_ceiling=0.2))
    assert what.replace("0.1", "0.2") in alone
    assert "not in this subject: FFA-1, hV4" in alone


def test_a_subjects_dots_look_the_same_in_every_figure(subjects):
    def looks(shown):
        (axes,) = plot_roi_accuracy(shown).axes
        return [
            (line.get_color(), line.get_marker())
            for line in axes.lines
            if line.get_linestyle() == "None"
        ]

    of_1, of_7 = looks(subjects)
    assert of_1[0] != of_7[0]
    assert of_1[1] != of_7[1]
    assert looks({7: subjects[7]}) == [of_7]
    assert looks({7: subjects[7], 1: subjects[1]}) == [of_7, of_1]


def test_who_was_tested_on_none_of_the_images_is_left_out(subjects):
    never = metadata({"noise_ceiling": 0.5}, {"OPA": ([0], [])}, simulated=True)
    figure = plot_roi_accuracy({**subjects, 8: never})
    written = texts(figure)
    assert "mean of 2 subjects (1, 7)" in written
    assert not any("simulated" in text for text in written)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["V1v", "FFA-1"]


def test_names_with_dollars_are_no_formulas():
    figure = plot_roi_accuracy(subject([1], {"$x^2$": ([0], []), "$y^2$": ([], [])}), model="a$_b$")
    shown = [*figure.axes[0].get_xticklabels(), *figure.texts]
    dollars = [text for text in shown if "$" in text.get_text()]
    assert len(dollars) == 3
    assert not any(text.get_parse_math() for text in dollars)


def test_one_subject_needs_no_legend_and_no_counts(subjects):
    figure = plot_roi_accuracy(subjects[1])
    assert not figure.legends
    assert not any(text.startswith("n=") for text in texts(figure))
    (axes,) = figure.axes
    np.testing.assert_allclose(bars(axes), [20, 30])


def test_a_panel_for_each_set_of_images(subjects):
    both = subject([50, 60], {"V1v": ([0], [])}, datasets=("nsdcore", "nsdsynthetic"))
    figure = plot_roi_accuracy({1: subjects[1], 2: both})
    core, synthetic = figure.axes
    assert core.get_ylabel().startswith("NSD-core\n")
    assert synthetic.get_ylabel().startswith("NSD-synthetic\n")
    np.testing.assert_allclose(bars(synthetic), [50])  # of the one who was tested on it
    assert texts(figure).count("n=0") == 1  # FFA-1 on NSD-synthetic
    only = plot_roi_accuracy({1: subjects[1], 2: both}, ["nsdsynthetic"])
    assert len(only.axes) == 1


def test_regions_of_no_collection_stand_at_the_end():
    figure = plot_roi_accuracy(subject([10, 20], {"mine": ([1], []), "V1v": ([0], [])}))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["V1v", "mine"]
    assert "other" in texts(figure)


def test_labels_do_not_overlap():
    from berg.surface.roi_patches import ROI_COLLECTIONS

    names = [name for names in ROI_COLLECTIONS.values() for name in names]
    everyone = {
        n: subject([10.0 * n], {name: ([0], []) for name in names}, simulated=True)
        for n in range(1, 9)
    }
    figure = plot_roi_accuracy(everyone, model="fmri-nsd_fsaverage-alexnet_untrained")
    figure.canvas.draw()
    page = figure.bbox
    (axes,) = figure.axes
    assert not any(text.startswith("n=") for text in texts(figure))
    for kind in (axes.get_xticklabels(), axes.texts, figure.texts, figure.legends[0].get_texts()):
        boxes = [text.get_window_extent() for text in kind if text.get_text()]
        assert boxes
        for n, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:n])
            assert page.x0 <= box.x0 <= box.x1 <= page.x1
            assert page.y0 <= box.y0 <= box.y1 <= page.y1
    lowest = min(label.get_window_extent().y0 for label in axes.get_xticklabels())
    assert lowest > figure.legends[0].get_window_extent().y1 - 2  # pixels of padding
    assert axes.yaxis.label.get_window_extent().x0 >= page.x0
    assert "simulated subjects, not measured in brains" in texts(figure)


def test_bad_input(subjects):
    with pytest.raises(InvalidParameterError, match="unknown dataset"):
        plot_roi_accuracy(subjects, ["core"])
    with pytest.raises(InvalidParameterError, match=r"no subject was tested(.*\n)+.*nsdcore"):
        plot_roi_accuracy(subjects, ["nsdsynthetic"])
    with pytest.raises(InvalidParameterError, match="no subject was tested"):
        plot_roi_accuracy(metadata({"noise_ceiling": 0.5}))
    with pytest.raises(InvalidParameterError, match="no region to draw"):
        plot_roi_accuracy(subject([1], {"V1v": ([], [])}))
