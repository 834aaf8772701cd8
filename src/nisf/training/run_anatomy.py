"""The anatomy of a training that is resumed: it is stored with the run, like its settings."""

from __future__ import annotations

from pathlib import Path

from nisf.data.anatomy import Anatomy, from_json, load_anatomy, to_json
from nisf.errors import BadSettingError
from nisf.optimisation.checkpoint import CHECKPOINT, OF_ANATOMY, stored_anatomy

DEFAULT = "cardiac-sax"
"""The anatomy of a new training for which none is named."""


def anatomy_to_train(name: str | Path | None, run: Path | None = None) -> Anatomy:
    """The anatomy of a training.

    Args:
        name: an anatomy's name or JSON file; None for that of the run, else `DEFAULT`.
        run: folder of the run that is resumed; None for a new training.

    Raises:
        BadSettingError: there is no such anatomy, or the run has another one.
        BadFileError: the anatomy's file or the checkpoint is damaged.
    """
    path = None if run is None else run / CHECKPOINT
    data = stored_anatomy(path) if path is not None and path.is_file() else None
    stored = None if data is None else from_json(data, f"{path}: anatomy")
    if name is None:
        return stored or load_anatomy(DEFAULT)
    given = load_anatomy(name)
    if stored is not None and _decisive(given) != _decisive(stored):
        raise BadSettingError(
            f"{name}: is not the anatomy of the run in {run} ({stored.name}: {', '.join(stored.labels)}); "
            "leave it out, or train elsewhere",
            options=["anatomy"],
        )
    return given


def _decisive(anatomy: Anatomy) -> dict[str, object]:
    data = to_json(anatomy)
    return {name: data[name] for name in OF_ANATOMY}
