"""``nisf phantom``: write a cohort of beating-heart phantoms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Phantom:
    """Write a cohort of beating-heart phantoms in UK Biobank style, with their true volumes."""

    output: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder to write the cohort to."""
    subjects: int = 10
    """Number of subjects."""
    seed: int = 0
    """Random seed of the anatomy, noise and slice shifts."""
    long_axis: bool = False
    """Also write a 2-chamber and a 4-chamber cine."""
    overwrite: bool = False
    """Replace existing files even if nisf did not write them."""

    def run(self) -> int:
        from nisf.data.wording import counted, first_few
        from nisf.errors import BadSettingError
        from nisf.files import check_writable
        from nisf.io.readers.listing import subfolders
        from nisf.phantom import write_cohort

        if self.subjects < 1:
            raise BadSettingError(f"--subjects {self.subjects}: give a number of at least 1")
        check_writable(self.output)
        views = ("2ch", "4ch") if self.long_axis else ()
        written = write_cohort(self.output, self.subjects, self.seed, views=views, overwrite=self.overwrite)
        print(f"{counted(self.subjects, 'subject')} written to {self.output}")
        others = [path.name for path in subfolders(self.output) if path not in written]
        if others:
            print(f"note: {self.output} also contains {first_few(others)} from before")
        return 0
