"""Images that cannot be segmented correctly, or with wrong millimetres, made from good ones.

Each function takes a `corrupted.Picture` and returns another; `WRONG` lists all of them by name.
`quality.py` passes them to a prior: unless the prior refuses one, its light should be red.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from corrupted import (
    Picture,
    Rng,
    blank,
    blurred,
    flat_middle,
    gamma,
    half_gone,
    middle,
    noisy,
    reordered,
    resized,
)


def nothing_to_find(picture: Picture, image: np.ndarray) -> Picture:
    """Put an image without the anatomy on the same grid."""
    return replace(picture, image=image.astype(np.float32), label=np.zeros_like(picture.label))


def gradient(picture: Picture, rng: Rng) -> Picture:
    """A ramp across the image, with a little noise."""
    ramp = np.linspace(0, 1, picture.image.shape[0])[:, None, None, None] * np.ones(picture.image.shape)
    return nothing_to_find(picture, ramp + 0.02 * rng.standard_normal(ramp.shape))


def noise(picture: Picture, rng: Rng) -> Picture:
    """An image of noise only."""
    return nothing_to_find(picture, np.abs(rng.standard_normal(picture.image.shape)))


def checkerboard(picture: Picture, rng: Rng) -> Picture:
    """Squares of 16 pixels."""
    i, j = np.indices(picture.image.shape[:2]) // 16
    board = ((i + j) % 2)[:, :, None, None] * np.ones(picture.image.shape)
    return nothing_to_find(picture, board + 0.02 * rng.standard_normal(board.shape))


def wrapped(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001 - called like the others
    """Written as signed 8-bit integers: intensities above 127 wrap around to -128."""
    levels = np.clip(picture.image, 0, None) * 400
    return replace(picture, image=levels.astype(np.int16).astype(np.int8).astype(np.float32))


def time_as_z(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """Frames stacked along z: the heart appears once for each frame."""
    frames = range(picture.image.shape[3])
    image = np.concatenate([picture.image[..., t] for t in frames], axis=2)[..., None]
    label = np.concatenate([picture.label[..., t] for t in frames], axis=2)[..., None]
    return replace(picture, image=image, label=label, times=np.zeros(1), phases={})


def one_slice_as_z(picture: Picture, rng: Rng) -> Picture:
    """Noisy copies of one slice along z, like the cine of one slice stored as a volume."""
    z = round(float(middle(picture)[2]))
    count = max(8, picture.image.shape[2])
    image = np.repeat(picture.image[:, :, z : z + 1, :1], count, axis=2)
    label = np.repeat(picture.label[:, :, z : z + 1, :1], count, axis=2)
    out = replace(picture, image=image, label=label, times=np.zeros(1), phases={})
    return noisy(out, 0.02, rng)


def out_of_view(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """The larger part of the image beside the heart."""
    inside = np.argwhere((picture.label > 0).any((2, 3)))
    low, high = inside.min(0) - 3, inside.max(0) + 4
    size = np.array(picture.image.shape[:2])
    parts = [(slice(0, low[0]), slice(None)), (slice(high[0], None), slice(None))]
    parts += [(slice(None), slice(0, low[1])), (slice(None), slice(high[1], None))]
    rooms = [max(0, low[0]), size[0] - high[0], max(0, low[1]), size[1] - high[1]]
    part = parts[int(np.argmax(rooms))]
    return replace(picture, image=picture.image[part], label=np.zeros_like(picture.label[part]))


def two_hearts(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """The heart's surroundings twice, side by side."""
    inside = np.argwhere((picture.label > 0).any((2, 3)))
    room = np.round(12 / picture.spacing[:2]).astype(int)
    low = np.maximum(0, inside.min(0) - room)
    high = np.minimum(picture.image.shape[:2], inside.max(0) + room)
    part = (slice(low[0], high[0]), slice(low[1], high[1]))
    both = [np.concatenate([array[part], array[part]]) for array in (picture.image, picture.label)]
    return replace(picture, image=both[0], label=both[1])


def every_2nd_blank(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """Every 2nd slice is 0."""
    return blank(picture, np.arange(picture.image.shape[2]) % 2 == 0)


def lower_half_blank(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """The second half of the slices is 0."""
    slices = picture.image.shape[2]
    return blank(picture, np.arange(slices) < slices // 2)


def in_plane_stripes(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """Every 2nd row of the image is 0, as in a file that was read with the wrong width."""
    image = picture.image.copy()
    image[::2] = 0
    return replace(picture, image=image)


def swapped_columns(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """Neighbouring columns swapped, as in a file with another byte or word order."""
    count = picture.image.shape[1] // 2 * 2
    order = np.arange(picture.image.shape[1])
    order[:count] = order[:count].reshape(-1, 2)[:, ::-1].ravel()
    return replace(picture, image=picture.image[:, order])


def sheared_rows(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """Rows of a length other than the header's, which shears the image."""
    image, width = picture.image.copy(), picture.image.shape[1]
    for i in range(image.shape[0]):
        image[i] = np.roll(image[i], 2 * i % width, axis=0)
    return replace(picture, image=image, label=np.zeros_like(picture.label))


def shuffled(picture: Picture, rng: Rng) -> Picture:
    """Slices in a random order that leaves neighbours far apart."""
    count = picture.image.shape[2]
    orders = [rng.permutation(count) for _ in range(50)]
    return reordered(picture, max(orders, key=lambda order: float(np.abs(np.diff(order)).mean())))


def sideways(picture: Picture, rng: Rng) -> Picture:  # noqa: ARG001
    """Row and slice axes exchanged in the array, but not in the header."""
    image, label = (np.moveaxis(array, 2, 0) for array in (picture.image, picture.label))
    return replace(picture, image=image, label=label)


WRONG: dict[str, Callable[[Picture, Rng], Picture]] = {
    "heart erased": lambda p, rng: flat_middle(p, 10, rng),
    "gradient": gradient,
    "noise": noise,
    "checkerboard": checkerboard,
    "contrast inverted": lambda p, rng: gamma(p, -1.0),  # noqa: ARG005
    "int8 wrapped": wrapped,
    "every 2nd slice blank": every_2nd_blank,
    "half of the slices blank": lower_half_blank,
    "slices shuffled": shuffled,
    "frames stored as slices": time_as_z,
    "one slice's cine stored as slices": one_slice_as_z,
    "half a heart": lambda p, rng: half_gone(p, rng.uniform(0, 2 * np.pi), 0),
    "heart out of view": out_of_view,
    "two hearts": two_hearts,
    "slices 80 mm apart": lambda p, rng: replace(p, spacing=np.array([*p.spacing[:2], 80.0])),  # noqa: ARG005
    "slices 1 mm apart": lambda p, rng: replace(p, spacing=np.array([*p.spacing[:2], 1.0])),  # noqa: ARG005
    "cm for mm": lambda p, rng: resized(p, 0.1, 0.1),  # noqa: ARG005
    "mm for cm": lambda p, rng: resized(p, 10.0, 10.0),  # noqa: ARG005
    "blur of 8 mm": lambda p, rng: blurred(p, 8.0),  # noqa: ARG005
    "strong noise": lambda p, rng: noisy(p, 0.7, rng),
    "every 2nd row blank": in_plane_stripes,
    "columns swapped in pairs": swapped_columns,
    "rows of a wrong length": sheared_rows,
    "axes exchanged": sideways,
}
"""What is made of each good image, by name."""
