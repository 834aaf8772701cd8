"""Volumes over the cycle: a periodic spline if enough frames were measured, and the phases found on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from nisf.data.anatomy import Anatomy
from nisf.data.geometry import cycle_distance, nearest_frame
from nisf.data.wording import listed

LEAST_FRAMES = 8
"""Minimum number of frames for a curve; with fewer, only the volumes at the measured times are known."""
WIDEST_GAP = 0.2
"""Largest gap between frames, as a fraction of the cycle, for a curve."""
STEPS = 2000
"""Number of times at which extrema of a curve are searched: every 0.5 ms in a cycle of 1 s."""
APART = 1.5
"""Difference, in frames, between a phase in the files and on the curve above which the user is told."""


@dataclass(frozen=True, eq=False)
class VolumeCurve:
    """Volumes of the structures at the measured times.

    Attributes:
        times: fractions of the cycle, ascending (t,).
        ml: volume of each structure by integration of the field, mL (t,); NaN where it is unknown, as in
            reference labels that lack the structure at a time.
        slices_ml: the same by summation of slices on the measured grid; empty if unknown.
        cycle_ms: length of the cycle; None if unknown.
    """

    times: Float[np.ndarray, "t"]
    ml: Mapping[str, Float[np.ndarray, "t"]]
    slices_ml: Mapping[str, Float[np.ndarray, "t"]] = field(default_factory=dict)
    cycle_ms: float | None = None

    @property
    def continuous(self) -> bool:
        """Whether enough frames were measured for a curve between them."""
        if len(self.times) < LEAST_FRAMES:
            return False
        gaps = np.diff(self.times, append=self.times[0] + 1)
        return bool(gaps.max() <= WIDEST_GAP and gaps.min() > 0)

    @cached_property
    def splines(self) -> Mapping[str, CubicSpline]:
        """Periodic cubic splines through the volumes by integration, mL over the fraction of the cycle.

        Of the structures whose volume is known at every time, if there are enough times for a curve.
        """
        if not self.continuous:
            return {}
        times = np.append(self.times, self.times[0] + 1)
        return {
            name: CubicSpline(times, np.append(ml, ml[0]), bc_type="periodic")
            for name, ml in self.ml.items()
            if np.isfinite(ml).all()
        }

    def at(self, structure: str, time: float) -> float:
        """Volume by integration, mL; without a curve, that of the nearest measured time."""
        if structure in self.splines:
            return float(self.splines[structure](time))
        return float(self.ml[structure][self.nearest(time)])

    def slices_at(self, structure: str, time: float) -> float | None:
        """Volume by summation of slices at the nearest measured time, as in a manual reading, mL."""
        found = self.slices_ml.get(structure)
        return None if found is None else float(found[self.nearest(time)])

    def nearest(self, time: float) -> int:
        """Index of the measured time that is nearest on the cycle."""
        return nearest_frame(self.times, time)

    def steepest(self, structure: str, *, rise: bool) -> float | None:
        """Maximum rate of rise or fall of the volume, mL/s, positive; None if it is unknown."""
        if structure not in self.splines or not self.cycle_ms:
            return None
        slope = self.splines[structure](np.arange(STEPS) / STEPS + self.times[0], 1) / (self.cycle_ms / 1000)
        return float(slope.max() if rise else -slope.min())

    def extrema(self, structure: str) -> tuple[float, float] | None:
        """Times of the largest and the smallest volume, as fractions of the cycle.

        None if the structure is present in fewer than two frames.
        """
        ml = self.ml[structure]
        drawn = np.flatnonzero(ml > 0)
        if len(drawn) < 2:
            return None
        times = self.times[drawn]
        if structure in self.splines and len(drawn) == len(ml):
            times = np.arange(STEPS) / STEPS + self.times[0]
            ml = self.splines[structure](times)
        else:
            ml = ml[drawn]
        return float(times[ml.argmax()] % 1.0), float(times[ml.argmin()] % 1.0)


def choose_phases(
    anatomy: Anatomy, curve: VolumeCurve, said: Mapping[str, float], asked: Mapping[str, float]
) -> tuple[dict[str, float], list[str]]:
    """Determine the times of the anatomy's named phases, and remarks on them.

    Args:
        anatomy: names the phases, and the structure whose volume determines them.
        curve: curve of its structures.
        said: phases from the files, as fractions of the cycle; they take precedence over the curve.
        asked: phases from the user; they take precedence over the files.

    Returns:
        The known phases, as fractions of the cycle, and sentences about disagreements.
    """
    names = anatomy.phase_names
    if not names or anatomy.phases is None:
        return {}, []
    said, notes = _apart(names, said, asked)
    extrema = curve.extrema(anatomy.phases["by"])
    found = {} if extrema is None else dict(zip(names, extrema, strict=False))
    frame = 1 / len(curve.times)
    phases: dict[str, float] = {}
    for name, size in zip(names, ("largest", "smallest"), strict=False):
        for source, times in (("the request", asked), ("the file", said)):
            if name in times:
                phases[name] = float(times[name]) % 1.0
                if name in found and _differ(curve, phases[name], found[name], frame):
                    notes.append(
                        f"{name}: {source} says {phases[name]:.2f} of the cycle, but the volume of the "
                        f"{anatomy.phases['by']} is {size} at {found[name]:.2f}"
                    )
                break
        else:
            if name in found:
                phases[name] = found[name]
    if unknown := [name for name in names if name not in phases]:
        notes.append(
            f"{listed(unknown)}: unknown, because the {anatomy.phases['by']} is in fewer than two frames; "
            "measures at these phases are empty unless you give the frames"
        )
    return phases, notes


def _apart(
    names: Sequence[str], said: Mapping[str, float], asked: Mapping[str, float]
) -> tuple[dict[str, float], list[str]]:
    """The phases from the files without those at the time of another phase, and a sentence about these.

    Nothing contracts between two phases at one time: an ejection fraction would be 0.
    """
    told = {name: float(time) % 1.0 for name, time in {**said, **asked}.items() if name in names}
    times = list(told.values())
    twice = [name for name, time in told.items() if name not in asked and times.count(time) > 1]
    if not twice:
        return dict(said), []
    note = (
        f"{listed(twice)}: the file says {told[twice[0]]:.2f} of the cycle, where another phase is too; "
        "not used"
    )
    return {name: time for name, time in said.items() if name not in twice}, [note]


def _differ(curve: VolumeCurve, time: float, other: float, frame: float) -> bool:
    """Whether two times differ by more than the frames can resolve; without a curve, by a measured time."""
    if not curve.continuous:
        return curve.nearest(time) != curve.nearest(other)
    return float(cycle_distance(np.array([time]), other)[0]) > APART * frame
