"""What each of several ranks runs in `test_ranks`, started by torchrun."""

import sys
from pathlib import Path

import torch

import toys
from nisf.device import CPU
from nisf.optimisation import ranks

CONFIGS = {
    "latent": toys.settings(toys.TINY, train={"steps": 8, "subjects": 3, "checkpoint_every": 4}),
    "rows": toys.settings(
        toys.TINY, train={"steps": 8, "subjects": 3, "checkpoint_every": 4, "latent_rows": True}
    ),
    "image": toys.settings(
        toys.IMAGE,
        train={
            "steps": 8,
            "subjects": 3,
            "checkpoint_every": 4,
            "validate_every": 4,
            "learning_rate": 1e-3,  # Adam makes large differences of small ones
        },
        image={"phase_exchange": 1, "slice_exchange": 1},
        region={"finder_steps": 4},
    ),
}
CONFIGS["step"] = toys.settings(CONFIGS["image"], train={"steps": 1})
CASES = 5


def train(kind, folder, **options):
    """Train one kind."""
    return toys.train_toy(folder, CONFIGS[kind], toys.toy_cohort(CASES), **options)


def main(folder, kinds):
    """Train the kinds on all ranks, going on where a run is there already."""
    torch.set_num_threads(1)
    with ranks.joined(CPU):
        for kind in kinds:
            prior = train(kind, folder / kind, resume=(folder / kind).is_dir())
            said = ranks.of_all([f"{ranks.rank()}/{ranks.world()} {kind} {prior.fingerprint}"])
            if ranks.is_first():
                print("\n".join(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","))
    ranks.leave(0)
