"""File names from the names of cases, stacks, phases and labels, which may be any text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

MAX_BYTES = 120
"""Maximum bytes of a name in UTF-8; file systems allow 255, including suffixes and temporary names."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that Windows reserves for devices, with any extension."""
FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
LEADING = "-.=+@ "
"""Shells take the first for an option, listings hide the second, spreadsheets evaluate the others."""


def file_stem(text: str) -> str:
    """Turn any text into a safe part of a file name; safe texts stay unchanged.

    Separators, control characters, characters that Windows forbids and unsafe first characters become ``_``.
    Long texts are truncated and end with a hash of the whole.
    """
    name = "".join("_" if _invisible(sign) else sign for sign in text)
    name = FORBIDDEN.sub("_", name)
    if name[:1] and name[0] in LEADING:
        name = "_" + name[1:]
    while name[-1:] in (".", " ") and name:
        name = name[:-1] + "_"
    if RESERVED.fullmatch(name):
        name = f"_{name}"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_BYTES:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = name.encode("utf-8", "surrogateescape")[: MAX_BYTES - 9].decode(errors="ignore") + f"-{digest}"
    return name or "_"


def is_file_stem(text: str) -> bool:
    """Whether a text can be used in file names unchanged."""
    return file_stem(text) == text


def _invisible(sign: str) -> bool:
    """Whether a character is a control, line break, bidirectional control or unassigned character.

    Bytes of a file name that are not UTF-8 are surrogates in Python; they are kept.
    """
    if "\udc80" <= sign <= "\udcff":
        return False
    return unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in TURNING


def file_words(labels: Sequence[str]) -> list[str]:
    """Label names as distinct parts of file names: ``LV blood pool`` becomes ``lv-blood-pool``.

    Letters of any script are kept; a name that is taken already gets the label's number.
    """
    words: list[str] = []
    for number, label in enumerate(labels):
        plain = unicodedata.normalize("NFC", label).lower()
        word = file_stem(re.sub(r"[\W_]+", "-", plain).strip("-") or "label")
        words.append(f"{word}-{number}" if word in words else word)
    return words


def collisions(outputs: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, str]]:
    """Files that would be written twice, ignoring case.

    Args:
        outputs: file names by owner.

    Returns:
        The first two owners, possibly the same, by file name.
    """
    owners: dict[str, str] = {}
    found: dict[str, tuple[str, str]] = {}
    for owner, files in outputs.items():
        for file in files:
            key = unicodedata.normalize("NFC", file).casefold()
            if key in owners:
                found.setdefault(file, (owners[key], owner))
            owners.setdefault(key, owner)
    return found
