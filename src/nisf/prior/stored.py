"""A prior's folder on disk: ``prior.json`` and the weights, read strictly and without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nisf import __version__
from nisf.config.migration import todays_settings
from nisf.config.overrides import from_dict
from nisf.config.schema import Config
from nisf.data.anatomy import Anatomy, from_json
from nisf.errors import MALFORMED, BadFileError, NoSuchModelError
from nisf.files import read_json, read_tensors
from nisf.networks.finder import Finder, finder_of
from nisf.networks.orienter import FILE as ORIENTER
from nisf.networks.orienter import Orienter, read_orienter
from nisf.prior.bundled import model_folder, model_names

FORMAT = 1
"""Version of the folder's layout; raised when older versions of nisf can no longer read it."""

SPECIFICATION, WEIGHTS = "prior.json", "weights.safetensors"

APPENDICES = ("calibration", "intervals", "quality")
"""Names of the results that may be fitted on validation cases after training.

Each is an optional JSON file of this name in the folder. Its entry ``prior`` is the fingerprint of the prior
that it belongs to; the package that uses it checks the other entries.
"""


@dataclass(frozen=True, eq=False)
class Stored:
    """Contents of a prior's folder, checked as far as all kinds of field have them in common.

    Attributes:
        config: all settings of its training.
        anatomy: label names, colours and phases.
        half: half lengths of the region's box, mm (3,); None for the whole field of view.
        finder: finds the region; None if there is none.
        card: training set, validation scores, licence, versions.
        folder: the folder that it was read from, if any.
        fingerprint: fingerprint of the weights, as ``prior.json`` says.
        tensors: the network's tensors (``field.*``), and others that the kind of field keeps.
        source: the file that the tensors were read from.
        appendices: the appendices that are there, by name; see `APPENDICES`.
        orienter: recognises the orientation in which a stack is stored; None if there is none.
        changed: whether the folder's contents differ from those stated in ``prior.json`` (`contents_of`).
    """

    config: Config
    anatomy: Anatomy
    half: np.ndarray | None
    finder: Finder | None
    card: Mapping[str, Any]
    folder: Path | None
    fingerprint: str
    tensors: Mapping[str, Tensor]
    source: Path
    appendices: Mapping[str, Any] = field(default_factory=dict)
    orienter: Orienter | None = None
    changed: bool = False

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a required tensor.

        Raises:
            BadFileError: it is missing, or of another shape.
        """
        found = self.tensors.get(name)
        if found is None or tuple(found.shape) != shape:
            raise BadFileError(f"{self.source}: tensor '{name}' is missing or not of shape {shape}")
        return found


def read_stored(folder: str | Path) -> Stored:
    """Read a prior's folder.

    Args:
        folder: written by `nisf.prior.prior.Prior.save`, or the name of a bundled model.

    Raises:
        NoSuchModelError: there is no such folder or model.
        BadFileError: a file is missing or damaged, or has a format of another version.
    """
    folder = model_folder(folder)
    if not folder.is_dir():
        names = ", ".join(model_names())
        raise NoSuchModelError(
            f"{folder}: no such folder; give the folder that 'nisf train' wrote, or a model: {names}"
        )
    path = folder / SPECIFICATION
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise BadFileError(
            f"{path}: format {found!r}, but this nisf ({__version__}) reads format {FORMAT}; train it again"
        )
    try:
        config = from_dict(Config, todays_settings(data["config"]), f"{path}: config")
        anatomy = from_json(data["anatomy"], path)
        half = None if data["half_mm"] is None else np.array(data["half_mm"], dtype=np.float64)
        has_finder, card, fingerprint = bool(data["finder"]), dict(data["card"]), str(data["fingerprint"])
    except MALFORMED as error:
        raise BadFileError(
            f"{path}: entry {error} is missing or wrong; it was not written by this version of nisf"
        ) from error
    if len(anatomy.labels) != config.field.classes:
        raise BadFileError(
            f"{path}: {len(anatomy.labels)} label names for a field of {config.field.classes} classes"
        )
    weights = folder / WEIGHTS
    tensors, _ = read_tensors(weights)
    # Folders of earlier versions have no such entry.
    changed = data.get("contents") not in (None, contents_of(data, tensors))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BadFileError(f"{weights}: tensor '{name}' has values that are not finite; train it again")
    finder = finder_of(tensors, weights) if has_finder else None
    if has_finder:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("finder.")}
    parts = (config, anatomy, half, finder, card, folder.resolve(), fingerprint, tensors, weights)
    orienter = read_orienter(folder / ORIENTER, fingerprint)
    appendices = read_appendices(folder, fingerprint)
    return Stored(*parts, appendices=appendices, orienter=orienter, changed=changed)


def contents_of(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that change with anything in a prior's folder that affects answers.

    Besides the weights of all networks these are the settings, the region's size, and the labels and the
    orientation of the anatomy; colours, views and measures may be edited. The files of appendices and the
    orienter name their prior themselves.

    Args:
        data: contents of ``prior.json``.
        tensors: contents of the file of weights.
    """
    anatomy = {
        name: data["anatomy"].get(name) for name in ("labels", "phases", "reorder", "turn", "orientation")
    }
    return hashed(tensors, {"config": data["config"], "half_mm": data["half_mm"], "anatomy": anatomy})


def hashed(tensors: Mapping[str, Tensor], more: Any = None) -> str:
    """Sixteen hexadecimal digits that change with any tensor, and with more that JSON can express."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    if more is not None:
        digest.update(json.dumps(more, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def read_appendices(folder: Path, fingerprint: str) -> dict[str, Any]:
    """The appendices in a prior's folder, by name.

    Raises:
        BadFileError: one is not a JSON object, or belongs to a prior with another fingerprint.
    """
    found = {}
    for name in APPENDICES:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        found[name] = read_json(path)
        if not isinstance(found[name], dict):
            raise BadFileError(f"{path}: not a JSON object; it was not written by nisf")
        if found[name].get("prior") != fingerprint:
            raise BadFileError(
                f"{path}: belongs to the prior {found[name].get('prior')!r}, but this one is {fingerprint}; "
                "delete the file or fit it again"
            )
    return found
