import numpy as np
import pytest

from nisf.view.wide_text import BITS, DIGITS, FIRST, PAIRS, SKIPPED, wide_text


def plain(text, count):
    """The bytes of a text, bit by bit."""
    digits = [ord(c) - (SKIPPED if ord(c) >= PAIRS else 0) - FIRST for c in text]
    pairs = zip(digits[::2], digits[1::2], strict=True)
    bits = "".join(f"{a * DIGITS + b:0{BITS}b}" for a, b in pairs)
    return bytes(int(bits[8 * n : 8 * n + 8], 2) for n in range(count))


@pytest.mark.parametrize("count", [0, 1, 31, 1000])
def test_bytes_come_back(count):
    data = np.random.default_rng(count).integers(0, 256, count, dtype=np.uint8).tobytes()
    assert plain(wide_text(data), count) == data


def test_nothing_that_a_browser_reads_as_something_else():
    for data in (bytes(62), b"\xff" * 62, np.arange(256, dtype=np.uint8).tobytes() * 500):
        text = wide_text(data)
        assert plain(text, len(data)) == data
        codes = np.array([ord(c) for c in text])
        assert codes.min() >= 0x100
        assert codes.max() < 0xFFFE
        assert not ((codes >= 0xD800) & (codes < 0xE000)).any()
        assert text.encode("utf-16-le").decode("utf-16-le") == text
