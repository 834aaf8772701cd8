"""Subjects that answer with a phantom's truth, so that whatever is wrong is the measuring."""

from dataclasses import replace
from functools import cache, cached_property

import numpy as np
import torch

from nisf.data.case import Stack
from nisf.data.geometry import Affine, cycle_times
from nisf.data.region import Region
from nisf.kinds.image.model import ImageSubject
from nisf.kinds.load import load_prior
from nisf.networks.canvas import Canvases
from nisf.phantom import Scanner, label, short_axis
from nisf.phantom.cohort import subject as phantom
from nisf.subject.answerer import Answerer, InRegion

NO_CANVASES = Canvases(torch.zeros(0, 1, 2, 2), torch.zeros(0, 3, 4), np.zeros(0))


@cache
def bundled():
    """The bundled model of the heart, which is never asked here."""
    return load_prior("cardiac-sax")


def prior_of(anatomy=None):
    """The same with another anatomy, if one is given."""
    return bundled() if anatomy is None else replace(bundled(), anatomy=anatomy)


class Truth(ImageSubject):
    """Answers with what `label_at` says of places (mm) and a time."""

    label_at = None

    @cached_property
    def field_answers(self) -> Answerer:
        classes = len(self.prior.anatomy.labels)

        def inside(scaled, time, _):
            world = self.region.pose.inverse(scaled * self.region.half)
            found = np.empty(len(world), dtype=np.int64)
            for one in np.unique(time):
                here = time == one
                found[here] = self.label_at(world[here], float(one))
            probability = np.eye(classes, dtype=np.float32)[found]
            return np.zeros((len(world), 1), dtype=np.float32), probability, None

        config = replace(self.prior.config.field, classes=classes)
        return InRegion(self.region, config, inside)


def true_subject(label_at, region, stack, *, said=None, anatomy=None, name="truth"):
    """A subject that answers with a function of places and time; without a stack if that is None."""
    own = type("Own", (Truth,), {"label_at": staticmethod(label_at)})
    summary = {"said": said or {}}
    stacks = () if stack is None else (stack,)
    return own(name, prior_of(anatomy), region, stacks, summary, canvases=NO_CANVASES)


def true_heart(heart, frames=2, scanner=None, *, cycle_ms=None, times=None, oriented=True, **options):
    """A subject that answers with a heart's truth, seen in a stack as a radiographer plans it."""
    grid = short_axis(heart, scanner or Scanner())
    grid = grid.at_times(cycle_times(frames) if times is None else times)
    stack = Stack("sa", grid, cycle_ms=cycle_ms, oriented=oriented)
    half = np.array([85.0, 85.0, 75.0])
    region = Region(Affine.rigid(grid.affine.axes.T, np.asarray(heart.centre_mm)), half)
    return true_subject(lambda world, time: label(heart, world, time), region, stack, **options)


@cache
def hearts(count=4, seed=3):
    """Hearts of a cohort of phantoms and how each is measured."""
    return [phantom(seed, index) for index in range(count)]
