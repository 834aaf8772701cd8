"""Hide patients' names, identifiers and dates of DICOM studies."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DATES = re.compile(
    r"(?<!\d)(?:19|20)\d\d(?:0\d|1[0-2])[0-3]\d(?:\d{4,6})?(?!\d)"  # 20120131, also with a time
    r"|(?<!\d)(?:19|20)\d\d[-_./](?:0?\d|1[0-2])[-_./]\d{1,2}(?!\d)"
    r"|(?<!\d)\d{1,2}[-_./]\d{1,2}[-_./](?:19|20)?\d\d(?!\d)"
    r"|(?<!\d)\d{1,2}[-_. ]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-_. ]?"
    r"(?:19|20)?\d\d(?!\d)",
    re.IGNORECASE,
)
_UIDS = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}")  # many contain a date


class Identifiers:
    """Identifying values from headers, to be removed from everything that is shown.

    Args:
        values: names, whose parts are removed one by one, and identifiers; None hides nothing.
    """

    def __init__(self, values: Iterable[str] | None = ()) -> None:
        self.hiding = values is not None
        values = () if values is None else values
        self.values = frozenset(value.strip() for value in values if value.strip())
        words = {word for value in self.values for word in (value, *re.split(r"[\^=,;\s]+", value))}
        longest_first = sorted((word for word in words if len(word) > 1), key=lambda word: (-len(word), word))
        # "_" counts as a separator, because file names use it.
        self._words = [
            re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", re.IGNORECASE) for word in longest_first
        ]

    def hide(self, text: str, instead: str = "[hidden]") -> str:
        """The text without identifiers, dates and UIDs."""
        for pattern in (*self._words, _UIDS, _DATES) if self.hiding else ():
            text = pattern.sub(instead, text)
        return text

    def plain(self, text: str) -> str:
        """The text with identifiers removed, for names and descriptions; may become empty."""
        hidden = self.hide(text, "\0")
        if hidden == text:
            return text.strip()
        return re.sub(r"[\s_.^-]*\0[\s_.^\0-]*", " ", hidden).strip(" _.-^").replace("  ", " ")
