"""The file of a fitted subject, ``.nisf``: safetensors with a JSON header, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.errors import NisfError
from nisf.files import read_tensors, write_tensors
from nisf.kinds.latent.unknowns import BreathHold
from nisf.networks.canvas import Canvases
from nisf.prior.prior import Prior, load_prior
from nisf.subject.subject import Fitted

FORMAT = 2
"""Version of the file. 2 added the latent's covariance and the breath-holds; 1 is read without them."""


def write_fitted(path: str | Path, fitted: Fitted) -> None:
    """Write one ``.nisf`` file, whole or not at all."""
    metadata = {
        "format": FORMAT,
        "name": fitted.name,
        "prior": {
            "fingerprint": fitted.prior.fingerprint,
            "folder": fitted.prior.source,
        },
        "region": {"pose": fitted.region.pose.matrix.tolist(), "half_mm": fitted.region.half.tolist()},
        "stacks": [
            {
                "name": stack.name,
                "shape": list(stack.grid.shape),
                "affine": stack.grid.affine.matrix.tolist(),
                "times": stack.grid.times.tolist(),
                "oriented": stack.oriented,
                "source": None if stack.source is None else str(stack.source),
                "cycle_ms": stack.cycle_ms,
                "intensity_range": stack.intensity_range.tolist(),
            }
            for stack in fitted.stacks
        ],
        "held": [asdict(held) for held in fitted.held],
        "islands": fitted.islands,
        "certain": list(fitted.certain),
        "summary": dict(fitted.summary),
    }
    tensors = {"latent": fitted.latent}
    if fitted.canvases is not None:
        tensors |= {"canvases.images": fitted.canvases.images, "canvases.maps": fitted.canvases.maps}
        tensors["canvases.times"] = torch.from_numpy(fitted.canvases.times)
    if fitted.covariance is not None:
        tensors["covariance"] = fitted.covariance
    write_tensors(path, tensors, {"nisf": json.dumps(metadata, allow_nan=False)})


def read_fitted(path: str | Path, prior: Prior | str | Path | None = None) -> Fitted:
    """Read a ``.nisf`` file.

    Args:
        path: the file.
        prior: the prior it was fitted with, or its folder; by default the folder that the file names.

    Raises:
        NisfError: the prior is not found, or the file is damaged, of another version, or another prior's.
    """
    tensors, header = read_tensors(path)
    try:
        data = json.loads(header["nisf"])
        if data["format"] not in (1, FORMAT):
            raise NisfError(
                f"{path}: format {data['format']!r}, but this nisf reads formats 1 and {FORMAT}; fit it again"
            )
        if prior is None and data["prior"]["folder"] is None:
            raise NisfError(f"{path}: does not say where its prior is; give it with --prior")
        if not isinstance(prior, Prior):
            prior = load_prior(data["prior"]["folder"] if prior is None else prior)
        fingerprint = data["prior"]["fingerprint"]
        if fingerprint != prior.fingerprint:
            raise NisfError(
                f"{path}: was fitted with prior {fingerprint}, not with the one given ({prior.fingerprint}); "
                "give the prior it was fitted with"
            )
        region = Region(Affine(np.array(data["region"]["pose"])), np.array(data["region"]["half_mm"]))
        stacks = tuple(
            Stack(
                name=item["name"],
                grid=Grid(tuple(item["shape"]), Affine(np.array(item["affine"])), np.array(item["times"])),
                oriented=item["oriented"],
                source=None if item["source"] is None else Path(item["source"]),
                cycle_ms=item["cycle_ms"],
                intensity_range=np.array(item["intensity_range"]),
            )
            for item in data["stacks"]
        )
        latent = tensors["latent"]
        size = prior.config.field.latent if prior.config.field.kind == "latent" else 0
        if latent.shape != (size,) or not torch.isfinite(latent).all():
            raise NisfError(
                f"{path}: latent of shape {tuple(latent.shape)} does not fit the prior; fit it again"
            )
        canvases = None if size else _canvases(tensors, prior)
        covariance = tensors.get("covariance")
        if covariance is not None and covariance.shape != (len(latent), len(latent)):
            raise NisfError(
                f"{path}: covariance of shape {tuple(covariance.shape)} does not fit the latent; fit it again"
            )
        held = tuple(
            BreathHold(
                h["stack"], h["position"], (h["shift_mm"][0], h["shift_mm"][1]), h["gain"], h["offset"]
            )
            for h in data.get("held", [])
        )
        return Fitted(
            data["name"],
            prior,
            latent,
            region,
            stacks,
            data["summary"],
            covariance,
            held,
            canvases,
            "remove" if data.get("islands") == "remove" else "keep",
            tuple(float(least) for least in data.get("certain", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NisfError(f"{path}: not a fitted subject written by nisf ({error!r})") from error


def _canvases(tensors: Mapping[str, Tensor], prior: Prior) -> Canvases:
    """The canvases of a file.

    Raises:
        KeyError, ValueError: they are missing or of other sizes than the prior's.
    """
    images, maps, times = (tensors[f"canvases.{name}"] for name in ("images", "maps", "times"))
    n, side = len(images), prior.config.image.pixels
    shapes = (images.shape, maps.shape, times.shape)
    if shapes != ((n, prior.config.field.channels, side, side), (n, 3, 4), (n,)) or not n:
        raise ValueError(f"canvases of shapes {[tuple(shape) for shape in shapes]}")
    if not all(torch.isfinite(t).all() for t in (images, maps, times)):
        raise ValueError("canvases that are not finite")
    return Canvases(images, maps, times.numpy().astype(np.float64))
