"""Find the region of a case: by the finder, by motion, or at the centre of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from nisf.data.case import Case
from nisf.data.region import Region, reference_pose, region_from_motion, whole_region
from nisf.errors import CannotFitError
from nisf.networks.finder import Finder, Seen, doubts, finder_certainty, look, region_from_finder
from nisf.types import PointsMm

Finding = Literal["auto", "finder", "motion", "centre", "whole"]

OFF_CENTRE = 1 / 3
"""A box that is off centre by more than this fraction of its half length may cut off part of the anatomy."""


def recentred(region: Region, drawn: PointsMm, measured: Float[np.ndarray, "m 3"]) -> Region | None:
    """The box centred in the plane on the structures found in it; None if it is centred already.

    If the box cuts off part of the anatomy, the structures found lie towards one side of it. This can only
    happen if the image goes on beyond that side, so a box that holds the whole image is kept.

    Args:
        region: the region that was segmented.
        drawn: points inside the structures found, world mm (n, 3).
        measured: corners of the measured slices, world mm (m, 3).
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
        certain: minimum certainty of the finder; a case below it is taken not to show the anatomy.
    """

    half: np.ndarray | None
    finder: Finder | None = None
    certain: float = 0.0

    def find(self, case: Case, how: Finding = "auto") -> tuple[Region, str]:
        """Return the region of a case and how it was found.

        ``auto`` tries the finder, then motion, then takes the image's centre.

        Raises:
            CannotFitError: the requested way does not work for this case, or the finder does not see the
                anatomy in it.
        """
        if how == "whole" or self.half is None:
            return whole_region(case), "whole"
        region: Region | None = None
        if how in ("auto", "finder") and self.finder is not None:
            # Run once for both uses: it takes most of the time of the search.
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
                f"{case.name}: the region cannot be found by {how}; use the automatic search, or give its "
                "centre",
                options=("region", "centre"),
            )
        whole = whole_region(case)
        return Region(reference_pose(case, whole.centre()), self.half), "centre"

    def doubts(self, case: Case, region: Region) -> tuple[float, float] | None:
        """How certain the finder is that a case shows the anatomy, and how strong a second candidate is.

        Args:
            case: its reference stack is used.
            region: the region that was found.

        Returns:
            See `nisf.networks.finder.doubts`; None without a finder.
        """
        return None if self.finder is None else doubts(case, self.finder, region)

    def _check_seen(self, case: Case, seen: Seen | None) -> None:
        sure = finder_certainty(seen) if self.certain else 1.0
        if sure < self.certain:
            raise CannotFitError(
                f"{case.name}: nothing in this image looks like what the prior was trained on (certainty "
                f"{sure:.2f}, at least {self.certain:.2f} is needed); if the anatomy is there, give its "
                "centre or another way to find the region",
                options=("centre", "region"),
            )
