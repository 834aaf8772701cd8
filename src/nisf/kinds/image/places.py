"""Points that are queried at several times."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from nisf.networks.image_field import Scene
from nisf.networks.lookup import Nearby, nearby


class PlacesAsked:
    """Points that are queried at one time after another; their nearest slices are looked up once.

    Args:
        points: model mm (n, 3), on the field's device.
        rows: points per chunk.
    """

    def __init__(self, points: Float[Tensor, "n 3"], rows: int) -> None:
        self.parts = points.split(rows)
        self._near: tuple[Tensor, list[Nearby]] | None = None

    def near(self, scene: Scene, neighbours: int) -> list[Nearby]:
        """The nearest slices for each chunk; cached, because phases with equal poses share a tensor."""
        known = self._near
        if known is None or known[0] is not scene.maps:
            size = scene.features.shape[1]
            known = scene.maps, [nearby(scene.maps, part, size, neighbours) for part in self.parts]
            self._near = known
        return known[1]
