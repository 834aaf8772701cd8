"""Every setting, as small frozen dataclasses.

Docstrings of fields are what ``nisf settings`` and docs/reference.md say of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from nisf.config.bounds import Bounds, Fraction, Seed, check_bounds
from nisf.errors import BadSettingError

Activation = Literal["gabor", "sine", "relu", "gabor+relu", "gabor+sine"]
Backbone = Literal["shared", "separate"]
Islands = Literal["keep", "remove"]
Likelihood = Literal["bernoulli", "gaussian"]
Method = Literal["adam", "second-order"]


@dataclass(frozen=True)
class FieldConfig:
    """The network (paper, section 2.1)."""

    kind: str = "latent"
    """What makes the field one subject: ``latent``, which is fitted (the paper), or ``image``, the slices
    themselves."""
    dimensions: Annotated[int, Bounds(2, 4)] = 4
    """Model coordinates: 2 (x, y), 3 (x, y, z) or 4 (x, y, z, t)."""
    channels: Annotated[int, Bounds(1, 64)] = 1
    """Intensity channels; set from the data."""
    classes: Annotated[int, Bounds(2, 256)] = 4
    """Classes, background included; set from the data."""
    latent: Annotated[int, Bounds(1, 65536)] = 128
    """Size of the latent."""
    width: Annotated[int, Bounds(1, 8192)] = 128
    """Units of a hidden layer."""
    layers: Annotated[int, Bounds(1, 256)] = 8
    """Residual layers."""
    activation: Activation = "gabor"
    """What follows each linear map; with a '+', layers alternate between the two."""
    gabor_omega: Annotated[float, Bounds(0, 1e6)] = 10.0
    """Frequency of the Gabor wavelet."""
    gabor_sigma: Annotated[float, Bounds(0, 1e6)] = 10.0
    """Sharpness of the Gabor wavelet's envelope."""
    sine_omega: Annotated[float, Bounds(0, 1e6)] = 30.0
    """Frequency of the sine."""
    backbone: Backbone = "shared"
    """One network with two heads, or one network for intensity and another for classes."""
    coordinate_scale: Annotated[float, Bounds(0, 1e6)] = 1.0
    """Factor on the coordinates before the first layer: how fine the first waves are."""
    cyclic_time: bool = False
    """Whether time enters as (cos, sin) of the cycle, so that its end meets its beginning."""

    @property
    def inputs(self) -> int:
        """Columns of the coordinates that the first layer sees."""
        return self.dimensions + int(self.cyclic_time and self.dimensions == 4)

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class ImageConfig:
    """The image-conditioned field: an encoder of the measured slices and a field that decodes them."""

    pixels: Annotated[int, Bounds(8, 1024)] = 112
    """Pixels along each side of the canvas that a slice is resampled to."""
    pixel_mm: Annotated[float, Bounds(0.01, 100)] = 1.5
    """Size of the canvas's pixels, mm."""
    width: Annotated[int, Bounds(1, 1024)] = 32
    """Channels of the encoder's first level; level k has k times as many."""
    levels: Annotated[int, Bounds(1, 8)] = 4
    """Levels of the encoder; each halves the resolution."""
    features: Annotated[int, Bounds(1, 4096)] = 24
    """Features of a pixel."""
    latent: Annotated[int, Bounds(1, 4096)] = 32
    """Size of the subject's latent, the mean of its slices' own."""
    hidden: Annotated[int, Bounds(1, 8192)] = 64
    """Units of the field's hidden layers."""
    neighbours: Annotated[int, Bounds(1, 64)] = 3
    """Nearest slices whose features a place takes."""
    distance_mm: Annotated[float, Bounds(0.01, 1e4)] = 10.0
    """Unit in which the field sees the distance to a slice, mm."""
    slice_exchange: Annotated[int, Bounds(0, 8)] = 0
    """Levels of the encoder, from the coarsest, on which slices see their nearest neighbours' features."""
    phase_exchange: Annotated[int, Bounds(0, 8)] = 0
    """Levels of the encoder, from the coarsest, on which slices see what they show at the two phases of the
    cycle that look most different."""
    time_sigma: Fraction = 0.0
    """Standard deviation of the Gaussian over which a cine's features are averaged in time, as a fraction of
    the cycle; phases three times as far apart hardly count."""
    mirrors: Annotated[int, Bounds(0, 2)] = 0
    """Pixel axes along which slices are also seen in a mirror, 0 to 2; features are their mean, encoded as
    many times as there are images. Not where the anatomy says that files show it one way."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.pixels % 2 ** (self.levels - 1):
            raise BadSettingError(
                f"pixels={self.pixels}: give a multiple of {2 ** (self.levels - 1)}, as levels={self.levels} "
                "halve it"
            )


@dataclass(frozen=True)
class AugmentConfig:
    """How training slices of the image-conditioned field are varied."""

    coarse: Fraction = 0.4
    """Share of the steps, at the start, that are trained on coarse canvases at a third of the cost; 0 with
    --start."""
    coarse_pixels: Annotated[int, Bounds(8, 1024)] = 64
    """Pixels along each side of a coarse canvas, which covers the same field of view."""
    window: Annotated[int, Bounds(1, 1024)] = 8
    """Adjacent slices of a stack in a sample at most."""
    hide: Fraction = 0.5
    """Share of the samples in which some slices are hidden and yet scored."""
    degrees: Annotated[float, Bounds(0, 180)] = 180.0
    """Largest rotation in the plane; at most 15 where the anatomy says that files show it one way."""
    mirror: bool = True
    """Whether to mirror slices; not where the anatomy says that files show it one way."""
    reverse: bool = True
    """Whether to count slices from the other end; not where the anatomy says that their order is known."""
    scale: Annotated[float, Bounds(0, 2)] = 0.2
    """Largest logarithm of the in-plane zoom."""
    scale_z: Annotated[float, Bounds(0, 2)] = 0.25
    """Largest logarithm of the stretch across slices."""
    centre_mm: Annotated[float, Bounds(0, 1000)] = 7.0
    """Standard deviation of the region's misplacement, mm."""
    bend_mm: Annotated[float, Bounds(0, 100)] = 2.5
    """Standard deviation of a smooth bend's control points, mm."""
    slice_shift_mm: Annotated[float, Bounds(0, 100)] = 1.5
    """Standard deviation of the slices' shifts against each other in half of the samples, mm."""
    gamma: Annotated[float, Bounds(0, 3)] = 0.45
    """Largest logarithm of the contrast's exponent."""
    gain: Annotated[float, Bounds(0, 3)] = 0.2
    """Largest logarithm of the brightness factor."""
    offset: Annotated[float, Bounds(0, 10)] = 0.05
    """Largest brightness offset."""
    bias: Annotated[float, Bounds(0, 3)] = 0.2
    """Standard deviation of the logarithm of a smooth brightness field."""
    slice_gain: Annotated[float, Bounds(0, 3)] = 0.05
    """Standard deviation of the logarithm of the slices' own brightness."""
    coil: Annotated[float, Bounds(0, 5)] = 0.0
    """Largest logarithm of the brightness ratio across a heart (120 mm in the plane, 90 mm along the stack),
    as far from a surface coil; 2.3 is ten-fold."""
    curve: Annotated[float, Bounds(0, 3)] = 0.0
    """Standard deviation of the logarithm of the steps of a random rising intensity curve, in four parts."""
    cut: Fraction = 0.0
    """Share of the samples whose field of view ends within the canvas."""
    blur: Fraction = 0.3
    """Share of the samples that are blurred."""
    blur_pixels: Annotated[float, Bounds(0, 100)] = 1.6
    """Largest standard deviation of the blur, in pixels of the canvas."""
    stretch: Annotated[float, Bounds(0, 3)] = 0.0
    """Largest logarithm of how much more a sample is blurred along one axis than along the other."""
    sharpen: Annotated[float, Bounds(0, 10)] = 0.0
    """Largest weight of what a blur takes away, added instead, in as many samples as are blurred."""
    noise: Annotated[float, Bounds(0, 10)] = 0.06
    """Largest standard deviation of added noise."""
    noise_profile: Annotated[float, Bounds(0, 10)] = 0.0
    """Largest share in which noise grows where a coil is far, as after a correction of brightness."""
    ghost: Fraction = 0.0
    """Largest weight of a ghost: the image once more, moved along one axis; in half of the samples."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class FitConfig:
    """Fitting a latent to intensities, weights frozen (paper, section 2.3).

    Those from steps to latent_l2 are Adam's, those from iterations to pose_degrees the second-order method's.
    """

    method: Method = "adam"
    """How: Adam as in the paper, or Levenberg-Marquardt (second-order), which ends by itself."""
    steps: Annotated[int, Bounds(0, 1e9)] = 672
    """Optimiser steps at most; training replaces it by the count that was best on validation cases."""
    learning_rate: Annotated[float, Bounds(0, 100)] = 1e-3
    """Adam's rate for the latent. A per-subject 1e-3 moves it like the authors' shared 1e-4."""
    points: Annotated[int, Bounds(0, 1e9)] = 8192
    """Points drawn for a step; 0 takes every voxel of one random frame, as the paper does."""
    latent_l2: Annotated[float, Bounds(0, 1e9)] = 1e-4
    """Weight of the mean square of the latent."""
    iterations: Annotated[int, Bounds(0, 1e6)] = 80
    """Second-order iterations at most."""
    growth: Annotated[int, Bounds(0, 1e6)] = 30
    """Iterations with fresh points each, ever more of them; then the points stay, and the fit converges."""
    points_first: Annotated[int, Bounds(1, 1e9)] = 256
    """Points of the first iteration."""
    points_last: Annotated[int, Bounds(1, 1e9)] = 4096
    """Points at the end."""
    points_worth: Annotated[float, Bounds(0, 1e12, beyond=True)] = 8192.0
    """Independent observations that the points at the end count for: data against prior."""
    prior_strength: Annotated[float, Bounds(0, 1e9)] = 0.1
    """Weight of the Gaussian prior over latents; training chooses it on validation cases."""
    temperature: Annotated[float, Bounds(0, 1e9, beyond=True)] = 1.0
    """Factor on the covariance of the posterior; training chooses it so that probabilities are calibrated."""
    shrinkage: Fraction = 1.0
    """How far the covariance of the training latents is drawn to a multiple of the identity, 0 to 1."""
    likelihood: Likelihood = "bernoulli"
    """Of intensities: cross-entropy (bernoulli), or Gaussian with the standard deviation fit.sigma."""
    sigma: Annotated[float, Bounds(0, 1e6, beyond=True)] = 0.1
    """Standard deviation of intensities in [0, 1], for the Gaussian likelihood."""
    tolerance: Fraction = 1e-3
    """The fit has converged when its objective can fall by less than this share of itself."""
    shift_mm: Annotated[float, Bounds(0, 1000)] = 0.0
    """Standard deviation of each slice's in-plane shift, fitted by the second-order method; 0: none."""
    gain: Annotated[float, Bounds(0, 100)] = 0.0
    """Standard deviation of each slice's gain and offset, likewise."""
    pose_mm: Annotated[float, Bounds(0, 1000)] = 0.0
    """Standard deviation of a shift of the whole subject, likewise."""
    pose_degrees: Annotated[float, Bounds(0, 180)] = 0.0
    """Standard deviation of a rotation of the whole subject, likewise."""
    islands: Islands = "keep"
    """Parts of a structure that are apart from its largest part: as the field answers, or removed."""
    certain: Annotated[tuple[float, ...], Bounds(0, 1)] = ()
    """Least certainty of each structure's section in a slice, below which it is removed like an island, with
    commas, e.g. 0,0,0.9; training of the preset image chooses it on validation cases."""
    enclosed: Fraction = 0.0
    """Least part of a cavity's rim that its wall covers in a slice: from the base inwards, cavity and wall
    are left out of slices below it. 0.5 is the SCMR's rule for the LV; 0 draws as the training data."""
    as_stored: bool = False
    """Whether files without orientation are seen as stored, not turned to lie like the training images."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class TrainConfig:
    """Training a prior; in the paper an auto-decoder with one latent per subject (section 2.2)."""

    steps: Annotated[int, Bounds(0, 1e9)] = 6000
    """Optimiser steps."""
    subjects: Annotated[int, Bounds(1, 1e6)] = 4
    """Subjects in a step."""
    points: Annotated[int, Bounds(0, 1e9)] = 4096
    """Points drawn of each subject, 0 takes every voxel of one random frame; for an image-conditioned field,
    points drawn on each slice."""
    balanced: Fraction = 0.0
    """Share of the drawn points that is spread evenly over the classes; the rest is uniform."""
    optimiser: Literal["adam", "muon"] = "adam"
    """Of the weights: Adam as in the paper, or Muon for the matrices and kernels between a network's ends and
    Adam for the rest; both take the same rate."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Of the products in training an image-conditioned field; weights and losses are always fp32. bf16 is
    faster on processors that have units for it (AMX, AVX-512), many times slower on other processors, and
    gains nothing on a GPU; auto takes it where it is faster."""
    learning_rate: Annotated[float, Bounds(0, 100)] = 1e-4
    """The optimiser's rate for the weights."""
    latent_rate: Annotated[float, Bounds(0, 100)] = 1e-4
    """Adam's rate for the latents."""
    latent_rows: bool = False
    """Whether only the latents of a step's subjects move; otherwise momentum moves all, as in the paper."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rates over time; cosine falls to a hundredth after a short warm-up."""
    minutes: Annotated[float, Bounds(0, 1e6)] = 0.0
    """Time after which training ends, its schedule with it, should it have more steps to do; 0 is any time. A
    resumed run has all of it again."""
    alpha: Annotated[float, Bounds(0, 1e9)] = 10.0
    """Weight of the intensity term."""
    weight_l2: Annotated[float, Bounds(0, 1e9)] = 1e-4
    """Weight of the sum of squared weights, heads excepted; for an image-conditioned field, the optimiser's
    decoupled weight decay."""
    latent_l2: Annotated[float, Bounds(0, 1e9)] = 1e-4
    """Weight of the mean square of the latents."""
    latent_init: Annotated[float, Bounds(0, 1e6)] = 1e-4
    """Standard deviation of the latents' initial values."""
    validate_every: Annotated[int, Bounds(0, 1e9)] = 2000
    """Steps between validations; 0 validates only at the end."""
    validate_cases: Annotated[int, Bounds(1, 1e6)] = 8
    """Validation cases that are fitted each time, evenly spread over those given."""
    validate_points: Annotated[int, Bounds(1, 1e9)] = 1024
    """Points a step when validation cases are fitted."""
    compile: bool = True
    """Compile the network where a C++ compiler is at hand: about twice as fast after half a minute."""
    checkpoint_every: Annotated[int, Bounds(1, 1e9)] = 500
    """Steps between checkpoints."""
    seed: Seed = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class RegionConfig:
    """How the region of interest is found."""

    margin_mm: Annotated[float, Bounds(0, 1000)] = 12.0
    """Room around the labelled structures of the training subjects, mm."""
    whole: bool = False
    """Use the whole field of view instead; nothing is left to be found."""
    finder_steps: Annotated[int, Bounds(0, 1e6)] = 2400
    """Optimiser steps of the network that finds the region in images without labels."""
    certain: Fraction = 0.0
    """Least certainty of that network, in [0, 1]: a case in which it is less sure shows something else and is
    refused. Training replaces it by half of its least certainty on training cases; 0 refuses nothing."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Config:
    """All settings of a prior."""

    preset: str = "cpu"
    field: FieldConfig = FieldConfig()
    image: ImageConfig = ImageConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    fit: FitConfig = FitConfig()
    region: RegionConfig = RegionConfig()


def for_data(config: Config, *, dimensions: int, channels: int, classes: int) -> Config:
    """The same settings for data of these sizes."""
    sizes = replace(config.field, dimensions=dimensions, channels=channels, classes=classes)
    return replace(config, field=sizes)


def _all_of(section: str, but: Collection[str] = ()) -> set[str]:
    """Names of a section's settings, ``but`` some."""
    return {f"{section}.{f.name}" for f in fields(getattr(Config(), section)) if f.name not in but}


UNUSED: dict[str, frozenset[str]] = {
    "latent": frozenset({*_all_of("image"), *_all_of("augment"), "train.precision"}),
    "image": frozenset(
        {
            *_all_of("field", but=("kind", "dimensions", "channels", "classes")),
            *_all_of("fit", but=("islands", "certain", "enclosed", "as_stored")),
            *("train.balanced", "train.latent_rate", "train.latent_rows", "train.latent_l2"),
            *("train.latent_init", "train.validate_points", "train.compile"),
        }
    ),
}
"""Settings that have no meaning with a kind of field."""


def unused(kind: str) -> frozenset[str]:
    """Names of the settings, ``section.name``, that have no meaning with a kind of field; none if unknown."""
    return UNUSED.get(kind, frozenset())
