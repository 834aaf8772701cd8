"""Trained priors that come with the package: one folder each, with a model card."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "cardiac-sax"
"""The model that `nisf segment` uses when no prior is given."""


def model_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in FOLDER.glob("*/prior.json"))


def model_folder(name: str | Path) -> Path:
    """The folder of a bundled model, or ``name`` as a path if there is no such model."""
    return FOLDER / name if str(name) in model_names() else Path(name)


def model_name(folder: Path | None) -> str | None:
    """The name of the bundled model in this folder, or None for any other folder."""
    inside = folder is not None and folder.parent == FOLDER.resolve()
    return folder.name if folder is not None and inside else None
