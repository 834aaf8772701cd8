"""Places that are asked at several times."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from nisf.networks.image_field import Scene
from nisf.networks.lookup import Nearby, nearby


class PlacesAsked:
    """Places that are asked at one time after the other: where they lie among the slices is found once.

    Args:
        points: model mm (n, 3), on the field's device.
        rows: places at a time.
    """

    def __init__(self, points: Float[Tensor, "n 3"], rows: int) -> None:
        self.parts = points.split(rows)
        self._near: tuple[Tensor, list[Nearby]] | None = None

    def near(self, scene: Scene, neighbours: int) -> list[Nearby]:
        """The nearest slices of each part's places; phases that are posed alike have the very same maps."""
        known = self._near
        if known is None or known[0] is not scene.maps:
            size = scene.features.shape[1]
            known = scene.maps, [nearby(scene.maps, part, size, neighbours) for part in self.parts]
            self._near = known
        return known[1]
