"""Synthesise images that drive one region up and another down, and verify them by encoding.

From one noise image, two are made: one that drives the first region up and the second down, and
its mirror. Gradients of the responses come from ``model.as_torch()``; what the final 8-bit images
do is told by encoding them, as any images.

    python examples/neural_control.py --up FFA-1 --down PPA

References
----------
Bashivan, Kar & DiCarlo (2019), https://doi.org/10.1126/science.aav9436 (neural control).
Gu et al. (2022), https://doi.org/10.1016/j.neuroimage.2021.118812 (synthesis for fMRI).
Olah, Mordvintsev & Schubert (2017), https://doi.org/10.23915/distill.00007 (optimising spectra).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from berg import BERG
from berg.demo import simulated_berg_dir
from berg.model import EncodingModel
from berg.plotting import save_figure
from berg.plotting.figures import INK, Heading, add_colour_bar, new_figure
from berg.plotting.files import check_format
from berg.selection import Selection
from berg.simulation.natural_images import photograph_samples
from berg.surface.fsaverage import n_vertices
from berg.surface.outlines import Regions
from berg.surface.painting import symmetric_scale
from berg.surface.panel import (
    Panel,
    add_axes,
    draw_cortex,
    draw_regions,
    height_over_width,
    name_panel,
)
from berg.surface.raster import VIEWS, View

MODEL_ID = "fmri-nsd_fsaverage-alexnet_untrained"
HEMIS = ("lh", "rh")
SIDE = 256  # pixels: of this size images are not resized, so their grey levels are what is seen
N_PHOTOGRAPHS = 100  # the responses to these say what is usual
# Amplitudes fall as frequency**-1.5, a little faster than those of natural images: gradients then
# shape forms before texture. With the power 1, the images stay noise to the eye.
SLOPE = 1.5
LEARNING_RATE = 0.1
# Lightness, blue against yellow, red against green; the eye, and photographs, vary most in the
# first. Rows are red, green and blue.
COLOUR_AXES = ((0.6, -0.12, 0.12), (0.6, -0.12, -0.12), (0.6, 0.24, 0.0))
COLOURS = ("#B3400E", "#0072B2")  # of the two synthesised images


@dataclass(frozen=True)
class Control:
    """What was synthesised, and what it does.

    Attributes
    ----------
    rois : tuple of two str
        The first image drives the first up and the second down; the other is its mirror.
    images : uint8 array of shape (3, 3, SIDE, SIDE)
        Start, image and mirror.
    means : float array of shape (3, 2)
        Mean response of each image in each region (z), by encoding it.
    photographs : float array of shape (N_PHOTOGRAPHS, 2)
        The same of photographs.
    course : float array of shape (n_steps + 1, 2, 2)
        On the way: step, image or mirror, region.
    targets : float array of shape (2, 2)
        Image or mirror, region.
    """

    rois: tuple[str, str]
    images: np.ndarray
    means: np.ndarray
    photographs: np.ndarray
    course: np.ndarray
    targets: np.ndarray


class Averager:
    """Means over regions, of the responses of a model that is loaded for their union."""

    def __init__(self, model: EncodingModel, regions: list[Selection]) -> None:
        n_vertices_of = [len(region.lh) + len(region.rh) for region in regions]
        self.weights = [
            torch.stack(
                [
                    torch.from_numpy(np.isin(vertices, getattr(region, hemi)) / n).float()
                    for region, n in zip(regions, n_vertices_of, strict=True)
                ],
                dim=1,
            )  # (n_vertices of the hemisphere, n_regions)
            for hemi, vertices in (("lh", model.lh_vertices), ("rh", model.rh_vertices))
        ]

    def __call__(self, responses: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the mean response over each region's vertices, (n_images, n_regions)."""
        return sum(hemi @ weights for hemi, weights in zip(responses, self.weights, strict=True))

    def of_images(self, model: EncodingModel, images: np.ndarray) -> np.ndarray:
        """Return the same for 8-bit images, by the model's own encoding."""
        responses = model.generate_response(images, show_progress=False)
        return self(tuple(map(torch.from_numpy, responses))).numpy()


