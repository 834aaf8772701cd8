"""Pictures on a page: images as data URLs, with contours drawn over them as paths."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from nisf.mesh.margin import margin_of

QUALITY = 82
"""Quality of WebP, out of 100."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image with contours, in mm from its upper left corner.

    Attributes:
        title: caption.
        alt: text for readers who cannot see the image.
        image: as a ``data:`` URL.
        width: mm.
        height: mm.
        paths: contour of each label, as an SVG path in mm.
        still: first image of an animation, for readers who prefer no motion; else None.
    """

    title: str
    alt: str
    image: str
    width: float
    height: float
    paths: Mapping[str, str]
    still: str | None = None


def grey(image: Float[np.ndarray, "*n"], low: float, high: float) -> UInt8[np.ndarray, "*n"]:
    """Intensities between two values, mapped to 0 to 255."""
    return (255 * np.clip((image - low) / max(high - low, 1e-12), 0, 1)).round().astype(np.uint8)


def as_url(frames: Sequence[UInt8[np.ndarray, "*n"]], *, ms: float = 100.0) -> str:
    """Images, row by row (y, x) or (y, x, 3), as one WebP; an endless animation if there are several."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    data = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:], "duration": round(ms), "loop": 0}
    images[0].save(data, "WEBP", quality=QUALITY, method=4, **(more if len(images) > 1 else {}))
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def outlines(
    probability: Float[np.ndarray, "x y k"], labels: Sequence[str], step: tuple[float, float]
) -> dict[str, list[np.ndarray]]:
    """Zero level of each structure's margin on a plane: lines (n, 2) in mm from the first point's centre.

    Args:
        probability: probability of each class at the plane's points.
        labels: class names.
        step: mm between points along x and y.
    """
    from contourpy import contour_generator

    found = {}
    for k, label in enumerate(labels):
        if k == 0:
            continue
        margin = np.clip(margin_of(probability, (k,)), -4, 4)
        if not (margin > 0).any():
            continue
        # Contours that reach the border of the plane are closed there.
        padded = np.pad(margin, 1, constant_values=-4.0)
        lines = contour_generator(z=padded.T).lines(0.0)
        found[label] = [(np.asarray(line) - 1) * step for line in lines if len(line) > 3]
    return found


def path_of(lines: Sequence[np.ndarray], offset: tuple[float, float]) -> str:
    """Closed lines as an SVG path, rounded to a tenth of a mm."""
    parts = []
    for line in lines:
        points = np.round(line + offset, 1)
        kept = points[np.r_[True, (np.diff(points, axis=0) != 0).any(1)]]
        if len(kept) > 2:
            parts.append("M" + "L".join(f"{x:g},{y:g}" for x, y in kept) + "Z")
    return "".join(parts)


def drawn_over(
    image: UInt8[np.ndarray, "y x"],
    lines: Mapping[str, Sequence[np.ndarray]],
    colours: Mapping[str, str],
    scale: tuple[float, float],
) -> UInt8[np.ndarray, "y x 3"]:
    """Draw smooth contours into an image; ``scale`` converts the lines' mm to pixels."""
    from PIL import Image, ImageDraw

    size = (2 * image.shape[1], 2 * image.shape[0])
    canvas = Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    for label in reversed(list(lines)):  # the enclosed structure last, on top of shared lines
        for line in lines[label]:
            places = [tuple(place) for place in (2 * line * scale).tolist()]
            pen.line([*places, places[0]], fill=colours[label], width=3, joint="curve")
    return np.asarray(canvas.resize((image.shape[1], image.shape[0]), Image.Resampling.LANCZOS))
