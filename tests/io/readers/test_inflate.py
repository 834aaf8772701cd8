import gzip
import zlib

import numpy as np
import pytest

from nisf.errors import BadFileError
from nisf.io.readers import inflate
from nisf.io.readers.inflate import unpacked


@pytest.mark.parametrize("piece", [1, 100, 1 << 23])
@pytest.mark.parametrize("limit", [0, 1, 999, 100_000, 250_000, 400_000])
def test_pieces_are_the_beginning_of_the_content(tmp_path, monkeypatch, piece, limit):
    """Of random numbers and zeros, in one gzip member or several, up to the limit."""
    monkeypatch.setattr(inflate, "_PIECE", max(piece, limit // 50))
    content = np.random.default_rng(0).bytes(50_000) + bytes(200_000)
    path = tmp_path / "a.gz"
    for packed in (
        content,
        gzip.compress(content),
        gzip.compress(content[:70_000]) + gzip.compress(content[70_000:]),
    ):
        path.write_bytes(packed)
        assert b"".join(unpacked(path, limit)) == content[:limit]


def test_no_piece_is_large(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    assert max(map(len, unpacked(tmp_path / "a.gz", 50_000_000))) <= inflate._PIECE


def test_the_checksum_is_tested(tmp_path):
    packed = bytearray(gzip.compress(bytes(20_000_000)))
    packed[-8:-4] = zlib.crc32(b"other").to_bytes(4, "little")
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(BadFileError, match="corrupt gzip"):
        list(unpacked(tmp_path / "a.gz", 20_000_000))
