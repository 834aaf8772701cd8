"""``nisf settings``: all settings, with their descriptions and their values in each preset."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from nisf.config.tables import Section

WIDTH = 100
"""Maximum width of the output in columns."""
PAGE_WIDTH = 120
"""Maximum length of a line of text in the documents."""
UNUSED = "-"
"""Value shown for a setting that does not apply to the preset."""


@dataclass(frozen=True)
class Settings:
    """List the settings that 'nisf train --set' accepts, with their values in each preset."""

    section: Annotated[Positional[str | None], arg(metavar="[SECTION]")] = None
    """List only the settings of this section, e.g. train."""
    preset: str | None = None
    """List only the values of this preset, and only the settings that apply to it."""
    markdown: bool = False
    """Print Markdown tables, as in docs/reference.md."""

    def run(self) -> int:
        from nisf.config.presets import PRESETS, preset
        from nisf.config.tables import sections
        from nisf.errors import BadSettingError

        presets = list(PRESETS) if self.preset is None else [preset(self.preset).preset]
        found = sections()
        if self.section is not None:
            names = [section.name for section in found]
            if self.section not in names:
                raise BadSettingError(
                    f"{self.section}: no such section of settings; there are {', '.join(names)}"
                )
            found = [section for section in found if section.name == self.section]
        write = as_markdown if self.markdown else as_list
        parts = [write(section, used) for section in found if (used := section.used_by(presets))]
        if not parts:
            parts = [f"no setting of {self.section} applies to the preset {self.preset}"]
        elif not self.markdown and self.preset is None:
            parts.append(f"{UNUSED} or no column: the setting does not apply to that preset")
        print("\n\n".join(parts))
        return 0


def as_list(section: Section, presets: Sequence[str]) -> str:
    """A section for the terminal: a line of values for each setting, and its help below.

    For a single preset, settings that do not apply are left out.
    """
    shown = [s for s in section.settings if len(presets) > 1 or s.values[presets[0]] is not None]
    rows = [["", *presets], *([s.name, *(s.values[p] or UNUSED for p in presets)] for s in shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *lines = (
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    columns = min(WIDTH, max(40, shutil.get_terminal_size((WIDTH, 24)).columns))
    out = [textwrap.fill(f"{section.name}: {section.help}", columns), f"  {head}"]
    for setting, line in zip(shown, lines, strict=True):
        out.append(f"  {line}")
        text, indent = f"{setting.help} ({setting.kind})", " " * 6
        out.append(
            textwrap.fill(
                text, columns, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )
        )
    return "\n".join(out)


def as_markdown(section: Section, presets: Sequence[str]) -> str:
    """A section as a heading, a sentence and a table; cells of settings that do not apply are empty."""
    rows = [["setting", "what", *(f"`{name}`" for name in presets)], ["---"] * (2 + len(presets))]
    for setting in section.settings:
        what = f"{setting.help} ({setting.kind})".replace("|", r"\|")
        rows.append([f"`{setting.name}`", what, *(setting.values[name] or "" for name in presets)])
    lines = ("| " + " | ".join(row) + " |" for row in rows)
    about = textwrap.fill(section.help, PAGE_WIDTH, break_on_hyphens=False)
    return "\n".join([f"### `{section.name}`", "", about, "", *lines])
