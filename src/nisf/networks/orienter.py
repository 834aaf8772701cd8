"""Tell in which of the eight in-plane ways a stack is stored: a small network that knows one of them.

It gives a coarse slice one number, which is large where the slice lies as training slices do. Asked of a
slice in all eight ways, it tells which of them that is. So the way that a stack is brought to does not depend
on how it is stored, by construction and not by training. It sees one slice at a time, so that their order
does not matter, and is saved beside a prior, in a file of its own.
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
"""Slices looked at in one case: of those in the middle of the stack, at one or two frames."""

MIDDLE = 0.2
"""Share of a stack at each of its ends whose slices are not looked at: they may show little."""

SURE = 0.3
"""Least probability of a way for a stack to be brought to it; below, it is seen as it is stored."""


class Orienter(nn.Module):
    """Coarse slices ``(b, 1, 64, 64)`` to a number each, larger where they lie as training slices do."""

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
    """Square slices in each of the ways of `in_plane`, in its order."""
    found = []
    for way in in_plane():
        moved = image.transpose(1, 2) if way.axes[0] == 1 else image
        found.append(moved.flip([axis + 1 for axis in range(2) if way.flips[axis]]))
    return torch.stack(found, dim=1)


def scores(orienter: Orienter, image: Float[Tensor, "b n n"]) -> Float[Tensor, "b 8"]:
    """The network's number for each slice in each of the ways of `in_plane`."""
    return orienter(every_way(image).flatten(0, 1)[:, None]).view(-1, len(in_plane()))


def slices_to_orient(case: Case) -> list[Slice]:
    """The slices of the reference stack that are looked at: in its middle, at its first and middle frame."""
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
@one_core()  # so that the way does not depend on the number of threads
def way_probabilities(case: Case, orienter: Orienter) -> Float[np.ndarray, "8"] | None:
    """How probable it is that each of the ways of `in_plane` makes a case lie as training cases do.

    None if there is no slice. Stored otherwise, the case has the same numbers in another order.
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
    """What brings a case to the way of the training cases; nothing where the network is not sure."""
    probability = way_probabilities(case, orienter)
    if probability is None or probability.max() < SURE:
        return Arrangement()
    return in_plane()[int(probability.argmax())]


def write_orienter(path: Path, orienter: Orienter, prior: str) -> None:
    """Write the file of an orienter.

    Args:
        path: to write.
        orienter: trained.
        prior: fingerprint of the prior that it belongs to.
    """
    tensors = {f"orienter.{name}": tensor for name, tensor in orienter.state_dict().items()}
    write_tensors(path, tensors, {"prior": prior})


def read_orienter(path: Path, prior: str) -> Orienter | None:
    """The orienter in a file; None if there is no such file.

    Args:
        path: of the file.
        prior: fingerprint of the prior that it has to belong to.

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
