"""Seeded damage to files: what disks, networks, other programs and attackers make of them."""

from __future__ import annotations

import gzip
import random

NUMBERS = (0, 1, -1, 127, 255, 32767, -32768, 2**31 - 1, -(2**31), 2**63 - 1)
FLOATS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xbd\x37\x86\x35", b"\xff" * 4)
"""As a file holds them: no number, infinity, 1e-6, and no number again."""
TEXTS = (
    "nan", "Infinity", "-1e999", "9" * 5000, "[" * 20_000, "{" * 2000, '"' + "x" * 200_000 + '"', "null",
    "²", "../../evil", "\\u0000", "\x00", "\n", ",", ";", "\ufeff", "1e308", "-0", "true", "\ud7ff",
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes: flipped, cut, repeated, filled, moved, or gone."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not out:
            return bytes(out)
        # The beginning of a file says what the rest means.
        at = rng.randrange(min(len(out), 400)) if rng.random() < 0.7 else rng.randrange(len(out))
        way = rng.randrange(7)
        if way == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            size = rng.choice((2, 4, 8))
            out[at : at + size] = (rng.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
        elif way == 2:
            del out[at:]
        elif way == 3:
            del out[at : at + rng.randint(1, 64)]
        elif way == 4:
            out[at:at] = out[at : at + rng.randint(1, 64)] * rng.randint(1, 20)
        elif way == 5:
            out[at : at + 4] = rng.choice(FLOATS)
        else:
            out[at : at + rng.randint(1, 32)] = rng.randbytes(rng.randint(0, 32))
    return bytes(out)


def damaged_text(data: bytes, rng: random.Random) -> bytes:
    """Text with a part replaced by something strange, or damaged as bytes are."""
    if rng.random() < 0.3:
        return damaged(data, rng)
    text = data.decode("utf-8", "replace")
    begin = rng.randrange(len(text) + 1)
    end = min(len(text), begin + rng.randint(0, 20))
    return (text[:begin] + rng.choice(TEXTS) + text[end:]).encode("utf-8", "replace")


def damaged_gzip(data: bytes, rng: random.Random) -> bytes:
    """A gzip file, damaged inside (and packed again) or outside."""
    if rng.random() < 0.25:
        return damaged(data, rng)
    return gzip.compress(damaged(gzip.decompress(data), rng), 1)
