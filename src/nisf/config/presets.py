"""Presets: named sets of all settings."""

from __future__ import annotations

from nisf.config.schema import Config, FieldConfig, FitConfig, ImageConfig, RegionConfig, TrainConfig
from nisf.errors import BadSettingError

PRESETS: dict[str, Config] = {
    # The paper's numbers: 1000 epochs of 1000 subjects; a step uses all voxels of one frame of one subject.
    "paper": Config(
        preset="paper",
        train=TrainConfig(steps=1_000_000, subjects=1, points=0, checkpoint_every=200, validate_every=40_000),
        fit=FitConfig(steps=2000, points=0),
        region=RegionConfig(whole=True),
    ),
    # Sines that start at a frequency suited to images converge ten times faster than the paper's wavelets on
    # the same points; see docs/experiments.md.
    "cpu": Config(
        preset="cpu",
        field=FieldConfig(activation="sine", sine_omega=15.0, coordinate_scale=10.0, cyclic_time=True),
        train=TrainConfig(
            steps=6000,
            learning_rate=5e-4,
            latent_rate=1e-2,
            latent_rows=True,
            schedule="cosine",
            weight_l2=1e-6,
        ),
        fit=FitConfig(steps=600, learning_rate=1e-2, points=1024),
    ),
    # Sees whole slices, and learns from slices that were hidden from it; see docs/concepts.md.
    "image": Config(
        preset="image",
        field=FieldConfig(kind="image"),
        # Half a frame to one frame of a cine: no more than the temporal averaging of scanners.
        image=ImageConfig(slice_exchange=3, time_sigma=0.035),
        train=TrainConfig(
            steps=5000,
            subjects=2,
            points=1024,
            optimiser="muon",
            precision="auto",
            learning_rate=2e-3,
            schedule="cosine",
            alpha=0.5,
            weight_l2=1e-4,
            validate_every=500,
            validate_cases=20,
            compile=False,
            checkpoint_every=250,
        ),
        fit=FitConfig(steps=0, islands="remove"),
    ),
    # A minute on two cores: for `nisf demo` and for trying things out.
    "demo": Config(
        preset="demo",
        field=FieldConfig(
            activation="sine",
            sine_omega=15.0,
            coordinate_scale=6.0,
            cyclic_time=True,
            width=64,
            latent=64,
            layers=6,
        ),
        train=TrainConfig(
            steps=700,
            subjects=8,
            points=1024,
            learning_rate=2e-3,
            latent_rate=2e-2,
            latent_rows=True,
            schedule="cosine",
            weight_l2=1e-6,
            compile=False,
        ),
        fit=FitConfig(steps=300, learning_rate=1e-2, points=2048),
        region=RegionConfig(finder_steps=200),
    ),
}


def preset(name: str) -> Config:
    """The settings called ``name``.

    Raises:
        BadSettingError: there is no such preset.
    """
    if name not in PRESETS:
        raise BadSettingError(
            f"{name}: no such preset; there are {', '.join(sorted(PRESETS))}", options=["preset"]
        )
    return PRESETS[name]
