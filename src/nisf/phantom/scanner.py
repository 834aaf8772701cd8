"""A simulated scanner: hearts become cases with thick slices, noise, coil shading and breath-hold shifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nisf.data.case import Case, Stack, intensity_range, slices_of_volume
from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.phantom.chest import BRIGHTNESS, near, surroundings, texture, tissue
from nisf.phantom.heart import LABELS, Heart, Shape, axes, pose, shape_at, ventricles

ACROSS = 4  # sub-slices through the thickness
WITHIN = 2  # samples along each side of a pixel


@dataclass(frozen=True)
class Scanner:
    """Scanner settings.

    Attributes:
        spacing_mm: pixel size.
        matrix: pixels along the image's two axes.
        thickness_mm: thickness of a slice.
        gap_mm: between slices.
        beyond: slices above the base and below the apex, at each end.
        frames: number of frames of the cine.
        cycle_ms: length of the cardiac cycle.
        noise: standard deviation of each channel of the (Rician) noise, relative to blood.
        bias: strength of the coil's shading: approximate standard deviation of its logarithm.
        shift_mm: standard deviation of each slice's breath-hold shift, along each image axis.
        scale: file intensity of blood.
        rotation_deg: rotation of the images about their normal.
        tilt_deg: deviation of the stack's normal from the long axis, about the image's two axes.
        offset_mm: centre of the image relative to the heart's centre, along the image's axes.
        from_apex: whether the first slice is the apical one.
    """

    spacing_mm: float = 1.8
    matrix: tuple[int, int] = (112, 112)
    thickness_mm: float = 8.0
    gap_mm: float = 2.0
    beyond: int = 1
    frames: int = 12
    cycle_ms: float = 900.0
    noise: float = 0.03
    bias: float = 0.12
    shift_mm: float = 1.0
    scale: float = 300.0
    rotation_deg: float = 0.0
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    offset_mm: tuple[float, float] = (0.0, 0.0)
    from_apex: bool = False

    def __post_init__(self) -> None:
        if min(self.spacing_mm, self.thickness_mm, *self.matrix, self.frames, self.cycle_ms, self.scale) <= 0:
            raise ValueError(f"a scanner's sizes, frames, cycle and scale must be positive: {self}")
        if min(self.gap_mm, self.beyond, self.noise, self.bias, self.shift_mm) < 0:
            raise ValueError(f"a scanner's gap, noise, bias and shift must not be negative: {self}")


@dataclass(frozen=True, eq=False)
class Scan:
    """A scanned heart and its ground truth.

    Attributes:
        case: the scanned images and labels.
        shifts_mm: in-plane shift of each slice along the grid's two image axes: the image at world ``x``
            shows the tissue at ``x`` minus the shift.
        heart: the true heart.
    """

    case: Case
    shifts_mm: Float[np.ndarray, "z 2"]
    heart: Heart


def short_axis(heart: Heart, scanner: Scanner) -> Grid:
    """The short-axis stack planned at end-diastole, from slightly above the base to slightly below the apex.

    Viewed as radiologists do: from the apex, right ventricle to the left, diaphragm at the bottom.
    """
    apex = axes(heart)[2]
    # Down is mostly inferior, so that the septum is oriented as in patients' images.
    down = -np.array([0.0, 0.4, 1.0])
    down -= (down @ apex) * apex
    down /= np.linalg.norm(down)
    frame = np.stack([np.cross(down, -apex), down, -apex], axis=1)
    frame = frame @ _turn(scanner.rotation_deg, 2)
    frame = frame @ _turn(scanner.tilt_deg[0], 0) @ _turn(scanner.tilt_deg[1], 1)
    step = scanner.thickness_mm + scanner.gap_mm
    shape = shape_at(heart, 0.0)
    length = float(shape.above + shape.outer_length)
    count = max(1, round(length / step)) + 2 * scanner.beyond
    if not scanner.from_apex:
        frame[:, 2] *= -1
    spacing = np.array([scanner.spacing_mm, scanner.spacing_mm, step])
    size = (*scanner.matrix, count)
    middle = np.asarray(heart.centre_mm) + frame[:, :2] @ np.asarray(scanner.offset_mm)
    middle = middle + 0.4 * heart.rv_width_mm * axes(heart)[0]
    first = middle - frame @ ((np.array(size) - 1) / 2 * spacing)
    affine = Affine.from_axes(frame, spacing, first)
    return Grid(size, affine, cycle_times(scanner.frames))


def long_axis(
    heart: Heart, view: str, *, spacing_mm: float = 1.8, size_mm: float = 200.0, frames: int = 12
) -> Grid:
    """The plane of a long-axis view, apex up: ``4ch`` cuts both ventricles, ``2ch`` the left one across.

    Raises:
        ValueError: another view.
    """
    to_right, across, apex = axes(heart)
    normals = {"4ch": across, "2ch": to_right}
    if view not in normals:
        raise ValueError(f"a long-axis view is one of {', '.join(normals)}, not {view!r}")
    centre = np.asarray(heart.centre_mm) + (0.4 * heart.rv_width_mm * to_right if view == "4ch" else 0)
    grid = Grid.plane(centre, -normals[view], size_mm=(size_mm, size_mm), spacing_mm=spacing_mm, up=-apex)
    return grid.with_frames(frames)


def scan(heart: Heart, scanner: Scanner | None = None, seed: int = 0, *, name: str = "phantom") -> Scan:
    """Simulate a short-axis cine; the result is deterministic.

    Slices are averaged over their thickness; labels are drawn at pixel centres in the slice's mid-plane, at
    the visible position of the heart, including shifts. Intensities are integers that fit into int16.
    """
    scanner = scanner or Scanner()
    return scan_plane(heart, short_axis(heart, scanner), scanner, seed, stack="sa", name=name)


def scan_plane(
    heart: Heart,
    grid: Grid,
    scanner: Scanner | None = None,
    seed: int = 0,
    *,
    stack: str = "plane",
    name: str = "phantom",
) -> Scan:
    """Simulate a grid of one or more planes; the scanner's settings that place the grid are ignored."""
    scanner = scanner or Scanner()
    rng = np.random.default_rng([seed, 11])
    shifts = rng.normal(size=(grid.shape[2], 2)) * scanner.shift_mm
    signal, labels = _render(heart, grid, scanner.thickness_mm, shifts)
    signal *= (scanner.scale * _shading(grid, scanner.bias, rng))[..., None]
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(
        scanner.noise * scanner.scale
    )
    image = np.rint(np.hypot(signal + noise[0], noise[1])).clip(0, 32767).astype(np.float32)[..., None]
    volume = 1 - shape_at(heart, grid.times).contraction
    case = Case(
        name=name,
        stacks=(Stack(stack, grid, cycle_ms=scanner.cycle_ms, intensity_range=intensity_range(image)),),
        slices=slices_of_volume(image, labels, grid, thickness=scanner.thickness_mm),
        labels=LABELS,
        known=frozenset(LABELS),
        phases={
            "ED": float(grid.times[np.argmax(volume)]),
            "ES": float(grid.times[np.argmin(volume)]),
        },
    )
    return Scan(case, shifts, heart)


