"""UK Biobank in the format of the ukbb_cardiac programs: ``SUBJECT/sa.nii.gz`` with ``seg_sa.nii.gz``.

Without labels of the whole cine, the pair ``sa_ED``/``sa_ES`` with ``seg_sa_ED``/``seg_sa_ES`` is used.
Long-axis views ``la_2ch``, ``la_3ch``, ``la_4ch`` are further stacks of the case. If an anatomy has label
numbers for one of them under ``"ukb la_4ch"``, its labels are read too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.io.readers.listing import (
    Listing,
    StackFiles,
    any_case,
    case_files,
    existing,
    numbers_of,
    subfolders,
)

ES_TIME = 0.35
"""Time of end-systole if there is only a pair of frames: a usual value at rest, not a measured one."""

VIEWS = ("sa", "la_2ch", "la_3ch", "la_4ch")


def recognises(root: Path) -> bool:
    """Whether `root` is (or contains) a folder with a `sa` or `la_...` image."""
    return any_case(_is_case, root)


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only the folders are listed."""
    listing = Listing()
    for folder in [root] if _is_case(root) else subfolders(root):
        with listing.costs(folder):
            stacks = [stack for view in VIEWS if (stack := _stack(folder, view, anatomy, listing))]
            if not stacks:
                listing.skipped.append(folder)
                continue
            numbers = numbers_of(anatomy, "ukb")
            listing.cases.append(case_files(folder.name, "ukb", stacks, anatomy, numbers))
    return listing


def pair_stack(name: str, images: list[Path], labels: list[Path | None], listing: Listing) -> StackFiles:
    """A stack of an end-diastolic and an end-systolic file, with unknown times."""
    listing.notes["es_time"] = (
        f"the files do not give the time of end-systole: {ES_TIME:g} of the cycle is assumed"
    )
    return StackFiles(
        name=name,
        images=tuple((path,) for path in images),
        labels=tuple(labels),
        times=(0.0, ES_TIME),
        phases={"ED": 0, "ES": 1},
    )


def _is_case(folder: Path) -> bool:
    return any(existing(folder, f"{view}{end}") for view in VIEWS for end in ("", "_ED"))


def _stack(folder: Path, view: str, anatomy: Anatomy, listing: Listing) -> StackFiles | None:
    cine, label = existing(folder, view), existing(folder, f"seg_{view}")
    pair = [path for end in ("ED", "ES") if (path := existing(folder, f"{view}_{end}"))]
    drawn = [existing(folder, f"seg_{view}_{end}") for end in ("ED", "ES")]
    if len(pair) == 2 and (cine is None or (label is None and any(drawn))):
        stack = pair_stack(view, pair, drawn, listing)
        if cine is not None:
            listing.leave_out_cine(cine)
    elif cine is not None:
        stack = StackFiles(view, ((cine,),), (label,))
    elif pair:
        end = "ED" if pair[0].name.startswith(f"{view}_ED") else "ES"
        stack = StackFiles(view, ((pair[0],),), (existing(folder, f"seg_{view}_{end}"),), phases={end: 0})
    else:
        return None
    if any(stack.labels) and view != "sa":
        numbers = numbers_of(anatomy, f"ukb {view}")
        if not numbers:
            # ukbb_cardiac's 1 is the left atrium there; read as in the short axis it would be a ventricle.
            listing.notes["la_numbers"] = (
                "labels of long-axis views are left out, because their numbers mean other structures than "
                f'in the short axis; to use them, give "ukb {view}" numbers in an anatomy file'
            )
            return stack.without_labels()
        return replace(stack, numbers=numbers)
    if view == "sa" and not any(stack.labels):
        listing.warn_of_labels(folder.name, f"{folder}: no label file seg_sa.nii.gz")
    return stack
