import numpy as np
import pytest

from berg import catalog
from berg.errors import InvalidParameterError, InvalidParameterTypeError, ModelNotFoundError

CARD = catalog.find_card(catalog.DEFAULT_MODEL_ID)


def test_the_card_has_the_models_sizes_and_regions():
    assert CARD.subjects == tuple(range(1, 9))
    assert (CARD.n_features, CARD.n_components, CARD.n_vertices) == (205_672, 250, 163_842)
    assert len(CARD.rois) == 32
    assert CARD.rois["nsdgeneral"] == {"lh": 18_461, "rh": 19_523}
    assert CARD.roi_aliases == {"OVWFA": "OWFA"}


def test_printed_card_is_readable_and_complete():
    text = str(CARD)
    for fact in (CARD.model_id, "z-scored", "n_images, 3, height, width", "Human V4", "doi.org"):
        assert fact in text
    assert max(map(len, text.splitlines())) <= 160  # a URL; prose is wrapped
    for name in CARD.rois:
        assert name in text


def test_described_facts_belong_to_the_caller():
    facts = catalog.describe_card(CARD)
    facts["rois"].clear()
    assert len(catalog.describe_card(CARD)["rois"]) == 32


def test_a_misspelt_model_is_guessed():
    with pytest.raises(ModelNotFoundError, match="Did you mean 'fmri-nsd_fsaverage-alexnet_untr"):
        catalog.find_card("fmri-nsd_fsaverage-alexnet_untraind")


@pytest.mark.parametrize("model_id", ["fmri-nsd-fwrf", "brainscore_vision-alexnet"])
def test_a_model_of_the_existing_toolkit_is_no_typo(model_id):
    with pytest.raises(ModelNotFoundError, match="berg does not offer") as caught:
        catalog.find_card(model_id)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("model_id", [None, 3, ""])
def test_what_is_no_model_id_is_refused(model_id):
    with pytest.raises(ModelNotFoundError, match="there is no model"):
        catalog.find_card(model_id)


@pytest.mark.parametrize("subject", [0, 9, -1])
def test_subjects_count_from_1_to_8(subject):
    with pytest.raises(InvalidParameterError, match=rf"no subject {subject}"):
        CARD.check_subject(subject)


@pytest.mark.parametrize("subject", ["1", 1.0, None, True, [1]])
def test_a_subject_is_a_whole_number(subject):
    with pytest.raises(InvalidParameterTypeError, match="not a whole number"):
        CARD.check_subject(subject)


def test_numpy_integers_are_subjects():
    assert CARD.check_subject(np.int64(3)) == 3