def draw_spectrum(seed: int) -> torch.Tensor:
    """Draw the spectrum of a noise image: real and imaginary parts on the last axis."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, SIDE, SIDE // 2 + 1, 2, generator=generator)


def to_images(spectra: torch.Tensor) -> torch.Tensor:
    """Turn spectra into images (n, 3, SIDE, SIDE) in 0-1, whatever their values.

    All frequencies have the same variance in a spectrum, and very different ones in an image:
    Adam, which takes steps of one size, so moves coarse forms as readily as fine texture.
    """
    cycles = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)) * SIDE
    amplitude = np.maximum(cycles, 1) ** -SLOPE
    amplitude *= SIDE / np.sqrt(2 * (amplitude**2).sum())  # of noise: fields of variance about 1/2
    scaled = torch.view_as_complex(spectra) * torch.from_numpy(amplitude).float()
    fields = torch.fft.irfft2(scaled, norm="ortho")
    colours = torch.einsum("ca,nahw->nchw", torch.tensor(COLOUR_AXES), fields)
    return torch.sigmoid(colours)


def synthesise(
    model: EncodingModel, rois: tuple[str, str], steps: int, seed: int, reach: float
) -> Control:
    """Synthesise an image and its mirror, and encode them.

    Each region has a target on either side of its responses to photographs, `reach` of their
    standard deviations from their mean. Without a target, responses rise for as long as one
    likes, to where no image that the model was fitted on ever was.
    """
    average = Averager(model, [model.regions.select(roi) for roi in rois])
    encoder = model.as_torch()
    photographs = photograph_samples(N_PHOTOGRAPHS, np.random.default_rng(0))
    usual = average.of_images(model, photographs)
    centre, spread = (torch.from_numpy(of(usual, axis=0)) for of in (np.mean, np.std))
    targets = centre + reach * spread * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])

    start = draw_spectrum(seed)
    spectra = start.repeat(2, 1, 1, 1, 1).requires_grad_()
    optimiser = torch.optim.Adam([spectra], lr=LEARNING_RATE)
    course = []
    for step in range(steps + 1):
        means = average(encoder(to_images(spectra)))
        course.append(means.detach().numpy().copy())
        if step < steps:
            optimiser.zero_grad()
            (((means - targets) / spread) ** 2).sum().backward()
            optimiser.step()
            show(f"step {step + 1} of {steps}")
    show("")
    with torch.no_grad():
        final = to_images(torch.cat([start, spectra]))
    images = (final * 255).round().to(torch.uint8).numpy()
    return Control(
        rois,
        images,
        average.of_images(model, images),
        usual,
        np.stack(course),
        targets.numpy(),
    )


def show(text: str) -> None:
    """Write a line over the one before, where a person watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def verify(control: Control) -> None:
    """Print the responses to the 8-bit images, and exit unless they moved as they should."""
    names = ("start", *image_names(control))
    width = max(map(len, names)) + 2
    print("Mean in silico response (z units) to the 8-bit images, encoded as any\n")
    print(" " * width + "".join(f"{roi:>12}" for roi in control.rois))
    for name, row in zip(names, control.means, strict=True):
        print(f"{name:<{width}}" + "".join(f"{value:12.2f}" for value in row))
    for name, of in (("mean", np.mean), ("SD", np.std)):
        row = of(control.photographs, axis=0)
        label = f"photographs, {name}"
        print(f"{label:<{width}}" + "".join(f"{value:12.2f}" for value in row))
    change = control.means[1:] - control.means[0]
    if (change * [[1, -1], [-1, 1]] <= 0).any():
        raise SystemExit("The regions did not move as they should: more --steps may help.")


def image_names(control: Control) -> tuple[str, str]:
    """Return what the two synthesised images do."""
    first, second = control.rois
    return f"{first} up, {second} down", f"{first} down, {second} up"


def draw(
    control: Control,
    maps: dict[str, np.ndarray] | None,
    regions: list[Selection],
    view: View,
    subject: int,
    simulated: bool,
) -> Figure:
    """Draw the images, their maps (of each hemisphere, one row an image) and the responses."""
    heading = Heading(
        "Images synthesised to drive one region up and another down",
        simulated,
        f"subject {subject} · {len(control.course) - 1} steps along the gradients of the model",
    )
    gap, width, left, top = 0.18, 2.15, 0.2, heading.height + 0.3
    brain = 0.0 if maps is None else width * height_over_width(view)
    tall = max(width + 2 * brain + (0.3 if maps is None else 1.1), 4.4)
    right = left + 3 * (width + gap) + 0.7
    figure = new_figure(right + 3.6, top + tall)
    titles = ("start: noise", *image_names(control))
    colours = (INK, *COLOURS)
    panels = []
    scale = None if maps is None else symmetric_scale([*maps["lh"], *maps["rh"]])
    outlines = None if maps is None else Regions(masks(control.rois, regions))
    for number, image in enumerate(control.images):
        x = left + number * (width + gap)
        axes = add_axes(figure, x, top, width, width)
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(titles[number], fontsize=9.5, color=colours[number], pad=5)
        if maps is None:
            continue
        for row, hemi in enumerate(HEMIS):
            y = top + width + 0.25 + row * (brain + 0.12)
            axes = add_axes(figure, x, y, width, brain)
            seen = draw_cortex(axes, hemi, view, maps[hemi][number], scale)
            panels.append(Panel(axes, hemi, seen, outlines.in_view(hemi, view, seen)))
            if number == 0:
                name_panel(axes, hemi, view)
    if maps is not None:
        for n in range(0, len(panels), 2):  # the regions' names in each image's brains
            draw_regions(panels[n : n + 2])
        below = top + width + 0.25 + 2 * (brain + 0.12)
        add_colour_bar(figure, left + 1.5 * width + gap, below, scale, "in silico response (z)")
    height = (tall - 1.25) / 2
    draw_plane(add_axes(figure, right, top, 3.35, height), control)
    draw_course(add_axes(figure, right, top + height + 0.65, 3.35, height), control)
    heading.write(figure)
    return figure


