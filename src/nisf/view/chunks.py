"""The data of a static page: compressed arrays and the compressed numbers of all phases, in one sequence."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Shaped

from nisf.data.region import Region
from nisf.view.measured import measured_frame
from nisf.view.prediction import (
    BEFORE,
    FINEST,
    RECENT,
    SPATIAL,
    UNIT,
    Mixture,
    Predicted,
    predicted,
    steps,
)
from nisf.view.viewed import Viewed

AROUND_MM = 5.0
"""Margin around the box; measured pixels beyond it are left out."""
PIXELS = Mixture(axis=0.1, near=0.9 / 6, others=0.0)
"""For the pixels of the measured slices."""


@dataclass
class Chunks:
    """Compressed arrays in one sequence of bytes, and a table of their positions."""

    data: bytearray
    table: dict[str, dict[str, Any]]

    def add(self, name: str, array: Shaped[np.ndarray, "..."], **more: Any) -> None:
        """Append a deflated array; ``more`` are further entries of the table."""
        packing = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
        packed = packing.compress(np.ascontiguousarray(array).tobytes()) + packing.flush()
        self.table[name] = {
            "at": len(self.data),
            "bytes": len(packed),
            "type": array.dtype.newbyteorder("=").name,
            "shape": list(array.shape),
            **more,
        }
        self.data += packed

    def add_predicted(self, group: str, found: Predicted) -> None:
        """Append the compressed numbers of all phases."""
        for was, taps in enumerate(found.taps):
            self.add(f"{group} taps {was}", taps.astype("<i4"))
        self.add(f"{group} means", found.means.astype("<f4"))
        self.add(f"{group} table", found.table.astype("<u2"))
        self.add(f"{group} level table", found.level_table.astype("<u2"))
        for t, (streams, before) in enumerate(zip(found.streams, found.before, strict=True)):
            lengths = [len(stream) for stream in streams]
            at = len(self.data)
            self.table[f"{group} {t}"] = {
                "at": at,
                "bytes": sum(lengths),
                "lengths": lengths,
                "before": before,
            }
            for stream in streams:
                self.data += stream.tobytes()


def coding(sizes: Sequence[Sequence[tuple[int, int]]], mix: Mixture) -> dict[str, Any]:
    """Parameters that the page needs to decode numbers: rows and columns of each slice, and constants."""
    return {
        "sizes": sizes,
        "mix": [mix.axis, mix.near, mix.others],
        "spatial": SPATIAL,
        "before": BEFORE,
        "unit": UNIT,
        "recent": RECENT,
        "steps": steps(np.arange(64)).tolist(),
    }


def pixels(viewed: Viewed, box: Region, index: int, frames: list[int], chunks: Chunks) -> dict[str, Any]:
    """Append the pixels of a stack around the box (8 bits, lossless); returns how the page decodes them."""
    first, last = _window(viewed, box, index)
    wholes = []
    for frame in frames:
        packet = measured_frame(viewed, index, frame)
        whole = np.frombuffer(packet.payload, "<u2").reshape(packet.header["shape"][::-1])
        cut = whole[:, first[1] : last[1], first[0] : last[0]]
        wholes.append([FINEST * np.round(image / 257).astype(np.int32)[None] for image in cut])
    levels = [[np.zeros(image.shape[1:], dtype=np.int64) for image in images] for images in wholes]
    chunks.add_predicted(
        f"measured {index}", predicted(wholes, levels, [t > 0 for t in range(len(frames))], PIXELS)
    )
    sizes = [[(int(x.shape[1]), int(x.shape[2])) for x in images] for images in wholes]
    return {"first": [int(first[0]), int(first[1])], **coding(sizes, PIXELS)}


def _window(viewed: Viewed, box: Region, index: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last (exclusive) pixel of a stack around the box, along x and y."""
    grid = viewed.subject.stacks[index].grid
    corners = np.array(list(product((-1.0, 1.0), repeat=3))) * (box.half + AROUND_MM)
    pixel = grid.affine.inverse(box.pose.inverse(corners))[:, :2]
    size = np.array(grid.shape[:2])
    first = np.floor(pixel.min(0)).astype(int).clip(0, size - 1)
    return first, np.ceil(pixel.max(0)).astype(int).clip(first, size - 1) + 1
