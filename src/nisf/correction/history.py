"""Undo and redo, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from nisf.correction.stroke import Stroke


@dataclass(frozen=True)
class History:
    """The current strokes, and those that were undone.

    Attributes:
        strokes: in the order in which they were drawn; where they cross, later ones win.
        undone: undone strokes; the last one is redone first.
    """

    strokes: tuple[Stroke, ...] = ()
    undone: tuple[Stroke, ...] = ()

    def drawn(self, stroke: Stroke) -> History:
        """Add a stroke; the strokes to redo are dropped."""
        return History((*self.strokes, stroke))

    def undo(self) -> History:
        """Undo the last stroke; the same object if there is none."""
        return History(self.strokes[:-1], (*self.undone, *self.strokes[-1:]))

    def redo(self) -> History:
        """Redo the stroke that was undone last; the same object if there is none."""
        return History((*self.strokes, *self.undone[-1:]), self.undone[:-1])