def _render(
    heart: Heart, grid: Grid, thickness: float, shifts: np.ndarray
) -> tuple[Float[np.ndarray, "x y z t"], np.ndarray]:
    """Signal without noise, blood 1, averaged over each voxel of the slice's thickness; and labels."""
    to_heart = pose(heart)
    shapes = [_floats(shape_at(heart, float(time))) for time in grid.times]
    signal = np.empty((*grid.shape, len(shapes)), dtype=np.float32)
    labels = np.zeros(signal.shape, dtype=np.int16)
    offsets = _samples(grid, thickness)
    base = Grid((grid.shape[0], grid.shape[1], 1), grid.affine).points().reshape(-1, 3)
    step = grid.affine.matrix[:3, 2]
    for k in range(grid.shape[2]):
        centres = base + k * step - grid.affine.axes[:, :2] @ shifts[k]
        samples = centres + offsets[:, None, :]
        around = surroundings(heart, samples.astype(np.float32))
        local = to_heart(centres)
        # Only the vicinity of the heart moves; the rest is computed once for all frames.
        moving = near(heart, local)
        still = BRIGHTNESS[around].mean(0)
        inside, edge = to_heart(samples[:, moving]).astype(np.float32), around[:, moving]
        shade = texture(heart, centres).astype(np.float32)
        for t, shape in enumerate(shapes):
            still[moving] = BRIGHTNESS[tissue(heart, shape, inside, edge)].mean(0)
            signal[:, :, k, t] = (still * shade).reshape(grid.shape[:2])
            drawn = np.zeros(len(centres), dtype=np.int16)
            drawn[moving] = ventricles(shape, local[moving])
            labels[:, :, k, t] = drawn.reshape(grid.shape[:2])
    return signal, labels


def _samples(grid: Grid, thickness: float) -> np.ndarray:
    """Offsets (samples, 3) in world mm from a voxel's centre to the places that it averages."""
    within = (np.arange(WITHIN) + 0.5) / WITHIN - 0.5
    across = (np.arange(ACROSS) + 0.5) / ACROSS - 0.5
    parts = np.stack(np.meshgrid(within, within, across, indexing="ij"), axis=-1).reshape(-1, 3)
    size = np.array([*grid.spacing[:2], thickness])
    return parts * size @ grid.affine.axes.T


def _floats(shape: Shape) -> Shape:
    """Python floats, which leave float32 arrays float32."""
    *single, three = shape
    first, second, third = (float(axis) for axis in three)
    return Shape(*(float(value) for value in single), (first, second, third))


def _shading(grid: Grid, strength: float, rng: np.random.Generator) -> Float[np.ndarray, "x y z"]:
    """A coil's sensitivity: a smooth positive factor that varies over the length of the image."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    place = (index / np.maximum(1, np.array(grid.shape) - 1) - 0.5) * np.array([1.0, 1.0, 0.4])
    wave, phase = rng.normal(size=(4, 3)) * 2.5, rng.uniform(0, 2 * np.pi, size=4)
    return np.exp(strength * np.sin(place @ wave.T + phase).sum(-1) / np.sqrt(2)).astype(np.float32)


def _turn(degrees: float, axis: int) -> np.ndarray:
    """Rotation (3, 3) about one coordinate axis."""
    angle, (a, b) = np.deg2rad(degrees), [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix
