"""Label numbers, names and colours beside segmentations, for other programs.

``labels.json`` says what each number means. ITK-SNAP opens ``labels.label.txt`` (Segmentation > Import Label
Descriptions), 3D Slicer opens ``labels.ctbl`` as a colour table.
"""

from __future__ import annotations

from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.files import replacing
from nisf.io.writers import write_labels_json
from nisf.outputs import recorded

ITK_SNAP, SLICER = "labels.label.txt", "labels.ctbl"
RULE = "################################################"


def write_label_tables(folder: str | Path, anatomy: Anatomy, *, overwrite: bool = False) -> list[str]:
    """Write ``labels.json`` and the tables for ITK-SNAP and 3D Slicer; existing equal tables are kept.

    Args:
        folder: gets the files.
        anatomy: anatomy of the segmentations in it.
        overwrite: replace other tables, whoever wrote them.

    Returns:
        Names of replaced files that nisf had not written.

    Raises:
        BadFileError: the folder has other tables of these names.
    """
    folder = Path(folder)
    replaced = write_labels_json(folder, anatomy.labels, overwrite=overwrite)
    texts = {ITK_SNAP: itk_snap_table(anatomy), SLICER: slicer_table(anatomy)}
    if all(_says(folder / name, text) for name, text in texts.items()):
        return replaced
    with recorded(folder, "", "label tables", planned=list(texts), overwrite=overwrite, wait=10.0) as writing:
        for name, text in texts.items():
            with replacing(folder / name) as draft:
                draft.write_text(text, encoding="utf-8")
    return replaced + writing.replaced


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour ``#rrggbb``."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def itk_snap_table(anatomy: Anatomy) -> str:
    """An ITK-SNAP label description file: index, colour, opacity, two visibilities, and the quoted name."""
    lines = [RULE, "# ITK-SnAP Label Description File", "# IDX -R- -G- -B- -A-- VIS MSH LABEL", RULE]
    for number, (name, colour) in enumerate(zip(anatomy.labels, anatomy.colours, strict=True)):
        red, green, blue = (0, 0, 0) if number == 0 else rgb(colour)
        shown = min(number, 1)
        text = "Clear Label" if number == 0 else name.replace('"', "'")
        lines.append(
            f'{number:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{text}"'
        )
    return "\n".join(lines) + "\n"


def slicer_table(anatomy: Anatomy) -> str:
    """A 3D Slicer colour table: index, name with underscores for spaces, red, green, blue, opacity."""
    lines = [f"# Color table file {SLICER}", f"# {len(anatomy.labels)} values"]
    for number, (name, colour) in enumerate(zip(anatomy.labels, anatomy.colours, strict=True)):
        red, green, blue = (0, 0, 0) if number == 0 else rgb(colour)
        lines.append(f"{number} {'_'.join(name.split())} {red} {green} {blue} {255 if number else 0}")
    return "\n".join(lines) + "\n"


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
