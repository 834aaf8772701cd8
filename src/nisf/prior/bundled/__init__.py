"""Trained priors that come with the package: a folder each, with its model card."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "cardiac-sax"
"""The model that `nisf segment` uses if no prior is given."""


def model_names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.parent.name for path in FOLDER.glob("*/prior.json"))


def model_folder(name: str | Path) -> Path:
    """The folder of a model; ``name`` itself as a path if there is no such model."""
    return FOLDER / name if str(name) in model_names() else Path(name)


def model_name(folder: Path | None) -> str | None:
    """The name of the model in this folder, or None if it is a folder of the user's."""
    inside = folder is not None and folder.parent == FOLDER.resolve()
    return folder.name if folder is not None and inside else None
