"""A simulated subject on fsaverage5, without a model: metadata, responses, photographs, pages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from berg.metadata import save_metadata
from berg.responses import SavedResponses, save_responses
from berg.surface.fsaverage import load_packaged
from conftest import MODEL_ID, REAL_CARD

N = 10242  # vertices of fsaverage5
HEMIS = ("lh", "rh")
BACK = {"lh": 577, "rh": 551}  # vertices at the back of the brain
PROVENANCE: dict[str, Any] = {
    "model_id": MODEL_ID,
    "subject": 1,
    "rois": [],
    "units": "z-scored fMRI response",
    "weights_sha256": "ab" * 32,
    "simulated": True,
    "berg": "0.1.0",
}


def patch(hemi: str, centre: int, radius_mm: float) -> np.ndarray:
    """The vertices around one, on the inflated surface."""
    places = load_packaged(hemi, "infl")[0]
    return np.flatnonzero(np.linalg.norm(places - places[centre], axis=1) < radius_mm)


def rois(hemi: str) -> dict[str, np.ndarray]:
    none = np.empty(0, np.int64)
    return {
        "V1v": patch(hemi, BACK[hemi], 12),
        "FFA-2": none if hemi == "lh" else patch(hemi, 500, 9),
        "nsdgeneral": patch(hemi, BACK[hemi], 40),
        "mTL-faces": none,
    }


def metadata(*, synthetic: bool = True, simulated: bool = True) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(4)
    fmri: dict[str, Any] = {}
    scores: dict[str, Any] = {
        f"{part}_img_num": np.arange(n) for part, n in (("train", 900), ("val", 50), ("test", 51))
    }
    for hemi in HEMIS:
        fmri[f"{hemi}_fsaverage_rois"] = rois(hemi)
        fmri[f"{hemi}_ncsnr"] = rng.uniform(0, 1, N).astype(np.float32)
        for data in ("nsdcore", "nsdsynthetic")[: 1 + synthetic]:
            ceiling = rng.uniform(0, 0.8, N).astype(np.float32)
            r2 = (ceiling * rng.uniform(0, 1, N)).astype(np.float32)
            scores[f"{hemi}_correlation_{data}"] = np.sqrt(r2)
            scores[f"{hemi}_r2_{data}"] = r2
            scores[f"{hemi}_noise_ceiling_{data}"] = ceiling
            scores[f"{hemi}_explained_variance_{data}"] = 100 * r2 / ceiling
    return {
        "fmri": fmri,
        "encoding_models": scores,
        # Also where it is not simulated in what it says, its brain is a small one.
        "provenance": {"simulated": simulated, "how": "made <b>up</b> for tests"},
    }


def berg_dir(folder: Path, **options: bool) -> Path:
    path = folder / "berg"
    save_metadata(REAL_CARD.files(path).metadata(1), metadata(**options))
    return path


def responses(names: Sequence[str], **changes: Any) -> SavedResponses:
    """Smooth responses with noise: a wave over the inflated surface, another for each image."""
    rng = np.random.default_rng(3)
    rows = {}
    for hemi in HEMIS:
        places = load_packaged(hemi, "infl")[0]
        waves = rng.standard_normal((len(names), 3)) / 25
        noise = rng.standard_normal((len(names), N)) / 10
        rows[hemi] = (np.sin(waves @ places.T) + noise).astype(np.float32)
    parts = {
        **rows,
        **{f"{hemi}_vertices": np.arange(N) for hemi in HEMIS},
        "names": tuple(names),
        "provenance": PROVENANCE,
    }
    return SavedResponses(**(parts | changes))


def part_of(saved: SavedResponses, vertices: dict[str, np.ndarray]) -> SavedResponses:
    """The same responses of fewer vertices."""
    return SavedResponses(
        saved.lh[:, vertices["lh"]],
        saved.rh[:, vertices["rh"]],
        vertices["lh"],
        vertices["rh"],
        saved.names,
        saved.provenance,
    )


def photographs(folder: Path, names: Sequence[str], side: int = 240) -> list[np.ndarray]:
    """Write a flat photograph of its own colour for each name; return the colours."""
    colours = np.random.default_rng(7).integers(0, 256, (len(names), 3), dtype=np.uint8)
    for name, colour in zip(names, colours, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.tile(colour, (side, side, 1))).save(folder / name)
    return list(colours)


def write_npz(folder: Path, names: Sequence[str], **changes: Any) -> tuple[Path, SavedResponses]:
    saved = responses(names, **changes)
    return save_responses(folder / "responses.npz", saved), saved


class _Page(HTMLParser):
    """What a browser would make of the page: its texts, and whatever it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._within = tag
        given = dict(attrs)
        self.sources += [v for k in ("src", "srcset", "poster") if (v := given.get(k)) is not None]
        if tag == "link":
            self.sources.append(given.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.texts.append(data)


class Page:
    """A page read back."""

    def __init__(self, path: Path) -> None:
        self.html = path.read_text(encoding="utf-8")
        parsed = _Page()
        parsed.feed(self.html)
        self.sources, self.tags = parsed.sources, parsed.tags
        self.text = re.sub(r"\s+", " ", " ".join(parsed.texts))
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.html)
        assert found
        self.data = json.loads(found[1])

    def map(self, number: int, group: int = 0) -> dict[str, np.ndarray]:
        """Values by hemisphere, as the page's script reads them."""
        packed = self.data["groups"][group]["maps"][number]
        values = {}
        for hemi in HEMIS:
            steps = np.frombuffer(base64.b64decode(packed["values"][hemi]), "<i2")
            values[hemi] = np.where(steps == -32768, np.nan, steps * packed["step"])
        return values

    def bars(self, number: int, group: int = 0) -> dict[str, list[float | None]]:
        of = self.data["groups"][group]
        names = [region["name"] for region in of["regions"]]
        return dict(zip(names, of["maps"][number]["bars"], strict=True))
