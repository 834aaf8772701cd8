"""A subject that answers with a phantom's true labels, or with anything else that is known."""

from functools import cached_property

import numpy as np
import torch

from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.kinds.image.model import ImageSubject
from nisf.kinds.load import load_prior
from nisf.networks.canvas import Canvases
from nisf.phantom import label as true_label
from nisf.phantom.heart import axes
from nisf.subject.answerer import InRegion

NO_CANVASES = Canvases(torch.zeros(0, 1, 2, 2), torch.zeros(0, 3, 4), np.zeros(0))


def subject_of(heart, region=None):
    """It is sure of everything: its probabilities jump from 0 to 1."""
    if region is None:
        pose = Affine.rigid(axes(heart), np.asarray(heart.centre_mm))
        region = Region(pose, np.array([75.0, 75.0, 75.0]))

    class Truth(ImageSubject):
        @cached_property
        def field_answers(self):
            def ask(scaled, time, _):
                places = self.region.pose.inverse(scaled * self.region.half)
                label = np.zeros(len(places), dtype=int)
                for value in np.unique(time):
                    here = time == value
                    label[here] = true_label(heart, places[here], float(value))
                return np.zeros((len(places), 1)), np.eye(4)[label], None

            return InRegion(self.region, self.prior.config.field, ask)

    return Truth("truth", load_prior("cardiac-sax"), region, (), canvases=NO_CANVASES)
