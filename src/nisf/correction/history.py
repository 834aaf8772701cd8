"""Undo and redo: pure functions of what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

from nisf.correction.stroke import Stroke


@dataclass(frozen=True)
class History:
    """Strokes that hold, and those that were taken back.

    Attributes:
        strokes: in the order in which they were drawn; later ones win where they cross.
        undone: taken back, the last of them first to come back.
    """

    strokes: tuple[Stroke, ...] = ()
    undone: tuple[Stroke, ...] = ()

    def drawn(self, stroke: Stroke) -> History:
        """With one stroke more; what was taken back is forgotten."""
        return History((*self.strokes, stroke))

    def undo(self) -> History:
        """Without the last stroke; the same if there is none."""
        return History(self.strokes[:-1], (*self.undone, *self.strokes[-1:]))

    def redo(self) -> History:
        """With the stroke that was taken back last; the same if there is none."""
        return History((*self.strokes, *self.undone[-1:]), self.undone[:-1])
