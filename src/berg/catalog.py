"""The models that berg offers: one YAML card each, read once, looked up by id."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from berg.errors import (
    InvalidParameterError,
    InvalidParameterTypeError,
    ModelNotFoundError,
    did_you_mean,
)
from berg.layout import ModelFiles

DEFAULT_MODEL_ID = "fmri-nsd_fsaverage-alexnet_untrained"
_FOLDER = resources.files("berg") / "cards"
_UPSTREAM_ONLY = "upstream_only.yaml"


@dataclass(frozen=True)
class ModelCard:
    """The facts of one model.

    Parameters
    ----------
    model_id : str
    modality, training_dataset : str
        As the catalog groups models.
    subjects : tuple of int
        Subjects there are models for, counted from 1.
    n_features, n_components, n_vertices : int
        Sizes of the model; `n_vertices` is that of one hemisphere.
    rois : mapping of str to mapping of str to int
        Name of each region of interest to its number of vertices in ``"lh"`` and ``"rh"``.
    roi_aliases : mapping of str to str
        Other accepted names of regions.
    facts : dict
        The whole card, as `describe` shows it.
    """

    model_id: str
    modality: str
    training_dataset: str
    subjects: tuple[int, ...]
    n_features: int
    n_components: int
    n_vertices: int
    rois: Mapping[str, Mapping[str, int]]
    roi_aliases: Mapping[str, str]
    facts: Mapping[str, Any]

    def files(self, berg_dir: Path) -> ModelFiles:
        """Where this model's files lie inside a berg_dir."""
        return ModelFiles(berg_dir, **self.facts["folders"])

    def check_subject(self, subject: object) -> int:
        """Return the subject as an int if the model has it.

        Raises
        ------
        InvalidParameterTypeError, InvalidParameterError
            If it is not a whole number, or not one of `subjects`.
        """
        accepted = f"one of {', '.join(map(str, self.subjects))}"
        number = getattr(subject, "__index__", None)
        if number is None or isinstance(subject, bool):
            raise InvalidParameterTypeError(
                "subject is not a whole number",
                got=f"{type(subject).__name__}: {subject!r}",
                accepted=accepted,
                do="pass an int, for example subject=1",
            )
        if number() not in self.subjects:
            raise InvalidParameterError(
                f"{self.model_id} has no subject {subject}",
                got=f"subject={subject!r}",
                accepted=accepted,
                do="NSD's subjects count from 1, for example subject=1",
            )
        return int(number())

    def __str__(self) -> str:
        facts = self.facts
        rule = "=" * len(self.model_id)
        lines = [self.model_id, rule, ""]
        lines += textwrap.wrap(facts["description"], 88)
        lines.append("")
        for label, key in (
            ("Modality", "modality"),
            ("Training data", "training_dataset"),
            ("Species", "species"),
            ("Stimuli", "stimuli"),
            ("Model type", "model_type"),
            ("Creator", "creator"),
        ):
            lines.append(f"{label + ':':<15}{facts[key]}")
        lines.append(f"{'Subjects:':<15}{', '.join(map(str, self.subjects))}")
        for heading, key in (("Input", "input"), ("Output", "output")):
            section = facts[key]
            lines += ["", heading, f"  {section['type']}, shape {_shape(section['shape'])}"]
            lines += _indented(section["description"])
            lines += [f"  - {constraint}" for constraint in section.get("constraints", [])]
        lines += ["", "Parameters of get_encoding_model"]
        for name, parameter in facts["parameters"].items():
            need = "required" if parameter["required"] else "optional"
            lines.append(f"  {name} ({parameter['type']}, {need})")
            lines += _indented(parameter["description"], 4)
            for key, text in parameter.get("properties", {}).items():
                lines += _indented(f"{key}: {text}", 6)
        lines += ["", "Regions of interest (vertices in subject 1: left, right)"]
        for name, roi in facts["rois"].items():
            lines.append(f"  {name:<12}{roi['lh']:>6}{roi['rh']:>7}  {roi['description']}")
        lines += ["", "References"]
        lines += [f"  {title}: {url}" for title, url in facts["references"].items()]
        return "\n".join(lines)


@cache
def load_cards() -> Mapping[str, ModelCard]:
    """Read every card that comes with the package, sorted by name."""
    names = sorted(entry.name for entry in _FOLDER.iterdir())
    cards = [
        _card(_read(name)) for name in names if name.endswith(".yaml") and name != _UPSTREAM_ONLY
    ]
    return {card.model_id: card for card in cards}


def find_card(model_id: object) -> ModelCard:
    """Look up a model by its id.

    Raises
    ------
    ModelNotFoundError
        If berg has no such model; the message tells a model of the existing toolkit that
        berg does not offer from a misspelt name.
    """
    cards = load_cards()
    if isinstance(model_id, str) and model_id in cards:
        return cards[model_id]
    accepted = ", ".join(cards)
    if isinstance(model_id, str) and _is_upstream_only(model_id):
        raise ModelNotFoundError(
            f"{model_id!r} is a model of the existing BERG toolkit that berg does not offer",
            got=f"model_id={model_id!r}",
            accepted=accepted,
            do="use the existing toolkit for this model: https://github.com/gifale95/BERG",
        )
    raise ModelNotFoundError(
        f"there is no model {model_id!r}.{did_you_mean(model_id, cards)}",
        got=f"model_id={model_id!r}",
        accepted=accepted,
        do="BERG().list_models() or `berg list` lists the models",
    )


def describe_card(card: ModelCard) -> dict[str, Any]:
    """Return the card's facts as a dict that the caller may change."""
    return copy.deepcopy(dict(card.facts))


def group_by_modality() -> dict[str, list[str]]:
    """Return the training datasets of each modality, sorted."""
    catalog: dict[str, set[str]] = {}
    for card in load_cards().values():
        catalog.setdefault(card.modality, set()).add(card.training_dataset)
    return {modality: sorted(datasets) for modality, datasets in sorted(catalog.items())}


def _read(name: str) -> dict[str, Any]:
    import yaml  # only now, so that `berg --help` does without it

    facts: dict[str, Any] = yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8"))
    return facts


def _card(facts: dict[str, Any]) -> ModelCard:
    return ModelCard(
        model_id=facts["model_id"],
        modality=facts["modality"],
        training_dataset=facts["training_dataset"],
        subjects=tuple(facts["subjects"]),
        rois={name: {"lh": roi["lh"], "rh": roi["rh"]} for name, roi in facts["rois"].items()},
        roi_aliases=facts["roi_aliases"],
        facts=facts,
        **facts["sizes"],
    )


def _is_upstream_only(model_id: str) -> bool:
    known = _read(_UPSTREAM_ONLY)
    return model_id in known["model_ids"] or model_id.split("-")[0] in known["prefixes"]


def _shape(shape: object) -> str:
    return f"[{', '.join(map(str, shape))}]" if isinstance(shape, list) else str(shape)


def _indented(text: str, width: int = 2) -> list[str]:
    return textwrap.wrap(text, 88, initial_indent=" " * width, subsequent_indent=" " * width)
