"""A trained prior: everything that fitting and asking need, in one folder without a pickle."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nisf import __version__
from nisf.config.overrides import from_dict, to_dict
from nisf.config.schema import Config, FitConfig
from nisf.data.anatomy import Anatomy, from_json, to_json
from nisf.device import place_of
from nisf.errors import NisfError
from nisf.files import load_part, read_json, read_tensors, write_json, write_tensors
from nisf.networks.finder import Finder, finder_of
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import Field
from nisf.prior.bundled import model_folder, model_name, model_names

FORMAT = 1
"""Version of the folder's layout; raised when an older nisf could no longer read it."""

NEWER: dict[str, dict[str, Any]] = {
    "image": {"exchange": 0, "moments": 0, "time_sigma": 0.0},
    "augment": {"blur_pixels": 1.1},
    "train": {"optimiser": "adam", "precision": "fp32"},
    "fit": asdict(FitConfig()),
}
"""Settings that a prior's file may lack, by their part, and what they were before they had a name."""

SPECIFICATION, WEIGHTS = "prior.json", "weights.safetensors"


def new_field(config: Config) -> Field | ImageField:
    """An untrained network of the kind that the settings name."""
    return Field(config.field) if config.field.kind == "latent" else ImageField(config.field, config.image)


@dataclass(eq=False)
class Prior:
    """A field trained over a population.

    Attributes:
        config: all settings it was trained with.
        anatomy: label names, colours and phases.
        field: the network, frozen.
        latent_mean: mean of the training subjects' latents (l,).
        latent_covariance: their covariance (l, l).
        half: half lengths of the region's box, mm (3,); None for the whole field of view.
        finder: finds the region in a case without labels; None if it could not be trained.
        card: training set, validation scores, licence, versions: for people, and for `nisf` to print.
        folder: where it was read from or written to.
    """

    config: Config
    anatomy: Anatomy
    field: Field | ImageField
    latent_mean: Tensor
    latent_covariance: Tensor
    half: np.ndarray | None
    finder: Finder | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.field.eval().requires_grad_(False)

    @property
    def source(self) -> str | None:
        """Where to load it from again: a model's name, or a folder."""
        return model_name(self.folder) or (None if self.folder is None else str(self.folder))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight; fitted subjects refer to them."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.field.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def mirrors(self) -> int:
        """Pixel axes along which slices are also seen in a mirror; none where no file is ever mirrored."""
        return self.config.image.mirrors if self.anatomy.turn else 0

    def to(self, device: torch.device) -> Prior:
        """The same with its network on a device; the finder, which is small, stays on the processor."""
        if place_of(self.field) == device:
            return self
        return replace(
            self,
            field=copy.deepcopy(self.field).to(device),
            latent_mean=self.latent_mean.to(device),
            latent_covariance=self.latent_covariance.to(device),
        )

    def save(self, folder: str | Path) -> None:
        """Write the folder; ``prior.json`` comes last, so that a folder that has it is whole."""
        folder = Path(folder)
        tensors = {f"field.{name}": t for name, t in self.field.state_dict().items()}
        if self.config.field.kind == "latent":
            tensors |= {"latent.mean": self.latent_mean, "latent.covariance": self.latent_covariance}
        if self.finder is not None:
            tensors |= {f"finder.{name}": t for name, t in self.finder.state_dict().items()}
        write_tensors(folder / WEIGHTS, tensors)
        write_json(
            folder / SPECIFICATION,
            {
                "format": FORMAT,
                "nisf": __version__,
                "fingerprint": self.fingerprint,
                "config": to_dict(self.config),
                "anatomy": to_json(self.anatomy),
                "half_mm": None if self.half is None else [float(h) for h in self.half],
                "finder": self.finder is not None,
                "card": dict(self.card),
            },
        )
        self.folder = folder.resolve()


def load_prior(folder: str | Path) -> Prior:
    """Read a prior's folder, strictly.

    Args:
        folder: as `Prior.save` wrote it, or the name of a model that comes with the package.

    Raises:
        NisfError: a file is missing or damaged, the format is another version's, or weights and
            specification do not belong together.
    """
    folder = model_folder(folder)
    if not folder.is_dir():
        names = ", ".join(model_names())
        raise NisfError(
            f"{folder}: no such folder; give the folder that 'nisf train' wrote, or a model: {names}"
        )
    path = folder / SPECIFICATION
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise NisfError(
            f"{path}: format {found!r}, but this nisf ({__version__}) reads format {FORMAT}; train it again"
        )
    try:
        # Settings that are newer than the prior keep its old way.
        settings = data["config"]
        settings |= {part: {**newer, **settings[part]} for part, newer in NEWER.items()}
        config = from_dict(Config, settings, f"{path}: config")
        anatomy = from_json(data["anatomy"], path)
        half = None if data["half_mm"] is None else np.array(data["half_mm"], dtype=np.float64)
        has_finder, card = bool(data["finder"]), data["card"]
        wanted = data["fingerprint"]
    except (KeyError, TypeError, ValueError) as error:
        raise NisfError(
            f"{path}: entry {error} is missing or wrong; it was not written by this version of nisf"
        ) from error
    if len(anatomy.labels) != config.field.classes:
        raise NisfError(
            f"{path}: {len(anatomy.labels)} label names for a field of {config.field.classes} classes"
        )
    weights = folder / WEIGHTS
    tensors, _ = read_tensors(weights)
    network = new_field(config)
    load_part(network, "field.", tensors, weights)
    size = config.field.latent
    if config.field.kind == "image":  # no latents are stored
        tensors |= {"latent.mean": torch.zeros(size), "latent.covariance": torch.eye(size)}
    for name, shape in (("latent.mean", (size,)), ("latent.covariance", (size, size))):
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise NisfError(f"{weights}: tensor '{name}' is missing or not of shape {shape}")
    finder = finder_of(tensors, weights) if has_finder else None
    parts = ("field.", "latent.", *(("finder.",) if has_finder else ()))
    if extra := sorted(name for name in tensors if not name.startswith(parts)):
        raise NisfError(
            f"{weights}: tensor '{extra[0]}' is not expected; weights and prior.json do not belong together"
        )
    prior = Prior(
        config,
        anatomy,
        network,
        tensors["latent.mean"],
        tensors["latent.covariance"],
        half,
        finder,
        card,
        folder.resolve(),
    )
    if prior.fingerprint != wanted:
        raise NisfError(
            f"{weights}: fingerprint {prior.fingerprint}, but {path} says {wanted}; copy both files again"
        )
    return prior
