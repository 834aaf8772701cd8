"""A third kind of field is new files and one entry of the registry: everything else takes it as it is.

The toy kind learns one brightness and one class distribution for each quarter of the box.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import toys
from nisf.cli import main
from nisf.config.fit_options import FitOptions
from nisf.config.schema import Config
from nisf.data.geometry import Grid
from nisf.errors import BadSettingError, CannotFitError
from nisf.evaluation.cohort import score_prior
from nisf.io.subject_file import write_subject
from nisf.io.writers import write_volume
from nisf.kinds.load import load_prior, read_subject
from nisf.kinds.recipe import Recipe, TrainingSetup
from nisf.kinds.registry import KINDS, Kind
from nisf.optimisation.state import State
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.prior.snapshots import prior_at
from nisf.subject.answerer import InRegion
from nisf.subject.subject import Subject

CONFIG = toys.settings(toys.TINY, field={"kind": "quarters"}, train={"steps": 30, "learning_rate": 0.2})


class Quarters(nn.Module):
    """Logits of intensity and classes by the signs of x and y."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, config.field.channels + config.field.classes))

    def forward(self, scaled: Tensor) -> Tensor:
        return self.table[2 * (scaled[:, 0] > 0).long() + (scaled[:, 1] > 0).long()]


@dataclass(frozen=True, eq=False, repr=False)
class QuartersSubject(Subject):
    """Keeps how bright the case was."""

    brightness: Tensor = field(kw_only=True)

    @cached_property
    def field_answers(self):
        channels = self.prior.config.field.channels

        def inside(scaled: np.ndarray, time: np.ndarray, memory_mb: float):  # noqa: ARG001
            with torch.no_grad():
                logits = self.prior.field(torch.from_numpy(scaled.astype(np.float32)))
            intensity = torch.sigmoid(logits[:, :channels]) * self.brightness
            return intensity.numpy(), torch.softmax(logits[:, channels:], 1).numpy(), None

        return InRegion(self.region, self.prior.config.field, inside)

    def own_tensors(self) -> dict[str, Tensor]:
        return {"brightness": self.brightness}


@dataclass(frozen=True, eq=False, repr=False)
class QuartersPrior(Prior[QuartersSubject]):
    fit_options = frozenset({"islands"})

    @classmethod
    def new_field(cls, config: Config) -> Quarters:
        return Quarters(config)

    @classmethod
    def own_parts(cls, stored) -> dict[str, Any]:  # noqa: ARG003
        return {}

    def own_tensors(self) -> dict[str, Tensor]:
        return {}

    def fit_inside(self, case, region, *, config, seed, callback):  # noqa: ARG002
        mean = np.mean([case.stacks[s.stack].normalise(s.image).mean() for s in case.slices])
        brightness = torch.tensor([float(mean)])
        return QuartersSubject(case.name, self, region, case.stacks, {"steps": 0}, brightness=brightness)

    def subject_of(self, record) -> QuartersSubject:
        return QuartersSubject(prior=self, brightness=record.tensors["brightness"], **record.common())

    def accepts(self, config: Config) -> bool:
        return config.field == self.config.field


class QuartersRecipe(Recipe):
    def __init__(self, setup: TrainingSetup) -> None:
        self.setup, self.cases = setup, setup.cases
        self.network = Quarters(setup.config)
        optimiser = torch.optim.Adam(self.network.parameters(), lr=setup.config.train.learning_rate)
        self.state = State({"field": self.network}, [optimiser])

    def begin_with(self, start: Prior) -> None:
        self.network.load_state_dict(start.field.state_dict())

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        i = step % len(self.cases)
        case, region = self.cases[i], self.setup.regions()[i]
        item = case.slices[step % len(case.slices)]
        nx, ny = item.image.shape[:2]
        voxel = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), [0], indexing="ij"), -1).reshape(-1, 3)
        scaled = torch.from_numpy(region.coordinates(item.affine(voxel)).astype(np.float32))
        logits = self.network(scaled)[:, self.setup.config.field.channels :]
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(item.label.reshape(-1).astype(np.int64)))
        return loss, {"loss": loss, "class_bce": loss, "dice_loss": 0 * loss, "intensity_bce": 0 * loss}

    def validate(self) -> None:
        return None

    def weights(self) -> dict[str, Tensor]:
        return {f"field.{name}": tensor for name, tensor in self.network.state_dict().items()}

    def finish(self, last, card: Mapping[str, Any]) -> QuartersPrior:  # noqa: ARG002
        setup = self.setup
        search = setup.search
        return QuartersPrior(setup.config, setup.anatomy, self.network, search.half, search.finder, card)


