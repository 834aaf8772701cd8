"""The DICOM SEG files of a case: one for each requested phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nisf import __version__
from nisf.errors import BadSettingError
from nisf.io.dicom.seg import Maker, require_highdicom, write_dicom_seg
from nisf.io.dicom.study import DicomStudy
from nisf.io.dicom.volume import arrange
from nisf.io.phases import frames_by_name
from nisf.io.readers.listing import CaseFiles
from nisf.outputs import file_stem
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class SegFiles:
    """The request for a case, and the study that it was read from.

    Attributes:
        study: as listed; what it hides is not written.
        wish: which frames, as for `nisf.io.phases.frames_by_name`.
        phases: the case's named phases, as fractions of the cycle.
    """

    study: DicomStudy
    wish: str = "auto"
    phases: Mapping[str, float] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """Name of the part in a case's record."""
        return "dicom-seg"

    def options(self) -> dict[str, Any]:
        """Everything that affects the files; for identifiers, only whether they are written."""
        hidden = self.study.identifiers.hiding
        return {"wish": self.wish, "phases": dict(self.phases), "hidden": hidden}

    def write(self, folder: Path, subject: Subject, rendering: Rendering) -> list[Path]:
        """Write ``NAME_ED_seg.dcm`` and so on; nothing if the grid is not that of the images.

        Args:
            folder: the output folder.
            subject: made from the study.
            rendering: rendering of its first stack.

        Returns:
            The files written.

        Raises:
            BadSettingError, BadFileError: see `frames_by_name` and `write_dicom_seg`.
        """
        name, stack, prior = subject.name, subject.stacks[0], subject.prior
        if rendering.grid is not stack.grid:
            return []
        anatomy, label = prior.anatomy, rendering.label
        frames = frames_by_name(name, label, stack.grid.times, anatomy, self.phases, self.wish)
        arranged = arrange(self.study.chosen())
        made_by = Maker(__version__, prior.fingerprint)
        written: list[Path] = []
        for phase, frame in frames.items():
            written.append(folder / f"{file_stem(name + (phase and f'_{phase}'))}_seg.dcm")
            array = stack.arrangement.undo(label[..., frame])
            write_dicom_seg(
                written[-1], array, self.study, arranged, frame, anatomy, made_by=made_by, phase=phase
            )
        return written


def refuse_without_dicom(cases: Sequence[CaseFiles]) -> None:
    """Report before any fit why DICOM SEG cannot be written.

    Raises:
        BadSettingError: a case is not DICOM.
        BadFileError: highdicom is missing.
    """
    for case in cases:
        if case.stacks[0].series is None:
            raise BadSettingError(
                f"{case.name} was not read from DICOM images, which a DICOM SEG refers to; leave it out",
                options=["dicom_seg"],
            )
    require_highdicom()
