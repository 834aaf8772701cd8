"""nnU-Net v2 and Medical Segmentation Decathlon: a folder with ``dataset.json``.

nnU-Net: ``imagesTr/CASE_0000.nii.gz`` (one file per channel) and ``labelsTr/CASE.nii.gz``; the label table
is ``{"background": 0, "LV": 1}``. Decathlon: a list ``training`` of ``{"image": ..., "label": ...}``; the
table is ``{"0": "background", "1": "LV"}``. Either table may be the other way round, and an anatomy's numbers
for ``nnunet`` take its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nisf.data.anatomy import Anatomy
from nisf.errors import BadFileError
from nisf.io.readers.listing import (
    UNKNOWN_NAME,
    Listing,
    StackFiles,
    case_files,
    existing,
    match_names,
    numbers_of,
)
from nisf.io.readers.nifti import is_nifti_name, stem

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def recognises(root: Path) -> bool:
    """Whether `root` is a folder with a `dataset.json`."""
    return (root / "dataset.json").is_file()


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; nothing is opened but `dataset.json`."""
    listing = Listing()
    path = root / "dataset.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = _entries(root, data)
        numbers = numbers_of(anatomy, "nnunet") or match_names(_numbers(path, data), anatomy, path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(
            f"{path}: not a dataset.json of nnU-Net or the Decathlon ({error!r}); mend it"
        ) from error
    for name, images, label in entries:
        missing = [image for image in images if not image.is_file()]
        if missing:
            listing.error(name, f"{missing[0]}: no such file, but {path.name} or another channel asks for it")
            continue
        if label is None or not label.is_file():
            listing.warn(name, f"{images[0]}: no label file in {root / 'labelsTr'}")
            label = None
        stack = StackFiles("image", (tuple(images),), (label,))
        listing.cases.append(case_files(name, "nnunet", [stack], anatomy, numbers))
    return listing


def _entries(root: Path, data: Mapping[str, Any]) -> list[tuple[str, list[Path], Path | None]]:
    """Name, channel files and label file of each training case."""
    if isinstance(data.get("training"), list):  # the Decathlon
        if len(data.get("modality", {})) > 1:
            raise BadFileError(
                f"{root / 'dataset.json'}: 4D files with {len(data['modality'])} channels are not read; "
                "convert them to nnU-Net v2 with nnUNetv2_convert_MSD_dataset"
            )
        pairs = [
            (item, None) if isinstance(item, str) else (item["image"], item.get("label"))
            for item in data["training"]
        ]
        return [
            (stem(Path(image)), [root / image], root / label if label else None)
            for image, label in pairs
            if not Path(image).name.startswith("._")
        ]
    if isinstance(data.get("dataset"), dict):  # nnU-Net v2 with the files elsewhere
        return [
            (
                name,
                [root / image for image in item["images"]],
                root / item["label"] if item.get("label") else None,
            )
            for name, item in data["dataset"].items()
        ]
    channels: dict[str, dict[int, Path]] = {}
    folder = root / "imagesTr"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_nifti_name(path):
            match = _CHANNEL.match(stem(path))
            name, channel = (match["case"], int(match["channel"])) if match else (stem(path), 0)
            channels.setdefault(name, {})[channel] = path
    expected = max(len(data.get("channel_names", data.get("modality", {}))), 1)
    return [
        (
            name,
            [files.get(n, folder / f"{name}_{n:04d}.nii.gz") for n in range(expected)],
            existing(root / "labelsTr", name),
        )
        for name, files in channels.items()
    ]


def _numbers(path: Path, data: Mapping[str, Any]) -> dict[int, str]:
    numbers = {}
    for key, value in data["labels"].items():
        name, number = (value, key) if str(key).isdigit() else (key, value)
        if not str(number).isdigit():
            raise BadFileError(f"{path}: label '{name}' is {number}; regions of several numbers are not read")
        numbers[int(number)] = UNKNOWN_NAME if name == "ignore" else str(name)
    return numbers
