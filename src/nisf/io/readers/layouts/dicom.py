"""DICOM: any folder, zip or file with images; each study is a case. Needs the extra ``nisf[dicom]``."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.wording import counted
from nisf.io.dicom.scan import has_dicom
from nisf.io.dicom.sources import is_archive, looks_like_dicom
from nisf.io.dicom.study import DicomStudy, studies
from nisf.io.readers.listing import CaseFiles, Listing, StackFiles

__all__ = ["case_of", "list_cases", "recognises", "takes_file"]


def recognises(root: Path) -> bool:
    """Whether one of the first files of the folder is DICOM."""
    return has_dicom(root)


def takes_file(path: Path) -> bool:
    """Whether a single file is DICOM or a zip."""
    if is_archive(path):
        return True
    try:
        with path.open("rb") as file:
            return looks_like_dicom(file.read(1024))
    except OSError:
        return False


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The studies in `root`; headers are read, pixels are not."""
    listing = Listing()
    found, scanned = studies(root)
    hide = scanned.identifiers.hide
    for kind, note in scanned.notes.items():
        if kind.startswith("broken"):
            listing.error("", hide(note))
        else:
            listing.notes[f"dicom_{kind}"] = hide(note)
    if scanned.unreadable:
        listing.notes["dicom_unreadable"] = (
            f"{hide(scanned.unreadable[0].shown)}: {counted(len(scanned.unreadable), 'file')} that cannot be "
            "read as DICOM; copy or export them again"
        )
    cine = anatomy.phases is not None
    listing.cases = [case_of(replace(study, cine=cine)) for study in found]
    if not listing.cases and not listing.problems:
        nothing = f"{hide(str(root))}: no DICOM image in it; unpack zip files that it contains"
        listing.error("", listing.notes.get("dicom_nested", nothing))
    return listing


def case_of(study: DicomStudy) -> CaseFiles:
    """The case of a study's chosen series."""
    instances = sorted((one.sop_uid, one.frame) for one in study.taken())
    attributes = {"series": hashlib.sha256(repr(instances).encode()).hexdigest(), **study.body}
    stack = StackFiles("image", (study.files(),), (None,), series=study)
    return CaseFiles(study.name, "dicom", (stack,), attributes=attributes)
