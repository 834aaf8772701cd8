"""Read the cases of a cohort one by one; a case that cannot be read does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.errors import NisfError, unexpected
from nisf.io.readers.cache import CacheError, cached_case
from nisf.io.readers.cohort import Cohort
from nisf.io.readers.labels import Notes
from nisf.io.readers.listing import CaseFiles, refuse_dead_links
from nisf.io.readers.reading import read_case


def read_or_why(files: CaseFiles, anatomy: Anatomy, notes: Notes, *, cache: Path | None = None) -> Case | str:
    """Read a case; returns a sentence instead if it cannot be read.

    Args:
        files: files of the case.
        anatomy: its structures.
        notes: remarks are added here, one per kind.
        cache: folder for decompressed cases, if wanted.
    """
    try:
        refuse_dead_links(files.paths())
        if cache is None:
            return read_case(files, anatomy, notes)
        return cached_case(files, anatomy, cache, notes)
    except CacheError:
        raise  # a problem of the cache would repeat for each case
    except NisfError as error:
        return str(error)
    except Exception as error:
        # Damaged files can break a reader in unforeseen ways, which must not end a night's batch.
        return f"{files.name}: cannot be read ({unexpected(error)}); look at its files with 'nisf check'"


class CaseReader:
    """Iterates over the cases of a cohort, and reads them one by one.

    It yields the name of each case, and the case or a sentence that says why it could not be read. A cache
    that cannot be written raises `CacheError`.

    Args:
        cohort: the cohort; the readers' remarks are added to its notes.
        anatomy: its structures.
        files: which of its cases; all if None.
        labels: whether to read label files too.
        cache: folder for decompressed cases; None to read the cohort's own files each time.

    Attributes:
        failed: sentences by name for the cases that could not be read so far.
    """

    def __init__(
        self,
        cohort: Cohort,
        anatomy: Anatomy,
        files: Sequence[CaseFiles] | None = None,
        *,
        labels: bool = True,
        cache: Path | None = None,
    ) -> None:
        self.cohort, self.anatomy, self.labels, self.cache = cohort, anatomy, labels, cache
        self.files = cohort.cases if files is None else tuple(files)
        self.failed: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[tuple[str, Case | str]]:
        for files in self.files:
            found = self.read(files)
            if isinstance(found, str):
                self.failed[files.name] = found
            yield files.name, found

    def read(self, files: CaseFiles, notes: Notes | None = None) -> Case | str:
        """Read one case; returns a sentence instead if it cannot be read.

        Args:
            files: files of the case.
            notes: gets the readers' remarks instead of the cohort.
        """
        return read_or_why(
            files if self.labels else files.without_labels(),
            self.anatomy,
            self.cohort.notes if notes is None else notes,
            cache=self.cache,
        )

    @property
    def errors(self) -> tuple[str, ...]:
        """Problems found when the cohort was listed, and the cases that could not be read so far."""
        listed = (problem.message for problem in self.cohort.problems if problem.severity == "error")
        return tuple(dict.fromkeys((*listed, *self.failed.values())))

    @property
    def notes(self) -> tuple[str, ...]:
        """The cohort's warnings, and the readers' remarks so far, each once."""
        warnings = (problem.message for problem in self.cohort.problems if problem.severity == "warning")
        return tuple(dict.fromkeys((*warnings, *self.cohort.notes.values())))

    def lines(self) -> tuple[str, ...]:
        """`errors` and `notes` as the user sees them; complete once every case was read."""
        left_out = (f"left out: {sentence}" for sentence in self.errors)
        return (*left_out, *(f"note: {sentence}" for sentence in self.notes))