def draw_plane(axes, control: Control) -> None:
    """Draw the responses of the two regions against each other: photographs, and the ways."""
    first, second = control.rois
    style(axes)
    axes.plot(
        *control.photographs.T,
        "o",
        ms=3,
        mfc="none",
        mec="#9a9a9a",
        mew=0.6,
        label=f"{N_PHOTOGRAPHS} crops of photographs",
    )
    for number, (name, colour) in enumerate(zip(image_names(control), COLOURS, strict=True)):
        axes.plot(*control.course[:, number].T, "-", color=colour, lw=1, alpha=0.7)
        axes.plot(*control.means[number + 1], "D", color=colour, ms=6, label=name)
    axes.plot(*control.means[0], "s", color=INK, ms=5, label="start: noise")
    axes.set_xlabel(f"{first}, mean response (z)", fontsize=9)
    axes.set_ylabel(f"{second}, mean response (z)", fontsize=9)
    axes.margins(0.12)
    axes.legend(fontsize=7, frameon=False, loc="best")


def draw_course(axes, control: Control) -> None:
    """Draw the responses of both regions over the steps, and where they aim."""
    style(axes)
    steps = np.arange(len(control.course))
    for number, colour in enumerate(COLOURS):
        for region, line in enumerate(("-", (0, (4, 2)))):
            axes.plot(steps, control.course[:, number, region], ls=line, color=colour, lw=1.5)
            axes.axhline(control.targets[number, region], color=colour, lw=0.5, ls=":")
    for name, line in zip(control.rois, ("-", (0, (4, 2))), strict=True):
        axes.plot([], [], ls=line, color=INK, lw=1.5, label=name)
    axes.plot([], [], ls=":", color=INK, lw=0.7, label="targets")
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("mean response (z)", fontsize=9)
    legend = {"fontsize": 7, "frameon": False, "ncols": 3, "borderaxespad": 0}
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02), **legend)


def style(axes) -> None:
    """Give axes ticks and two spines."""
    axes.set_axis_on()
    axes.tick_params(labelsize=8, length=2.5, width=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color="#e4e4e4", lw=0.8, zorder=0)


def masks(rois: tuple[str, str], regions: list[Selection]) -> dict[str, dict[str, np.ndarray]]:
    """Return where each region is on fsaverage, by hemisphere and name."""
    return {
        hemi: {
            roi: np.isin(np.arange(n_vertices()), getattr(region, hemi))
            for roi, region in zip(rois, regions, strict=True)
        }
        for hemi in HEMIS
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--up", default="FFA-1", help="region to drive up (FFA-1)")
    parser.add_argument("--down", default="PPA", help="region to drive down (PPA)")
    parser.add_argument("--steps", type=int, default=40, help="along the gradient (40)")
    parser.add_argument(
        "--reach", type=float, default=6.0, help="how far, in SDs of photographs (6)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise at the start (0)")
    parser.add_argument("--subject", type=int, default=1, help="1 to 8 (1)")
    parser.add_argument("--view", choices=VIEWS, default="ventral", help="of the brains (ventral)")
    parser.add_argument("--berg-dir", type=Path, help="by default a simulated subject")
    parser.add_argument(
        "--out", type=Path, default=Path("neural-control.png"), help="png, svg, pdf"
    )
    given = parser.parse_args(arguments)
    if given.up == given.down:
        parser.error("--up and --down are the same region")
    check_format(given.out.suffix.lower().removeprefix("."))  # not after the work

    berg = BERG(given.berg_dir or simulated_berg_dir())
    rois = (given.up, given.down)
    model = berg.get_encoding_model(MODEL_ID, "cpu", {"roi": list(rois)}, subject=given.subject)
    regions = [model.regions.select(roi) for roi in rois]
    for roi, region in zip(rois, regions, strict=True):
        if not len(region.lh) + len(region.rh):
            parser.error(f"subject {given.subject} has no {roi}")
    control = synthesise(model, rois, given.steps, given.seed, given.reach)
    verify(control)
    maps = None
    if model.card.n_vertices == n_vertices():
        whole = berg.get_encoding_model(MODEL_ID, "cpu", subject=given.subject)
        maps = dict(
            zip(HEMIS, berg.encode(whole, control.images, show_progress=False), strict=True)
        )
    figure = draw(control, maps, regions, given.view, given.subject, bool(model.is_simulated))
    save_figure(figure, given.out, title="Images synthesised through a model of the brain")
    print(f"\nPicture: {given.out}")


if __name__ == "__main__":
    main()
