"""Load priors and subjects of any kind."""

from __future__ import annotations

from pathlib import Path

from nisf.errors import BadFileError
from nisf.io.subject_file import read_record, subject_in
from nisf.kinds.registry import kind_of
from nisf.prior.prior import Prior
from nisf.prior.stored import SPECIFICATION, read_stored
from nisf.subject.subject import Subject


def load_prior(folder: str | Path) -> Prior[Subject]:
    """Load a prior.

    Args:
        folder: a folder written by `Prior.save`, or the name of a bundled model.

    Raises:
        NoSuchModelError: there is no such folder or model.
        BadFileError: a file is missing or damaged, has an unsupported version, or weights and settings do not
            match.
    """
    stored = read_stored(folder)
    prior = kind_of(stored.config).prior.from_stored(stored)
    if prior.fingerprint != stored.fingerprint:
        raise BadFileError(
            f"{stored.source}: fingerprint {prior.fingerprint}, but {stored.source.parent / SPECIFICATION} "
            f"says {stored.fingerprint}; copy both files again"
        )
    if stored.changed:
        raise BadFileError(
            f"{stored.source.parent / SPECIFICATION}: settings, region, labels or finder are not those that "
            "the prior was written with; copy the whole folder again"
        )
    return prior


def read_subject(path: str | Path, prior: Prior[Subject] | str | Path | None = None) -> Subject:
    """Read a ``.nisf`` file.

    Args:
        path: the file.
        prior: the prior of the subject, or its folder; by default the folder named in the file.

    Raises:
        NoSuchModelError: the prior is not found.
        BadFileError: the file is damaged, has an unsupported version, or belongs to another prior.
    """
    record = read_record(path)
    if prior is None:
        if record.source is None:
            raise BadFileError(f"{path}: does not name its prior; give the prior", options=("prior",))
        prior = record.source
    if not isinstance(prior, Prior):
        prior = load_prior(prior)
    return subject_in(record, prior)
