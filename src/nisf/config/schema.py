"""Every setting, in small frozen dataclasses.

The docstrings of the fields are the help texts of ``nisf settings`` and docs/reference.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from nisf.config.bounds import Bounds, Fraction, Seed, check_bounds, check_canvas

Activation = Literal["gabor", "sine", "relu", "gabor+relu", "gabor+sine"]
Backbone = Literal["shared", "separate"]
Islands = Literal["keep", "remove"]
Likelihood = Literal["bernoulli", "gaussian"]
Method = Literal["adam", "second-order"]


@dataclass(frozen=True)
class FieldConfig:
    """The network (paper, section 2.1)."""

    kind: str = "latent"
    """What adapts the field to a subject: ``latent``, a fitted vector (the paper), or ``image``, the slices
    themselves."""
    dimensions: Annotated[int, Bounds(2, 4)] = 4
    """Model coordinates: 2 (x, y), 3 (x, y, z) or 4 (x, y, z, t)."""
    channels: Annotated[int, Bounds(1, 64)] = 1
    """Number of intensity channels; set from the data."""
    classes: Annotated[int, Bounds(2, 128)] = 4
    """Number of classes, background included; set from the data."""
    latent: Annotated[int, Bounds(1, 65536)] = 128
    """Size of the latent."""
    width: Annotated[int, Bounds(1, 8192)] = 128
    """Width of the hidden layers."""
    layers: Annotated[int, Bounds(1, 256)] = 8
    """Number of residual layers."""
    activation: Activation = "gabor"
    """Activation after each linear map; with a '+', layers alternate between the two."""
    gabor_omega: Annotated[float, Bounds(0, 1e6)] = 10.0
    """Frequency of the Gabor wavelet."""
    gabor_sigma: Annotated[float, Bounds(0, 1e6)] = 10.0
    """Sharpness of the Gabor wavelet's envelope."""
    sine_omega: Annotated[float, Bounds(0, 1e6)] = 30.0
    """Frequency of the sine."""
    backbone: Backbone = "shared"
    """One network with two heads, or one network for intensity and another for classes."""
    coordinate_scale: Annotated[float, Bounds(0, 1e6)] = 1.0
    """Factor on the coordinates before the first layer, which sets the frequency of the first waves."""
    cyclic_time: bool = False
    """Whether time enters as (cos, sin) of the cycle, so that its end meets its beginning."""

    @property
    def inputs(self) -> int:
        """Number of coordinate columns in the input of the first layer."""
        return self.dimensions + int(self.cyclic_time and self.dimensions == 4)

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class ImageConfig:
    """The image-conditioned field: an encoder of the measured slices, and a field that decodes them."""

    pixels: Annotated[int, Bounds(8, 1024)] = 112
    """Pixels along each side of the canvas that a slice is resampled to."""
    pixel_mm: Annotated[float, Bounds(0.01, 100)] = 1.5
    """Size of the canvas's pixels, mm."""
    width: Annotated[int, Bounds(1, 1024)] = 32
    """Channels of the encoder's first level; level k has k times as many."""
    levels: Annotated[int, Bounds(1, 8)] = 4
    """Number of levels of the encoder; each halves the resolution."""
    features: Annotated[int, Bounds(1, 4096)] = 24
    """Number of features per pixel."""
    latent: Annotated[int, Bounds(1, 4096)] = 32
    """Size of the subject's latent, which is the mean over its slices' latents."""
    hidden: Annotated[int, Bounds(1, 8192)] = 64
    """Width of the field's hidden layers."""
    neighbours: Annotated[int, Bounds(1, 64)] = 3
    """Number of nearest slices from which a point takes features."""
    distance_mm: Annotated[float, Bounds(0.01, 1e4)] = 10.0
    """Unit of the distance to a slice in the input of the field, mm."""
    slice_exchange: Annotated[int, Bounds(0, 8)] = 0
    """Number of encoder levels, starting with the coarsest, on which slices exchange features with their
    nearest neighbours."""
    phase_exchange: Annotated[int, Bounds(0, 8)] = 0
    """Number of encoder levels, starting with the coarsest, on which slices see their features at the two
    phases of the cycle that differ most."""
    time_sigma: Fraction = 0.0
    """Standard deviation of the Gaussian with which a cine's features are averaged over time, as a fraction
    of the cycle; phases beyond three standard deviations hardly count."""
    mirrors: Annotated[int, Bounds(0, 2)] = 0
    """Pixel axes along which slices are also mirrored, 0 to 2; features are averaged over all images, which
    multiplies the cost of encoding. Not used if the anatomy's files have a fixed orientation."""

    def __post_init__(self) -> None:
        check_bounds(self)
        check_canvas("pixels", self.pixels, self.levels)


