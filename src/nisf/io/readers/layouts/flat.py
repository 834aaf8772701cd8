"""Flat: image files in one folder, each a case named after its file, without labels.

nnU-Net's ``CASE_0000.nii.gz`` is the case ``CASE``; ``_0001`` and so on are its further channels. Files named
like labels, or like outputs of ``nisf segment``, are ignored.
"""

from __future__ import annotations

import re
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.io.dicom.sources import ARCHIVES
from nisf.io.readers.listing import Listing, StackFiles, case_files, is_listed
from nisf.io.readers.nifti import is_image_name, stem

MOST_CHANNELS = 4
"""Maximum number of channels; longer runs of numbered files are separate cases."""

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})", re.ASCII)
_LABELS = re.compile(r"(seg|labels?|mask)_.*|.*[._-](seg|segmentation|gt|labels?|mask)", re.IGNORECASE)
_OURS = re.compile(r"(?P<case>.+)_(image|(probability|std)-[a-z0-9-]+)")


def recognises(root: Path) -> bool:
    """Whether `root` is a folder with image files that are not only labels."""
    return bool(_split(root)[0])


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only the folder is listed."""
    listing = Listing()
    images, others = _split(root)
    listing.skipped += others
    for name, files in _grouped(images):
        if len(files) > 1:
            listing.notes.setdefault(
                "channels",
                f"{', '.join(path.name for path in files)} (and maybe others) are used as channels of one "
                f"case, {name}; give a manifest if they are different cases",
            )
        stack = StackFiles("image", (tuple(files),), (None,))
        listing.cases.append(case_files(name, "flat", [stack], anatomy, {}))
    return listing


def _split(root: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder, and its other image files, archives and visible folders."""
    images, others = [], []
    paths = sorted(root.iterdir())
    fitted = tuple(path.stem for path in paths if path.suffix == ".nisf")
    for path in paths:
        if is_image_name(path) and is_listed(path):
            ours = _OURS.fullmatch(stem(path))
            # Further stacks of a case are written as CASE_STACK_image.
            written = ours is not None and f"{ours['case']}_".startswith(tuple(f"{name}_" for name in fitted))
            (others if written or _LABELS.fullmatch(stem(path)) else images).append(path)
        elif (path.is_dir() or path.name.lower().endswith(ARCHIVES)) and not path.name.startswith("."):
            others.append(path)
    return images, others


def _grouped(images: list[Path]) -> list[tuple[str, list[Path]]]:
    """Case names and their files, channels in order."""
    channels: dict[str, dict[int, Path]] = {}
    for path in images:
        if match := _CHANNEL.fullmatch(stem(path)):
            channels.setdefault(match["case"], {}).setdefault(int(match["channel"]), path)
    # Numbers that do not start at 0, or are too large, are part of the name, e.g. a year.
    groups = [
        (name, [files[n] for n in sorted(files)])
        for name, files in channels.items()
        if sorted(files) == list(range(len(files))) and len(files) <= MOST_CHANNELS
    ]
    taken = {path for _, files in groups for path in files}
    return sorted([*groups, *((stem(path), [path]) for path in images if path not in taken)])
