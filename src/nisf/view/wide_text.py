"""Bytes as text in a UTF-16 page: 31 bits in two characters, so that the file grows by 3 %.

HTML changes NUL, carriage return, less-than and surrogates (0xD800 to 0xDFFF), so none of them is used. In
UTF-8 the overhead would be 14 % (base-122), with base64 33 %.
"""

from __future__ import annotations

import numpy as np

BITS = 31
DIGITS = 63_000
"""Base of the numbers; two digits hold 31 bits."""
FIRST, PAIRS, SKIPPED = 0x100, 0xD800, 0x800
"""First character, first skipped character, and number of skipped characters."""


def wide_text(data: bytes) -> str:
    """Encode bytes as text; the last 31 bits are padded with zeros."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    bits = np.pad(bits, (0, -len(bits) % BITS)).reshape(-1, BITS)
    whole = np.packbits(np.pad(bits, ((0, 0), (1, 0))), axis=1).view(">u4").ravel().astype(np.int64)
    digits = np.stack(np.divmod(whole, DIGITS), axis=1).ravel() + FIRST
    digits[digits >= PAIRS] += SKIPPED
    return digits.astype("<u2").tobytes().decode("utf-16-le")
