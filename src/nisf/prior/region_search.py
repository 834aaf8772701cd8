"""Where in a case a prior looks: by its finder, by what moves, or by the middle of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from nisf.data.case import Case
from nisf.data.region import Region, reference_pose, region_from_motion, whole_region
from nisf.errors import CannotFitError
from nisf.networks.finder import Finder, Seen, finder_certainty, look, region_from_finder, second_find
from nisf.types import PointsMm

Finding = Literal["auto", "finder", "motion", "centre", "whole"]

OFF_CENTRE = 1 / 3
"""A box whose middle is off by more of its half length may have cut the anatomy."""


def recentred(region: Region, drawn: PointsMm, measured: Float[np.ndarray, "m 3"]) -> Region | None:
    """The box around the middle of what was drawn in it, moved in the plane; None if it lies there already.

    A box that cuts the anatomy leaves what was drawn of it at one side. It can only do so where something was
    measured beyond that side; in a small image that the box holds whole, it stays.

    Args:
        region: where was looked.
        drawn: places of the structures in it, world mm (n, 3).
        measured: corners of what was measured, world mm (m, 3).
    """
    if not len(drawn):
        return None
    low, high = np.percentile(region.pose(drawn), [2, 98], axis=0)
    off = (low + high) / 2 * (1.0, 1.0, 0.0)
    reach = region.pose(measured)
    beyond = np.where(off > 0, reach.max(0) > region.half, reach.min(0) < -region.half)
    off = off * beyond
    if (np.abs(off) <= OFF_CENTRE * region.half).all():
        return None
    return Region(region.moved(-off, np.zeros(3)).pose, region.half)


@dataclass(frozen=True, eq=False)
class RegionSearch:
    """Finds the region of cases without labels.

    Attributes:
        half: half lengths of the region's box, mm (3,); None for the whole field of view.
        finder: the network that finds it; None if it could not be trained.
        certain: least certainty of the finder; a case in which it is less sure shows something else.
    """

    half: np.ndarray | None
    finder: Finder | None = None
    certain: float = 0.0

    def find(self, case: Case, how: Finding = "auto") -> tuple[Region, str]:
        """The region of a case, and how it was found.

        ``auto`` asks the finder, then looks for motion, then takes the image's centre.

        Raises:
            CannotFitError: the way asked for does not work for this case, or the finder does not see the
                anatomy in it.
        """
        if how == "whole" or self.half is None:
            return whole_region(case), "whole"
        region: Region | None = None
        if how in ("auto", "finder") and self.finder is not None:
            # Asked once for both: it is most of what finding a region takes.
            seen = look(case, self.finder)
            self._check_seen(case, seen)
            region = region_from_finder(case, self.finder, self.half, seen)
            if region is not None:
                return region, "finder"
        if how in ("auto", "motion"):
            region = region_from_motion(case, self.half)
            if region is not None:
                return region, "motion"
        if how in ("finder", "motion"):
            raise CannotFitError(
                f"{case.name}: the region cannot be found by {how}; search for it in every way, or give its "
                "centre",
                options=("region", "centre"),
            )
        whole = whole_region(case)
        return Region(reference_pose(case, whole.centre()), self.half), "centre"

    def doubts(self, case: Case, region: Region) -> tuple[float, float] | None:
        """How sure the finder is that a case shows the anatomy, and how much of a second one it sees.

        Args:
            case: its reference stack is looked at.
            region: where the anatomy is taken to be.

        Returns:
            Certainty in [0, 1], and `second_find`; None without a finder.
        """
        if self.finder is None:
            return None
        seen = look(case, self.finder)
        return finder_certainty(seen), second_find(case, self.finder, region, seen)

    def _check_seen(self, case: Case, seen: Seen | None) -> None:
        sure = finder_certainty(seen) if self.certain else 1.0
        if sure < self.certain:
            raise CannotFitError(
                f"{case.name}: nothing in this image looks like what the prior was trained on (certainty "
                f"{sure:.2f}, {self.certain:.2f} is needed); if the anatomy is there, give its centre or "
                "another way to find the region",
                options=("centre", "region"),
            )
