"""ACDC: ``patient001/`` with ``Info.cfg``, ``patient001_frame01.nii.gz`` and ``..._frame01_gt.nii.gz``.

The frames of one patient (end-diastole and end-systole) are one case with one stack. Frame numbers count
from 1, of ``NbFrame`` in the cycle. The whole cine ``patient001_4d.nii.gz`` is read only without frames.
"""

from __future__ import annotations

import re
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.io.readers.listing import (
    CaseFiles,
    Listing,
    StackFiles,
    any_case,
    case_files,
    existing,
    numbers_of,
    subfolders,
    whole_number,
)

_FRAME = re.compile(r"_frame(\d{1,9})\.nii(\.gz)?", re.ASCII)


def recognises(root: Path) -> bool:
    """Whether `root` is (or contains) a folder with matching frames or cine."""
    return any_case(_is_case, root)


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only `Info.cfg` files are opened."""
    listing = Listing()
    for folder in [root] if _is_case(root) else subfolders(root):
        with listing.costs(folder):
            if _is_case(folder):
                if case := _case(folder, anatomy, listing):
                    listing.cases.append(case)
            elif (folder / "Info.cfg").is_file():
                listing.error(folder.name, f"{folder}: no {folder.name}_frameNN or _4d image in it; skipped")
            else:
                listing.skipped.append(folder)
    return listing


def _frames(folder: Path) -> dict[int, Path]:
    found = {}
    for path in sorted(folder.iterdir()):
        match = _FRAME.fullmatch(path.name.removeprefix(folder.name))
        if match and path.name.startswith(folder.name):
            found[int(match[1])] = path
    return found


def _is_case(folder: Path) -> bool:
    return bool(_frames(folder)) or existing(folder, f"{folder.name}_4d") is not None


def _info(folder: Path, listing: Listing) -> dict[str, str]:
    path = folder / "Info.cfg"
    if not path.is_file():
        listing.warn(folder.name, f"{path}: missing, so that phases and the times of frames are unknown")
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon
    }


def _case(folder: Path, anatomy: Anatomy, listing: Listing) -> CaseFiles | None:
    info = _info(folder, listing)
    name, frames = folder.name, _frames(folder)
    said = {key: whole_number(info[key]) for key in ("ED", "ES", "NbFrame") if key in info}
    counted = {key: number for key, number in said.items() if number is not None}
    if bad := [key for key, number in said.items() if number is None]:
        listing.warn(
            name, f"{folder / 'Info.cfg'}: '{bad[0]}: {info[bad[0]][:40]}' is no frame number; left out"
        )
    attributes: dict[str, str] = {
        key.lower(): info[source]
        for key, source in (("group", "Group"), ("height_cm", "Height"), ("weight_kg", "Weight"))
        if source in info
    }
    named = {key: counted[key] for key in ("ED", "ES") if key in counted}
    cine = existing(folder, f"{name}_4d")
    if not frames and cine is not None:
        phases = {key: frame - 1 for key, frame in named.items()}
        stack = StackFiles("sa", ((cine,),), (existing(folder, f"{name}_4d_gt"),), phases=phases)
    else:
        if cine is not None:
            listing.leave_out_cine(cine)
        order = sorted(frames)
        total = counted.get("NbFrame", order[-1])
        if order[0] < 1 or order[-1] > total:
            listing.error(
                name, f"{folder}: frame {order[-1]} of {total} (NbFrame in Info.cfg); correct Info.cfg"
            )
            return None
        for key in [key for key, frame in named.items() if frame not in frames]:
            listing.warn(name, f"{folder}: Info.cfg says {key} is frame {named.pop(key)}, which is missing")
        labels = []
        for frame in order:
            base = frames[frame].name.split(".nii")[0]
            labels.append(existing(folder, f"{base}_gt"))
            if labels[-1] is None:
                listing.warn_of_labels(name, f"{frames[frame]}: no label file {base}_gt.nii.gz beside it")
        stack = StackFiles(
            name="sa",
            images=tuple((frames[frame],) for frame in order),
            labels=tuple(labels),
            times=tuple((frame - 1) / total for frame in order),
            phases={key: order.index(frame) for key, frame in named.items()},
        )
    return case_files(name, "acdc", [stack], anatomy, numbers_of(anatomy, "acdc"), attributes=attributes)
