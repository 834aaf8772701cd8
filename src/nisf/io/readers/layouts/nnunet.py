"""nnU-Net and Medical Segmentation Decathlon: a folder with ``dataset.json``.

nnU-Net v2: ``imagesTr/CASE_0000.nii.gz`` (one file per channel) and ``labelsTr/CASE.nii.gz``, or another
extension, given as ``file_ending``; the label table is ``{"background": 0, "LV": 1}``. Decathlon: a list
``training`` of ``{"image": ..., "label": ...}``; nnU-Net v1 lists ``CASE.nii.gz`` there and means
``CASE_0000.nii.gz`` and further channels. Their table is ``{"0": "background", "1": "LV"}``. Both directions
of the table are accepted. An anatomy's numbers for ``nnunet`` replace a table with other names; a number that
has different names of the anatomy in both is refused. Test images (``imagesTs``) are not listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nisf.data.anatomy import Anatomy
from nisf.data.case import UNKNOWN_NAME
from nisf.data.wording import counted
from nisf.errors import MALFORMED, BadFileError
from nisf.files import parse_json
from nisf.io.readers.itk import ENDINGS
from nisf.io.readers.listing import (
    Listing,
    StackFiles,
    case_files,
    existing,
    is_listed,
    match_names,
    numbers_of,
    whole_number,
)
from nisf.io.readers.nifti import is_image_name, stem

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def recognises(root: Path) -> bool:
    """Whether `root` is a folder with a `dataset.json`."""
    return (root / "dataset.json").is_file()


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only `dataset.json` is opened."""
    listing = Listing()
    path = root / "dataset.json"
    try:
        data = parse_json(path.read_text(encoding="utf-8-sig"))
        _refuse_other_endings(path, data)
        entries = _entries(root, data)
        numbers = _meaning(path, data, anatomy, listing)
    except (OSError, *MALFORMED) as error:
        raise BadFileError(
            f"{path}: not a dataset.json of nnU-Net or the Decathlon ({error!r}); correct it"
        ) from error
    count = _channel_count(data)
    for name, images, label in entries:
        missing = [image for image in images if not is_listed(image)]
        if missing:
            listing.error(name, f"{missing[0]}: no such file, but {path.name} or another channel lists it")
            continue
        if 0 < count < len(images):
            listing.error(
                name,
                f"{images[count]}: a further channel of {name}, but {path.name} names "
                f"{counted(count, 'channel')}; correct it, or remove the file",
            )
            continue
        if label is None or not is_listed(label):
            listing.warn_of_labels(name, f"{images[0]}: no label file in {root / 'labelsTr'}")
            label = None
        stack = StackFiles("image", (tuple(images),), (label,))
        listing.cases.append(case_files(name, "nnunet", [stack], anatomy, numbers))
    tests = root / "imagesTs"
    if tests.is_dir():
        listing.notes["tests"] = (
            f"{tests}: test images are not among the cases; give this folder to segment them"
        )
    return listing


def _channel_count(data: Mapping[str, Any]) -> int:
    """Number of channels that `dataset.json` names; 0 if it names none."""
    return len(data.get("channel_names", data.get("modality", {})))


def _entries(root: Path, data: Mapping[str, Any]) -> list[tuple[str, list[Path], Path | None]]:
    """Name, channel files and label file of each training case."""
    if isinstance(data.get("training"), list):  # the Decathlon, and nnU-Net v1
        pairs = [
            (item, None) if isinstance(item, str) else (item["image"], item.get("label"))
            for item in data["training"]
        ]
        return [
            (stem(Path(image)), _channels(root, root / image, data), root / label if label else None)
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
    folder, ending = root / "imagesTr", str(data.get("file_ending", ""))
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_image_name(path) and path.name.endswith(ending):
            match = _CHANNEL.match(stem(path))
            name, channel = (match["case"], int(match["channel"])) if match else (stem(path), 0)
            channels.setdefault(name, {})[channel] = path
    least = max(_channel_count(data), 1)
    return [
        (
            name,
            [
                files.get(n, folder / f"{name}_{n:04d}{ending or '.nii.gz'}")
                for n in sorted({*range(least), *files})
            ],
            existing(root / "labelsTr", name),
        )
        for name, files in channels.items()
    ]


def _channels(root: Path, image: Path, data: Mapping[str, Any]) -> list[Path]:
    """The files of a listed image: itself, or one per channel as in nnU-Net v1."""
    count = max(len(data.get("modality", {})), 1)
    first = existing(image.parent, f"{stem(image)}_0000")
    if first is not None and not is_listed(image):
        ending = first.name.removeprefix(f"{stem(image)}_0000")
        further = existing(image.parent, f"{stem(image)}_{count:04d}")
        named = [image.with_name(f"{stem(image)}_{n:04d}{ending}") for n in range(count)]
        return named if further is None else [*named, further]
    if count > 1:
        raise BadFileError(
            f"{root / 'dataset.json'}: 4D files with {count} channels are not read; "
            "convert them to nnU-Net v2 with nnUNetv2_convert_MSD_dataset"
        )
    return [image]


def _refuse_other_endings(path: Path, data: Mapping[str, Any]) -> None:
    ending = data.get("file_ending", ".nii.gz")
    if not is_image_name(Path(f"x{ending}")):
        raise BadFileError(
            f"{path}: its files end in '{ending}' (file_ending), but only .nii.gz, .nii, "
            f"{', '.join(ENDINGS)} are read; convert them to NIfTI"
        )


def _meaning(path: Path, data: Mapping[str, Any], anatomy: Anatomy, listing: Listing) -> Mapping[int, str]:
    """The anatomy's numbers for this layout, unless the label table contradicts them; else the table."""
    told = numbers_of(anatomy, "nnunet")
    if not told:
        return _matched(path, data, anatomy, listing)
    spelled = anatomy.spelled()
    try:
        table = _numbers(path, data)
    except BadFileError:
        return told  # regions, which the anatomy's numbers replace
    for number, name in table.items():
        own = spelled.get(name.lower())
        if own is not None and told.get(number, own) != own:
            listing.labels_unknown.setdefault(
                "",
                f"{path}: label {number} is {own}, but {told[number]} in {anatomy.name}'s numbers for "
                "nnunet; correct one of them",
            )
    return told


def _matched(path: Path, data: Mapping[str, Any], anatomy: Anatomy, listing: Listing) -> dict[int, str]:
    """The label table, spelt as in the anatomy; if it does not match, images can still be read."""
    try:
        return match_names(_numbers(path, data), anatomy, path)
    except BadFileError as error:
        listing.labels_unknown[""] = str(error)
        return {}


def _numbers(path: Path, data: Mapping[str, Any]) -> dict[int, str]:
    numbers: dict[int, str] = {}
    for key, value in data["labels"].items():
        name, said = (key, value) if whole_number(str(key)) is None else (value, key)
        number = whole_number(str(said))
        if number is None:
            raise BadFileError(
                f"{path}: label '{name}' is {str(said)[:40]}; regions of several numbers are not read"
            )
        if number in numbers:
            raise BadFileError(
                f"{path}: label {number} is both '{numbers[number]}' and '{name}'; correct one"
            )
        numbers[number] = UNKNOWN_NAME if name == "ignore" else str(name)
    return numbers
