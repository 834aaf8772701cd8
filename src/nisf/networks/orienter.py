"""Recognise in which of the eight in-plane orientations a stack is stored.

A small network gives a coarse slice one score, which is high if the slice is oriented like the training
slices. Its scores for the eight orientations of a slice tell which of them is right. The orientation to which
a stack is brought therefore does not depend on how it is stored, by construction and not by training. The
network sees one slice at a time, so that their order does not matter. It is saved in the prior's folder, in a
file of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.data.arrangement import Arrangement, in_plane
from nisf.data.case import Case, Slice
from nisf.data.scratch import let_go
from nisf.device import one_core
from nisf.errors import BadFileError
from nisf.files import load_part, read_tensors, write_tensors
from nisf.networks.finder import coarse_slice, convolution_block

FILE = "orienter.safetensors"
"""Name of the file in a prior's folder."""

MOST_SLICES = 8
"""Number of slices examined in a case, from the middle of the stack, at one or two frames."""

MIDDLE = 0.2
"""Fraction of the stack at either end that is not examined, because it may show little of the anatomy."""

SURE = 0.3
"""Minimum probability at which a stack is reoriented; below it, the stack is used as stored."""


class Orienter(nn.Module):
    """Maps coarse slices ``(b, 1, 64, 64)`` to a score each, higher if oriented like the training slices."""

    def __init__(self, pixel_mm: float) -> None:
        super().__init__()
        self.pixel_mm: Tensor
        self.register_buffer("pixel_mm", torch.tensor(float(pixel_mm)))

        block = convolution_block
        self.features = nn.Sequential(
            block(1, 16, 2),
            block(16, 32, 2),
            block(32, 32),
            block(32, 48, 2),
            block(48, 64),
            block(64, 96, 2),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 1))

    def forward(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b"]:
        return self.head(self.features(image))[:, 0]


def every_way(image: Float[Tensor, "b n n"]) -> Float[Tensor, "b 8 n n"]:
    """Square slices in each of the orientations of `in_plane`, in its order."""
    found = []
    for way in in_plane():
        moved = image.transpose(1, 2) if way.axes[0] == 1 else image
        found.append(moved.flip([axis + 1 for axis in range(2) if way.flips[axis]]))
    return torch.stack(found, dim=1)


def scores(orienter: Orienter, image: Float[Tensor, "b n n"]) -> Float[Tensor, "b 8"]:
    """The network's score for each slice in each of the orientations of `in_plane`."""
    return orienter(every_way(image).flatten(0, 1)[:, None]).view(-1, len(in_plane()))


def slices_to_orient(case: Case) -> list[Slice]:
    """The slices of the reference stack that are examined: in its middle, at its first and middle frame."""
    slices = [s for s in case.slices if s.stack == 0]
    positions = sorted({s.position for s in slices})
    ends = int(MIDDLE * len(positions))
    positions = positions[ends : len(positions) - ends]
    frames = sorted({s.frame for s in slices})
    frames = sorted({frames[0], frames[len(frames) // 2]}) if frames else []
    keep = max(1, MOST_SLICES // max(1, len(frames)))
    places = np.linspace(0, len(positions) - 1, min(keep, len(positions))).round().astype(int)
    chosen = {positions[place] for place in places}
    return [s for s in slices if s.position in chosen and s.frame in frames]


@torch.no_grad()
@one_core()  # so that the result does not depend on the number of threads
def way_probabilities(case: Case, orienter: Orienter) -> Float[np.ndarray, "8"] | None:
    """Probability, for each orientation of `in_plane`, that it brings a case into that of the training cases.

    None if there are no slices. A case that is stored differently gets the same numbers in another order.
    """
    slices = slices_to_orient(case)
    if not slices:
        return None
    pixel_mm, images = float(orienter.pixel_mm), []
    for item in slices:
        image = case.stacks[0].normalise(item.image)[..., 0]
        images.append(coarse_slice(item, image, pixel_mm))
        let_go(item.image)
    found = scores(orienter, torch.from_numpy(np.stack(images)).float())
    return found.mean(dim=0).softmax(dim=0).numpy()


def way_of(case: Case, orienter: Orienter) -> Arrangement:
    """The rearrangement into the training orientation; the identity if the network is not certain."""
    probability = way_probabilities(case, orienter)
    if probability is None or probability.max() < SURE:
        return Arrangement()
    return in_plane()[int(probability.argmax())]


def write_orienter(path: Path, orienter: Orienter, prior: str) -> None:
    """Write an orienter to a file.

    Args:
        path: path of the file.
        orienter: the trained network.
        prior: fingerprint of the prior that it belongs to.
    """
    tensors = {f"orienter.{name}": tensor for name, tensor in orienter.state_dict().items()}
    write_tensors(path, tensors, {"prior": prior})


def read_orienter(path: Path, prior: str) -> Orienter | None:
    """Read an orienter from a file; None if there is no such file.

    Args:
        path: path of the file.
        prior: fingerprint of the prior that it must belong to.

    Raises:
        BadFileError: the file is damaged, or belongs to another prior.
    """
    if not path.is_file():
        return None
    tensors, metadata = read_tensors(path)
    if metadata.get("prior") != prior:
        raise BadFileError(
            f"{path}: belongs to the prior {metadata.get('prior')!r}, but this one is {prior}; delete the "
            "file or train it again"
        )
    orienter = Orienter(1.0)
    load_part(orienter, "orienter.", tensors, path)
    return orienter.eval().requires_grad_(False)