@dataclass(frozen=True)
class AugmentConfig:
    """How training slices of the image-conditioned field are augmented."""

    coarse: Fraction = 0.4
    """Fraction of the first steps that use coarse canvases at a third of the cost; 0 with --start."""
    coarse_pixels: Annotated[int, Bounds(8, 1024)] = 64
    """Pixels along each side of a coarse canvas, which covers the same field of view."""
    window: Annotated[int, Bounds(1, 1024)] = 8
    """Maximum number of adjacent slices in a sample."""
    hide: Fraction = 0.5
    """Fraction of the samples in which some slices are hidden, but still scored."""
    degrees: Annotated[float, Bounds(0, 180)] = 180.0
    """Maximum in-plane rotation; limited to 15 if the anatomy's files have a fixed orientation."""
    mirror: bool = True
    """Whether to mirror slices; not used if the anatomy's files have a fixed orientation."""
    reverse: bool = True
    """Whether to count slices from the other end; not used if the anatomy's files have a fixed order."""
    scale: Annotated[float, Bounds(0, 2)] = 0.2
    """Maximum log of the in-plane zoom."""
    scale_z: Annotated[float, Bounds(0, 2)] = 0.25
    """Maximum log of the stretch across slices."""
    centre_mm: Annotated[float, Bounds(0, 1000)] = 7.0
    """Standard deviation of the region's displacement, mm."""
    bend_mm: Annotated[float, Bounds(0, 100)] = 2.5
    """Standard deviation of the control points of a smooth deformation, mm."""
    slice_shift_mm: Annotated[float, Bounds(0, 100)] = 1.5
    """Standard deviation of the slices' relative shifts, in half of the samples, mm."""
    gamma: Annotated[float, Bounds(0, 3)] = 0.45
    """Maximum log of the contrast's exponent."""
    gain: Annotated[float, Bounds(0, 3)] = 0.2
    """Maximum log of the brightness factor."""
    offset: Annotated[float, Bounds(0, 10)] = 0.05
    """Maximum brightness offset."""
    bias: Annotated[float, Bounds(0, 3)] = 0.2
    """Standard deviation of the log of a smooth brightness field."""
    slice_gain: Annotated[float, Bounds(0, 3)] = 0.05
    """Standard deviation of the log of each slice's brightness."""
    coil: Annotated[float, Bounds(0, 5)] = 0.0
    """Maximum log brightness ratio across 120 mm in the plane or 90 mm along the stack, as with a distant
    surface coil; 2.3 is a factor of ten."""
    curve: Annotated[float, Bounds(0, 3)] = 0.0
    """Standard deviation of the log slopes of a random increasing intensity curve with four pieces."""
    cut: Fraction = 0.0
    """Fraction of the samples whose field of view ends within the canvas."""
    blur: Fraction = 0.3
    """Fraction of the samples that are blurred."""
    blur_pixels: Annotated[float, Bounds(0, 100)] = 1.6
    """Maximum standard deviation of the blur, in pixels of the canvas."""
    stretch: Annotated[float, Bounds(0, 3)] = 0.0
    """Maximum log of the ratio of the blur along both axes."""
    sharpen: Annotated[float, Bounds(0, 10)] = 0.0
    """Maximum weight of sharpening (unsharp masking), in as many samples as are blurred."""
    noise: Annotated[float, Bounds(0, 10)] = 0.06
    """Maximum standard deviation of added noise."""
    noise_profile: Annotated[float, Bounds(0, 10)] = 0.0
    """Maximum weight with which noise grows away from a coil, as after a brightness correction."""
    ghost: Fraction = 0.0
    """Maximum weight of a ghost (a copy of the image, shifted along one axis), in half of the samples."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class FitConfig:
    """Fitting a latent to intensities with frozen weights (paper, section 2.3).

    Settings from steps to latent_l2 are for Adam, those from iterations to pose_degrees for second-order.
    """

    method: Method = "adam"
    """Adam as in the paper, or Levenberg-Marquardt (second-order), which stops at convergence."""
    steps: Annotated[int, Bounds(0, 1e9)] = 672
    """Maximum number of optimiser steps; training replaces it by the number that was best on validation."""
    learning_rate: Annotated[float, Bounds(0, 100)] = 1e-3
    """Adam's learning rate for the latent. A per-subject 1e-3 corresponds to the authors' shared 1e-4."""
    points: Annotated[int, Bounds(0, 1e9)] = 8192
    """Points drawn per step; 0 uses all voxels of one random frame, as in the paper."""
    latent_l2: Annotated[float, Bounds(0, 1e9)] = 1e-4
    """Weight of the mean square of the latent."""
    iterations: Annotated[int, Bounds(0, 1e6)] = 80
    """Maximum number of second-order iterations."""
    growth: Annotated[int, Bounds(0, 1e6)] = 30
    """Iterations with newly drawn, increasingly many points; then the points stay until convergence."""
    points_first: Annotated[int, Bounds(1, 1e9)] = 256
    """Number of points in the first iteration."""
    points_last: Annotated[int, Bounds(1, 1e9)] = 4096
    """Number of points at the end."""
    points_worth: Annotated[float, Bounds(0, 1e12, beyond=True)] = 8192.0
    """Number of independent observations that the final points count for, relative to the prior."""
    prior_strength: Annotated[float, Bounds(0, 1e9)] = 0.1
    """Weight of the Gaussian prior over latents; training chooses it on validation cases."""
    temperature: Annotated[float, Bounds(0, 1e9, beyond=True)] = 1.0
    """Factor on the covariance of the posterior; training chooses it so that probabilities are calibrated."""
    shrinkage: Fraction = 1.0
    """Shrinkage of the training latents' covariance towards a multiple of the identity, 0 to 1."""
    likelihood: Likelihood = "bernoulli"
    """Likelihood of intensities: cross-entropy (bernoulli), or Gaussian with standard deviation fit.sigma."""
    sigma: Annotated[float, Bounds(0, 1e6, beyond=True)] = 0.1
    """Standard deviation of intensities in [0, 1], for the Gaussian likelihood."""
    tolerance: Fraction = 1e-3
    """The fit has converged when the predicted decrease is below this fraction of the objective."""
    shift_mm: Annotated[float, Bounds(0, 1000)] = 0.0
    """Standard deviation of each slice's in-plane shift, fitted by the second-order method; 0 fits none."""
    gain: Annotated[float, Bounds(0, 100)] = 0.0
    """Standard deviation of each slice's gain and offset; likewise."""
    pose_mm: Annotated[float, Bounds(0, 1000)] = 0.0
    """Standard deviation of the whole subject's translation; likewise."""
    pose_degrees: Annotated[float, Bounds(0, 180)] = 0.0
    """Standard deviation of the whole subject's rotation; likewise."""
    islands: Islands = "keep"
    """Parts of a structure that are not connected to its largest part: keep or remove them."""
    certain: Annotated[tuple[float, ...], Bounds(0, 1)] = ()
    """Minimum certainty of each structure's section in a slice, below which it is removed like an island;
    separated by commas, e.g. 0,0,0.9. Training with the preset image chooses it on validation cases."""
    enclosed: Fraction = 0.0
    """Minimum fraction of a cavity's rim inside its wall, in a slice: from the base inwards, cavity and
    wall are removed from slices below it. 0.5 is the SCMR's rule for the LV; 0 follows the training data."""
    as_stored: bool = False
    """Whether to use files without orientation as stored, instead of turning them to match the training."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class TrainConfig:
    """Training a prior; in the paper an auto-decoder with one latent per subject (section 2.2)."""

    steps: Annotated[int, Bounds(0, 1e9)] = 6000
    """Optimiser steps."""
    subjects: Annotated[int, Bounds(1, 1e6)] = 4
    """Subjects per step."""
    points: Annotated[int, Bounds(0, 1e9)] = 4096
    """Points drawn per subject, 0 uses all voxels of one random frame; for an image-conditioned field, points
    drawn per slice."""
    balanced: Fraction = 0.0
    """Fraction of the drawn points that is spread evenly over the classes; the rest is uniform."""
    optimiser: Literal["adam", "muon"] = "adam"
    """Optimiser of the weights: Adam as in the paper, or Muon for matrices and kernels between a network's
    input and output, with Adam for the rest; both use the same learning rate."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of products in training an image-conditioned field; weights and losses are always fp32. bf16
    is faster on CPUs with units for it (AMX, AVX-512), many times slower on other CPUs, and no faster on a
    GPU; auto uses it where it is faster."""
    learning_rate: Annotated[float, Bounds(0, 100)] = 1e-4
    """Learning rate of the weights."""
    latent_rate: Annotated[float, Bounds(0, 100)] = 1e-4
    """Adam's learning rate of the latents."""
    latent_rows: bool = False
    """Whether only the latents of a step's subjects move; otherwise momentum moves all, as in the paper."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rates; cosine falls to a hundredth after a short warm-up."""
    minutes: Annotated[float, Bounds(0, 1e6)] = 0.0
    """Time limit of the training, including its schedule, if it would take longer; 0 sets no limit. A resumed
    run gets the whole time again."""
    alpha: Annotated[float, Bounds(0, 1e9)] = 10.0
    """Weight of the intensity term."""
    weight_l2: Annotated[float, Bounds(0, 1e9)] = 1e-4
    """Weight of the sum of squared weights, except the heads; for an image-conditioned field, the optimiser's
    decoupled weight decay."""
    latent_l2: Annotated[float, Bounds(0, 1e9)] = 1e-4
    """Weight of the mean square of the latents."""
    latent_init: Annotated[float, Bounds(0, 1e6)] = 1e-4
    """Standard deviation of the latents' initial values."""
    validate_every: Annotated[int, Bounds(0, 1e9)] = 2000
    """Steps between validations; 0 validates only at the end."""
    validate_cases: Annotated[int, Bounds(1, 1e6)] = 8
    """Number of validation cases that are fitted each time, evenly spread over all."""
    validate_points: Annotated[int, Bounds(1, 1e9)] = 1024
    """Points per step when validation cases are fitted."""
    compile: bool = True
    """Compile the network if there is a C++ compiler: about twice as fast after half a minute."""
    checkpoint_every: Annotated[int, Bounds(1, 1e9)] = 500
    """Steps between checkpoints."""
    seed: Seed = 0
    """Seed of all randomness."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class RegionConfig:
    """How the region of interest is found."""

    margin_mm: Annotated[float, Bounds(0, 1000)] = 12.0
    """Margin around the labelled structures of the training subjects, mm."""
    whole: bool = False
    """Use the whole field of view instead, without a search for the region."""
    finder_steps: Annotated[int, Bounds(0, 1e6)] = 2400
    """Optimiser steps of the network that finds the region in images without labels."""
    certain: Fraction = 0.0
    """Minimum certainty of that network, in [0, 1]; a case below it is refused as something else. Training
    replaces it by half of the minimum on training cases; 0 refuses nothing."""

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

    def __post_init__(self) -> None:
        if self.augment.coarse:
            check_canvas("augment.coarse_pixels", self.augment.coarse_pixels, self.image.levels)


def for_data(config: Config, *, dimensions: int, channels: int, classes: int) -> Config:
    """The same settings for data of these sizes."""
    sizes = replace(config.field, dimensions=dimensions, channels=channels, classes=classes)
    return replace(config, field=sizes)


def _all_of(section: str, but: Collection[str] = ()) -> set[str]:
    """Names of a section's settings, except ``but``."""
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
"""Settings that do not apply to a kind of field."""


def unused(kind: str) -> frozenset[str]:
    """Names of the settings, ``section.name``, that do not apply to a kind of field; empty if unknown."""
    return UNUSED.get(kind, frozenset())
