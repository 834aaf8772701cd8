"""The console that tables are printed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Columns of files and pipes."""


def table_console() -> Console:
    """A console as wide as the terminal; in files and pipes `WIDTH` columns, so that nothing is folded."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    return console
