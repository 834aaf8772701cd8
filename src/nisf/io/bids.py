"""Write segmentations as a BIDS derivative data set, in the folder ``bids`` inside the output folder.

Brain Imaging Data Structure 1.10, section "Derivatives" and its "Imaging data types: segmentations": a
discrete segmentation is ``*_dseg.nii.gz`` with a sidecar, and ``*_dseg.tsv`` lists its label numbers. A case
with a BIDS name keeps its entities; any other name becomes ``sub-NAME``, reduced to letters and digits.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nisf.data.anatomy import Anatomy
from nisf.files import replacing, write_json
from nisf.io.writers import write_volume
from nisf.outputs import recorded
from nisf.outputs.provenance import versions
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject

FOLDER, DATATYPE, DESCRIPTION = "bids", "anat", "nisf"
VERSION = "1.10.0"
_INPUT = "sub ses sample task acq nuc voi ce trc stain rec dir run mod echo flip inv mt part proc hemi"
OURS = ("space", "split", "recording", "chunk", "seg", "res", "den", "label", "desc")
"""Entities that describe a derivative; they are not copied from the input."""
ENTITIES = (*re.findall("[a-z]+", _INPUT), *OURS)
"""All entities, in the order in which they appear in names."""


class BidsFiles:
    """Writes a case's segmentation as a BIDS derivative; a `nisf.segmentation.request.CaseWriter`."""

    part = FOLDER

    def options(self) -> Mapping[str, Any]:
        """Empty: nothing besides the subject and the request affects the files."""
        return {}

    def write(self, folder: Path, subject: Subject, rendering: Rendering) -> list[Path]:
        """Write ``bids/sub-NAME/anat/sub-NAME_desc-nisf_dseg.nii.gz``, its sidecar, and the data set's files.

        If the rendering has probabilities, they go to ``*_label-STRUCTURE_desc-nisf_probseg.nii.gz``.

        Args:
            folder: the output folder.
            subject: subject of the case.
            rendering: rendering of its first stack.

        Raises:
            BadFileError: a file cannot be written or is in the way, e.g. that of a case whose name has the
                same letters and digits.
        """
        prior = subject.prior
        root, names = folder / FOLDER, entities(subject.name)
        _write_data_set(folder, prior.anatomy, str(prior.card.get("licence", "")))
        stack = subject.stacks[0]
        own = rendering.grid is stack.grid
        about: dict[str, Any] = {
            "Description": "Answers of a neural implicit segmentation function at the voxels of a grid",
            "Manual": False,
            "SpatialReference": "orig",
        }
        if not own:
            spacing = " x ".join(f"{side:.4g}" for side in rendering.grid.spacing)
            names, about = {**names, "res": DESCRIPTION}, {**about, "Resolution": f"{spacing} mm"}
        volumes = [(file_name(names, "dseg"), rendering.label)]
        if rendering.probability is not None:
            volumes += [
                (file_name({**names, "label": plain(label)}, "probseg"), rendering.probability[..., number])
                for number, label in enumerate(prior.anatomy.labels)
                if number
            ]
        place = root.joinpath(*(f"{key}-{names[key]}" for key in ("sub", "ses") if key in names), DATATYPE)
        written = []
        for name, data in volumes:
            written += [place / f"{name}.nii.gz", place / f"{name}.json"]
            write_volume(written[-2], data, rendering.grid, stack=stack, own=own)
            write_json(written[-1], about)
        return written


def plain(text: str) -> str:
    """Text reduced to what BIDS allows as the value of an entity: ASCII letters and digits.

    If nothing is left, a hash of the text.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return (
        re.sub(r"[^0-9A-Za-z]", "", ascii_text)
        or hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    )


def entities(case: str) -> dict[str, str]:
    """The BIDS entities of a case's name; the subject only, unless the input has a BIDS name."""
    pairs = re.findall(r"(?:^|_)([a-z]+)-([0-9A-Za-z]+)(?=_|$)", case)
    found = {key: value for key, value in pairs if key in ENTITIES and key not in OURS}
    return found if case.startswith("sub-") and "sub" in found else {"sub": plain(case)}


def file_name(names: Mapping[str, str], suffix: str) -> str:
    """A derivative's name without its extension."""
    named = {**names, "desc": DESCRIPTION}
    return "_".join([*(f"{key}-{named[key]}" for key in ENTITIES if key in named), suffix])


def _write_data_set(folder: Path, anatomy: Anatomy, licence: str) -> None:
    """Write the files of the data set: its description, and the meaning of the label numbers."""
    root = folder / FOLDER
    about = f"Neural implicit segmentation functions; model: {licence}; not a medical device"
    description = {
        "Name": "Segmentations by nisf",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "nisf", "Version": versions().get("nisf", "unknown"), "Description": about}],
    }
    rows = [("index", "name", "abbreviation", "color")]
    rows += [
        (str(number), name, plain(name), colour)
        for number, (name, colour) in enumerate(zip(anatomy.labels, anatomy.colours, strict=True))
    ]
    files = {
        "dataset_description.json": json.dumps(description, indent=2),
        f"desc-{DESCRIPTION}_dseg.tsv": "\n".join("\t".join(row) for row in rows),
        "README.md": "Segmentations by nisf as BIDS derivatives. The dseg.tsv file names the labels.",
    }
    planned = [f"{FOLDER}/{name}" for name in files]
    with recorded(folder, "", "bids data set", planned=planned, wait=10.0):
        for name, text in files.items():
            with replacing(root / name) as draft:
                draft.write_text(text + "\n", encoding="utf-8")
