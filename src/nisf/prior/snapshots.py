"""A prior as it was at some steps of its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from nisf.errors import NisfError
from nisf.files import read_tensors, write_tensors
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import Field
from nisf.prior.prior import Prior, new_field


def _path(folder: Path, step: int) -> Path:
    return folder / "stages" / f"step-{step}.safetensors"


def keep_stage(folder: Path, step: int, field: Field | ImageField, statistics: tuple[Tensor, Tensor]) -> None:
    """Write what a prior's answers depend on as it is after ``step`` steps.

    Args:
        folder: the prior's.
        step: optimiser steps done.
        field: the network.
        statistics: mean (l,) and covariance (l, l) of the latents.
    """
    tensors = {f"field.{name}": tensor for name, tensor in field.state_dict().items()}
    mean, covariance = statistics
    write_tensors(_path(folder, step), {**tensors, "latent.mean": mean, "latent.covariance": covariance})


def kept_stages(folder: Path) -> list[int]:
    """The steps that were kept, ascending."""
    return sorted(
        int(path.stem.removeprefix("step-"))
        for path in (folder / "stages").glob("step-*.safetensors")
        if path.stem.removeprefix("step-").isdigit()
    )


def prior_at(prior: Prior, step: int) -> Prior:
    """The prior as it was after ``step`` steps; its finder and settings are the last ones.

    Raises:
        NisfError: that stage was not kept, or is damaged.
    """
    if prior.folder is None or step not in kept_stages(prior.folder):
        raise NisfError(f"{prior.folder}: its training kept no stage after {step} steps")
    path = _path(prior.folder, step)
    tensors, _ = read_tensors(path)
    field = new_field(prior.config)
    try:
        field.load_state_dict(
            {n.removeprefix("field."): t for n, t in tensors.items() if n.startswith("field.")}
        )
        mean, covariance = tensors["latent.mean"], tensors["latent.covariance"]
    except (RuntimeError, KeyError) as error:
        raise NisfError(f"{path}: does not belong to the prior in {prior.folder}") from error
    return replace(prior, field=field, latent_mean=mean, latent_covariance=covariance)
