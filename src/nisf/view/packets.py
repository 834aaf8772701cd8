"""The binary format of answers: a JSON header and arrays of numbers, as the page reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.subject.rendering import likeliest


@dataclass(frozen=True)
class Packet:
    """One answer.

    Attributes:
        header: JSON.
        payload: the arrays that the header describes, little-endian.
    """

    header: Mapping[str, Any]
    payload: bytes = field(default=b"", repr=False)

    def encoded(self) -> bytes:
        """Lengths of header and payload (uint32 each), header, payload."""
        header = json.dumps(self.header, allow_nan=False).encode()
        # The payload is aligned to four bytes, so that the page can use it in place.
        header += b" " * (-len(header) % 4)
        return struct.pack("<II", len(header), len(self.payload)) + header + self.payload


def sheet_bytes(values: Float[np.ndarray, "w h m"], channels: int) -> bytes:
    """Answers on an image, row by row: first intensity (uint16), class (uint8), probabilities (uint8 each).

    Args:
        values: intensities in [0, 1], then class probabilities.
        channels: number of intensity channels.
    """
    rows = values.transpose(1, 0, 2)
    intensity = np.round(np.clip(rows[..., 0], 0, 1) * 65535).astype("<u2")
    probability = rows[..., channels:]
    label = likeliest(probability.reshape(-1, probability.shape[2]))
    planes = np.round(probability.transpose(2, 0, 1) * 255).astype(np.uint8)
    return intensity.tobytes() + label.tobytes() + planes.tobytes()