@pytest.fixture
def prior(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "quarters", Kind(QuartersPrior, QuartersRecipe))
    return toys.train_toy(tmp_path / "prior", CONFIG, validation=[], snapshots=(10,))


def test_train_save_load_and_go_on(prior, tmp_path):
    again = load_prior(tmp_path / "prior")
    assert isinstance(again, QuartersPrior)
    assert again.fingerprint == prior.fingerprint
    assert prior_at(prior, 10).fingerprint != prior.fingerprint
    further = toys.train_toy(tmp_path / "further", CONFIG, validation=[], start=prior)
    assert further.fingerprint != prior.fingerprint
    assert further.card["start"] == prior.fingerprint


def test_fit_ask_write_read(prior, tmp_path):
    subject = fit(toys.toy_case(7), prior)
    assert subject.summary["region"] == "whole"
    rendering = subject.render(probabilities=True)
    x, y = (rendering.grid.shape[axis] // 2 for axis in (0, 1))
    np.testing.assert_array_equal(np.ptp(rendering.probability[:x, :y], axis=(0, 1, 2, 3)), 0)
    assert (rendering.probability[0, 0, 0, 0] != rendering.probability[-1, -1, 0, 0]).any()
    plane = Grid.plane((0, 0, 0), (0, 0, 1), size_mm=(40, 40), spacing_mm=2)
    write_subject(tmp_path / "a.nisf", subject)
    again = read_subject(tmp_path / "a.nisf", prior)
    np.testing.assert_array_equal(again.render(plane).image, subject.render(plane).image)
    with pytest.raises(CannotFitError, match="kind 'quarters' gives one answer and has no posterior"):
        subject.render(samples=3)


def test_options_and_scores(prior):
    scores = score_prior(toys.toy_case(8), prior, "every-2nd-slice")
    assert {score.label for score in scores} == {"blood", "muscle"}
    with pytest.raises(
        BadSettingError, match="steps, shifts: has no effect on a prior of the kind"
    ) as caught:
        prior.check_options(FitOptions(steps=3, shifts=True, islands="keep"))
    assert caught.value.options == ("steps", "shifts")


@pytest.mark.usefixtures("prior")
def test_command_line(tmp_path, capsys):
    case = toys.toy_case(9)
    write_volume(tmp_path / "scan.nii.gz", toys.image_of(case), case.stacks[0].grid)
    arguments = [str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "out")]
    prior_option = ["--prior", str(tmp_path / "prior")]
    assert main(["segment", *arguments, *prior_option]) == 0
    assert main(["segment", *arguments, *prior_option, "--steps", "3"]) == 2
    assert "steps: has no effect on a prior of the kind 'quarters'" in capsys.readouterr().err
    fine = ["-o", str(tmp_path / "fine.nii.gz"), "--spacing", "8,8,10", *prior_option]
    assert main(["render", str(tmp_path / "out" / "scan.nisf"), *fine]) == 0
    assert (tmp_path / "fine_seg.nii.gz").is_file()


def test_an_unknown_kind_is_named(tmp_path):
    config = toys.settings(CONFIG, field={"kind": "splines"})
    with pytest.raises(BadSettingError, match="no such kind of field; there are latent, image"):
        toys.train_toy(tmp_path, config, validation=[])
