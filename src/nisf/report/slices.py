"""Pictures of a case: all slices at the named phases, a cine, long-axis views."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from nisf.data.case import Case
from nisf.data.geometry import Affine, Grid
from nisf.errors import NisfError
from nisf.report.pictures import Picture, as_url, drawn_over, grey, outlines, path_of
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Frame, Rendering, empty_rendering
from nisf.subject.subject import Subject
from nisf.subject.views import view_plane

LOOK_MM = 4.0
"""Spacing at which structures are located to choose what is shown."""
ROOM_MM = 14.0
"""Margin around the structures."""
CONTOUR_MM = 1.0
"""Spacing of the points between which contours are interpolated; contours are accurate to a tenth of it."""
CINE_MM = 1.5
CINE_PIXELS = 260
CINE_FRAMES = 30
VIEW_MM = 160.0
LEAST_MS, CYCLE_MS = 30.0, 1000.0


@dataclass(frozen=True)
class Window:
    """The part of the slices that is shown: first and last pixel along x and y, inclusive."""

    x: tuple[int, int]
    y: tuple[int, int]


class Shown:
    """The pictures of one subject.

    Args:
        subject: queried for its answers.
        case: the measured pixels; without it, the field's intensities are shown.
        phases: times (fractions of the cycle) by name.
        memory_mb: working memory, MiB.
    """

    def __init__(
        self, subject: Subject, case: Case | None, phases: dict[str, float], *, memory_mb: float = 512.0
    ) -> None:
        self.subject, self.case, self.memory_mb = subject, case, memory_mb
        self.stack = subject.stacks[0]
        self.grid = self.stack.grid
        self.phases = phases or {"": float(self.grid.times[0])}
        self.anatomy = subject.prior.anatomy
        self.colours = dict(zip(self.anatomy.labels, self.anatomy.colours, strict=True))

    @property
    def answers(self) -> Answerer:
        """Answers as the slices of the stack show them."""
        return self.subject.as_measured(self.subject.answers, 0)

    def frame_at(self, time: float) -> int:
        """The measured frame nearest to a time."""
        return self.grid.nearest_frame(time)

    def _render(self, grid: Grid, answers: Answerer) -> Rendering:
        out = empty_rendering(grid, answers.channels, answers.classes, probabilities=True, deviations=False)
        for t, time in enumerate(grid.times):
            answers.fill(Frame(out, t, self.stack), grid, float(time), memory_mb=self.memory_mb)
        return out

    def _between(self, window: Window, step_mm: float, positions: tuple[int, int]) -> Grid:
        """A finer or coarser grid over the window, on measured slices."""
        sides = np.array([window.x[1] - window.x[0] + 1, window.y[1] - window.y[0] + 1])
        shape = np.maximum(2, np.round(sides * self.grid.spacing[:2] / step_mm)).astype(int)
        step = sides / shape
        first = np.array([window.x[0], window.y[0]]) - 0.5 + step / 2
        to_voxel = Affine.scaling([*step, 1.0], [*first, float(positions[0])])
        size = (int(shape[0]), int(shape[1]), positions[1] - positions[0] + 1)
        return Grid(size, self.grid.affine @ to_voxel)

    @cached_property
    def window(self) -> Window:
        """A window around all structures at the first phase; all pixels if there are none."""
        nx, ny, nz = self.grid.shape
        whole = Window((0, nx - 1), (0, ny - 1))
        grid = self._between(whole, LOOK_MM, (0, nz - 1)).at_times([next(iter(self.phases.values()))])
        label = self._render(grid, self.answers).label[..., 0]
        found = np.argwhere(label > 0)
        if not len(found):
            return whole
        room = ROOM_MM / self.grid.spacing[:2]
        pixel = self.grid.affine.inverse(grid.affine(found))[:, :2]
        low = np.maximum(0, np.floor(pixel.min(0) - room)).astype(int)
        high = np.minimum(np.array([nx, ny]) - 1, np.ceil(pixel.max(0) + room)).astype(int)
        return Window((int(low[0]), int(high[0])), (int(low[1]), int(high[1])))

    def measured(self, position: int, frame: int) -> Float[np.ndarray, "x y"] | None:
        """The measured pixels of a slice, cut to the window; None if there are none."""
        if self.case is None:
            return None
        for item in self.case.slices:
            if (item.stack, item.position, item.frame) == (0, position, frame):
                part = item.image[
                    self.window.x[0] : self.window.x[1] + 1, self.window.y[0] : self.window.y[1] + 1
                ]
                return part[..., 0].astype(np.float32)
        return None

    @cached_property
    def brightness(self) -> tuple[float, float]:
        """The intensities shown as black and white: extreme percentiles inside the window."""
        parts = []
        for k in range(self.grid.shape[2]):
            pixels = self.measured(k, 0)
            if pixels is not None:
                parts.append(pixels[np.isfinite(pixels)])
        values = np.concatenate(parts) if parts else self.stack.intensity_range[0]
        low, high = np.percentile(values, (1.0, 99.7))
        return float(low), float(high)

    def _pixels(self, rendering: Rendering, z: int, position: int, frame: int) -> np.ndarray:
        """A slice as 0 to 255 (y, x): measured pixels, or the field's intensities."""
        pixels = self.measured(position, frame)
        if pixels is None:
            pixels = rendering.image[:, :, z, 0, 0]
        return grey(pixels.T, *self.brightness)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the window, mm."""
        dx, dy = self.grid.spacing[:2]
        return (
            (self.window.x[1] - self.window.x[0] + 1) * float(dx),
            (self.window.y[1] - self.window.y[0] + 1) * float(dy),
        )

    def contact_sheet(self) -> dict[str, list[Picture]]:
        """Every slice at each named phase."""
        out = {}
        for phase, time in self.phases.items():
            frame = self.frame_at(time)
            positions = (0, self.grid.shape[2] - 1)
            grid = self._between(self.window, CONTOUR_MM, positions).at_times([self.grid.times[frame]])
            rendering = self._render(grid, self.answers)
            out[phase] = [self._slice(rendering, k, frame, phase) for k in range(self.grid.shape[2])]
        return out

    def _slice(self, rendering: Rendering, k: int, frame: int, phase: str) -> Picture:
        width, height = self.size
        assert rendering.probability is not None
        step = self._step(rendering)
        lines = outlines(rendering.probability[:, :, k, 0], self.anatomy.labels, step)
        seen = ", ".join(lines) or "no structure"
        title = f"Slice {k + 1}"
        return Picture(
            title,
            f"{title} of {self.grid.shape[2]} {phase}: contours of {seen}".strip(),
            as_url([self._pixels(rendering, k, k, frame)]),
            width,
            height,
            {label: path_of(many, (step[0] / 2, step[1] / 2)) for label, many in lines.items()},
        )

    def _step(self, rendering: Rendering) -> tuple[float, float]:
        """Mm between the points of a rendering, along x and y."""
        x, y = rendering.grid.spacing[:2]
        return float(x), float(y)

    def cine(self) -> Picture | None:
        """The middle slice of the first structure over the cycle; None if there is only one frame."""
        times = self.grid.times
        if len(times) < 2:
            return None
        kept = np.linspace(0, len(times) - 1, min(len(times), CINE_FRAMES)).round().astype(int)
        k = self._middle()
        width, height = self.size
        factor = CINE_PIXELS / max(width, height)
        shape = (round(height * factor), round(width * factor))
        frames = []
        for frame in kept:
            grid = self._between(self.window, CINE_MM, (k, k)).at_times([times[frame]])
            rendering = self._render(grid, self.answers)
            assert rendering.probability is not None
            step = self._step(rendering)
            lines = outlines(rendering.probability[:, :, 0, 0], self.anatomy.labels, step)
            shifted = {name: [line + np.array(step) / 2 for line in many] for name, many in lines.items()}
            image = _resized(self._pixels(rendering, 0, k, int(frame)), shape)
            frames.append(drawn_over(image, shifted, self.colours, (factor, factor)))
        ms = max(LEAST_MS, (self.stack.cycle_ms or CYCLE_MS) / len(kept))
        alt = f"Slice {k + 1} over the cycle, {len(kept)} frames, with contours"
        return Picture(
            f"Slice {k + 1} of {self.grid.shape[2]}, {len(kept)} frames",
            alt,
            as_url(frames, ms=ms if len(kept) > 4 else 600.0),
            width,
            height,
            {},
            as_url(frames[:1]),
        )

    def _middle(self) -> int:
        """The middle of the slices that contain the first structure, at the first phase."""
        time = next(iter(self.phases.values()))
        grid = self._between(self.window, LOOK_MM, (0, self.grid.shape[2] - 1)).at_times([time])
        label = self._render(grid, self.answers).label[..., 0]
        filled = np.flatnonzero((label == 1).any((0, 1)))
        return int(filled[len(filled) // 2]) if len(filled) else self.grid.shape[2] // 2

    def views(self) -> list[Picture]:
        """The anatomy's long-axis views at each phase, with the field's intensities."""
        out = []
        for name, view in self.anatomy.views.items():
            for phase, time in self.phases.items():
                try:
                    plane = view_plane(self.subject, view, size_mm=VIEW_MM, spacing_mm=CONTOUR_MM, time=time)
                except NisfError:
                    continue
                rendering = self._render(plane, self.subject.answers)
                assert rendering.probability is not None
                lines = outlines(rendering.probability[:, :, 0, 0], self.anatomy.labels, (1.0, 1.0))
                pixels = rendering.image[:, :, 0, 0, 0]
                half = CONTOUR_MM / 2
                out.append(
                    Picture(
                        f"{name} {phase}".strip(),
                        f"{name} view {phase}, cut from the field, with contours of {', '.join(lines)}",
                        as_url([grey(pixels.T, *self.brightness)]),
                        float(plane.shape[0]),
                        float(plane.shape[1]),
                        {label: path_of(many, (half, half)) for label, many in lines.items()},
                    )
                )
        return out


def _resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
