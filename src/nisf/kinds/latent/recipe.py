"""The paper's recipe: an auto-decoder, a latent per subject trained along with the weights (section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nisf.config.schema import Config, TrainConfig
from nisf.data.points import Batch, CasePoints, batch_of
from nisf.device import CPU
from nisf.kinds.latent.validation import StepDice, validate
from nisf.networks.latent_field import Field
from nisf.networks.losses import class_bce, dice_loss, intensity_bce
from nisf.optimisation.compile import compiled, in_parts, part_size
from nisf.optimisation.loop import subjects_of
from nisf.optimisation.state import latent_state
from nisf.prior.prior import Prior


def draw_batch(
    pool: Sequence[CasePoints], config: TrainConfig, step: int, device: torch.device = CPU
) -> tuple[Tensor, Batch]:
    """The subjects of a step and their points, on the device; depends on seed and step alone."""
    chosen = subjects_of(step, len(pool), config)
    rng = np.random.default_rng([config.seed, 3, step])
    drawn = [
        (pool[i], pool[i].draw(rng, config.points, config.balanced) if config.points else pool[i].frame(rng))
        for i in chosen
    ]
    # Whole frames fill up their last part, so that compiled code meets one shape.
    pad = 1 if config.points else part_size(config.subjects, device)
    return torch.tensor(chosen, device=device), batch_of(drawn, pad_to=pad).to(device)


def objective(
    network: Callable[..., tuple[Tensor, Tensor]],
    field: Field,
    latent: Tensor,
    batch: Batch,
    config: TrainConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss and its terms (paper, equation 1)."""
    of_intensity, of_class = in_parts(network, batch.coordinates, latent)
    terms = {
        "class_bce": class_bce(of_class, batch.label, batch.weight).mean(),
        "dice_loss": dice_loss(of_class, batch.label, batch.weight).mean(),
        "intensity_bce": intensity_bce(of_intensity, batch.intensity, batch.weight).mean(),
    }
    penalty = config.weight_l2 * torch.stack([p.square().sum() for p in field.penalised()]).sum()
    penalty = penalty + config.latent_l2 * latent.square().mean()
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"] + penalty
    return loss, {"loss": loss, **terms}


class AutoDecoder:
    """Weights and latents of all subjects, optimised together; a `nisf.optimisation.loop.Recipe`.

    Args:
        pool: points of the training subjects.
        held: points of the validation subjects, labelled.
        config: all settings.
        labels: class names, background first.
        say: called with sentences for the user.
        device: where the network is trained.
    """

    def __init__(
        self,
        pool: Sequence[CasePoints],
        held: Sequence[CasePoints],
        config: Config,
        labels: Sequence[str],
        say: Callable[[str], None],
        device: torch.device = CPU,
    ) -> None:
        self.pool, self.held, self.config, self.labels, self.say = pool, held, config, labels, say
        self.device = device
        self.field = Field(config.field).to(device)
        self.state = latent_state(self.field, config.train, len(pool))
        self.network = compiled(self.field, say) if config.train.compile else self.field

    @property
    def latents(self) -> Tensor:
        """One row per subject (s, l)."""
        embedding = self.state.modules["latents"]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    def begin_with(self, start: Prior) -> None:
        """Weights of another prior; every subject's latent near the mean of that prior's."""
        self.field.load_state_dict(start.field.state_dict())
        with torch.no_grad():
            self.latents.add_(start.latent_mean.to(self.device))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        chosen, batch = draw_batch(self.pool, self.config.train, step, self.device)
        latent = self.state.modules["latents"](chosen)
        return objective(self.network, self.field, latent, batch, self.config.train)

    def after_step(self) -> None:
        pass

    def validate(self) -> StepDice | None:
        if not self.held:
            return None
        return validate(self.field, *self.statistics(), self.held, self.config, self.labels, self.say)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean (l,) and covariance (l, l) of the training latents."""
        latents = self.latents.detach()
        if len(latents) > 1:
            return latents.mean(0), torch.cov(latents.T)
        return latents.mean(0), torch.eye(latents.shape[1], device=latents.device) * 1e-4
