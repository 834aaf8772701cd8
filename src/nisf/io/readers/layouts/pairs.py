"""Pairs: ``images/`` and ``labels/`` with equal file names, in any format; also 3D Slicer's ``.seg.nrrd``.

Label numbers are the anatomy's for ``pairs``; without them, number N is the label named 'label N'.
"""

from __future__ import annotations

from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.io.readers.listing import Listing, StackFiles, case_files, is_listed, numbers_of
from nisf.io.readers.nifti import is_image_name, stem


def recognises(root: Path) -> bool:
    """Whether `root` is a folder with `images` and `labels`."""
    return (root / "images").is_dir() and (root / "labels").is_dir()


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only the folders are listed."""
    listing = Listing()
    images = _files(root / "images")
    labels: dict[str, Path] = {}
    for path in _files(root / "labels"):
        name = stem(path).removesuffix(".seg")
        first = labels.setdefault(name, path)
        if first != path:
            listing.labels_unknown[name] = (
                f"{path}: a second label file of {name}, beside {first.name}; remove one of them"
            )
    numbers = numbers_of(anatomy, "pairs") or {n: f"label {n}" for n in range(1, len(anatomy.labels))}
    for path in images:
        label = labels.get(stem(path))
        if label is None:
            listing.warn_of_labels(stem(path), f"{path}: no label file of this name in {root / 'labels'}")
        stack = StackFiles("image", ((path,),), (label,))
        listing.cases.append(case_files(stem(path), "pairs", [stack], anatomy, numbers))
    for name in sorted(labels.keys() - {stem(path) for path in images}):
        listing.warn_of_labels(
            name, f"{labels[name]}: a label without an image of this name in {root / 'images'}"
        )
    return listing


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_image_name(path) and is_listed(path))
