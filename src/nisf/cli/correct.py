"""``nisf correct``: correct a segmented case by strokes; and the same option for ``nisf segment``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from nisf.correction.stroke import Stroke
    from nisf.subject.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """The option of ``nisf segment`` for corrections."""

    corrections: Path | None = None
    """JSON file with correction strokes for one case (see docs/correcting.md)."""

    def refuse_several(self, cases: int) -> None:
        """Reject a file of strokes for several cases.

        Raises:
            BadSettingError: a file of strokes is given, and there are several cases.
        """
        from nisf.errors import BadSettingError

        if self.corrections is not None and cases > 1:
            raise BadSettingError(
                f"--corrections {self.corrections}: applies to one case, but there are {cases}; give --only"
            )


@dataclass(frozen=True)
class Correct:
    """Apply correction strokes to a segmented case and rewrite its segmentation, NAME.nisf and measures.

    The strokes in the file replace the case's existing strokes. nisf segment --corrections gives the same
    result.
    """

    subject: Annotated[Positional[Path], arg(metavar="SUBJECT")]
    """OUT/NAME.nisf, as nisf segment wrote it."""
    strokes: Annotated[Positional[Path | None], arg(metavar="[STROKES.json]")] = None
    """JSON file with strokes, as saved by the viewer (see docs/correcting.md)."""
    add: bool = False
    """Add the strokes to the existing ones instead of replacing them."""
    undo: int = 0
    """First remove this many of the most recent strokes."""
    save: Path | None = None
    """Also write the resulting list of strokes to this file."""
    prior: Path | None = None
    """Folder of the prior, if it has moved."""
    memory_mb: float = 512
    """Working memory for queries in MiB."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    overwrite: bool = False
    """Replace existing files even if nisf did not write them."""

    def run(self) -> int:
        from nisf.cli.cohort import left_out_of
        from nisf.cli.parse import refuse_missing, working_memory
        from nisf.correction.file import write_strokes
        from nisf.data.wording import counted
        from nisf.device import named_device
        from nisf.kinds.load import read_subject
        from nisf.measures.folder import Tables
        from nisf.outputs import Made, recorded_file
        from nisf.segmentation.correct import correct, write_corrected

        refuse_missing([self.subject, self.strokes])
        working_memory(self.memory_mb)
        subject = read_subject(self.subject, self.prior)
        subject = replace(subject, prior=subject.prior.to(named_device(self.device)))
        new = correct(subject, self.wanted(subject))
        folder = self.subject.parent
        with Tables(folder, overwrite=self.overwrite) as tables:
            for path in write_corrected(
                new, folder, memory_mb=self.memory_mb, overwrite=self.overwrite, say=print
            ):
                print(f"wrote {path}")
            tables.note()
        if self.save is not None:
            made = Made(prior=new.prior.fingerprint)
            with recorded_file(self.save, "strokes", made=made, overwrite=self.overwrite):
                write_strokes(self.save, new.strokes, new.reference_stack)
            print(f"wrote {self.save}")
        print(f"{new.name}: {counted(len(new.strokes), 'stroke')}")
        return 1 if left_out_of(tables) else 0

    def wanted(self, subject: Subject) -> tuple[Stroke, ...]:
        """The strokes that should apply.

        Raises:
            NisfError: the options do nothing, or are invalid.
        """
        from nisf.correction.file import MOST_STROKES, read_strokes
        from nisf.data.wording import counted
        from nisf.errors import BadSettingError

        if not 0 <= self.undo <= len(subject.strokes):
            have = len(subject.strokes)
            why = f"{counted(have, 'stroke')}; give 0 to {have}" if have else "no strokes to undo"
            raise BadSettingError(f"--undo {self.undo}: the case has {why}")
        if self.strokes is None:
            if not self.undo:
                raise BadSettingError("give a file of strokes, or --undo")
            return subject.strokes[: len(subject.strokes) - self.undo]
        found = read_strokes(self.strokes, subject.reference_stack)
        if not self.add:
            if self.undo:
                raise BadSettingError("--undo with a file: the file replaces all strokes; give --add too")
            return found
        found = (*subject.strokes[: len(subject.strokes) - self.undo], *found)
        if len(found) > MOST_STROKES:
            raise BadSettingError(f"{len(found)} strokes in total: give at most {MOST_STROKES}")
        return found
