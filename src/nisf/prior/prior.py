"""A trained prior of any kind: everything that fits and queries need."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nisf import __version__
from nisf.config.fit_options import FitOptions
from nisf.config.overrides import to_dict
from nisf.config.schema import Config, FitConfig
from nisf.data.anatomy import Anatomy, to_json
from nisf.data.arrangement import Arrangement
from nisf.data.case import Case
from nisf.data.region import Region
from nisf.device import module_device
from nisf.errors import BadFileError, BadSettingError, CannotFitError
from nisf.files import load_part, write_json, write_tensors
from nisf.networks.finder import Finder
from nisf.networks.orienter import FILE as ORIENTER
from nisf.networks.orienter import Orienter, way_of, write_orienter
from nisf.prior.bundled import model_name
from nisf.prior.exportable import Exportable
from nisf.prior.fit_step import OnStep
from nisf.prior.region_search import RegionSearch
from nisf.prior.stored import FORMAT, SPECIFICATION, WEIGHTS, Stored, contents_of, hashed
from nisf.prior.subject_record import SubjectRecord

SubjectType = TypeVar("SubjectType", covariant=True)
"""What a prior of some kind makes of a case: a `nisf.subject.subject.Subject`."""

FitCallback = Callable[[int, Tensor], None]
"""Called with the number of steps or iterations done and the latents (s, l), at the start and after each."""


@dataclass(frozen=True, eq=False, repr=False)
class Prior(ABC, Generic[SubjectType]):
    """A field trained on a population. Each kind of field has its own subclass.

    Attributes:
        config: all settings of its training.
        anatomy: label names, colours and phases.
        field: the network, frozen.
        half: half lengths of the region's box, mm (3,); None for the whole field of view.
        finder: finds the region in a case without labels; None if none could be trained.
        card: training set, validation scores, licence and versions, for people to read.
        folder: the folder that it was read from, if any.
        appendices: results fitted on validation cases after training, by name; see
            `nisf.prior.stored.APPENDICES`.
        orienter: recognises the in-plane orientation in which a stack is stored; None if none was trained.
    """

    config: Config
    anatomy: Anatomy
    field: nn.Module
    half: np.ndarray | None
    finder: Finder | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    appendices: Mapping[str, Any] = field(default_factory=dict)
    orienter: Orienter | None = None

    fit_options: ClassVar[frozenset[str]] = frozenset()
    """Names of the `FitOptions` that apply to this kind."""

    def __post_init__(self) -> None:
        self.field.eval().requires_grad_(False)

    def __repr__(self) -> str:
        where = "not saved" if self.source is None else self.source
        labels = ", ".join(self.anatomy.labels[1:])
        return f"<{type(self).__name__} {self.fingerprint} ({where}): {labels}>"

    # Implemented by each kind.

    @classmethod
    @abstractmethod
    def new_field(cls, config: Config) -> nn.Module:
        """An untrained network of this kind."""

    @classmethod
    @abstractmethod
    def own_parts(cls, stored: Stored) -> dict[str, Any]:
        """The attributes that only this kind has, read from a prior's folder.

        Raises:
            BadFileError: a tensor or entry is missing or has the wrong shape.
        """

    @abstractmethod
    def own_tensors(self) -> dict[str, Tensor]:
        """Tensors of the attributes that only this kind has, as its folder keeps them."""

    @abstractmethod
    def fit_inside(
        self, case: Case, region: Region, *, config: FitConfig, seed: int, callback: FitCallback | None
    ) -> SubjectType:
        """Fit a case inside a region that is already known; called by `nisf.prior.fit.fit`.

        Args:
            case: has at least one pixel or point in the region.
            region: the region of interest.
            config: settings of the fit.
            seed: seed of the random draw of points.
            callback: see `FitCallback`.

        Raises:
            CannotFitError: the case lacks something that this kind needs.
        """

    def fit_seen(
        self,
        case: Case,
        region: Region,
        *,
        config: FitConfig,
        seed: int,
        see: OnStep,  # noqa: ARG002 - for kinds that fit in steps
    ) -> SubjectType:
        """`fit_inside` with a callback after every step; kinds without steps never call it.

        Args:
            case: as for `fit_inside`; likewise the other arguments.
            region: the region of interest.
            config: settings of the fit.
            seed: seed of the random draw of points.
            see: called with every step; an exception that it raises ends the fit.
        """
        return self.fit_inside(case, region, config=config, seed=seed, callback=None)

    def looked_again(self, case: Case, subject: Any) -> SubjectType:  # noqa: ARG002 - for kinds that do
        """Fit again in a better region, if the segmentation shows that the region was off centre.

        By default the region is kept.
        """
        return subject

    @abstractmethod
    def subject_of(self, record: SubjectRecord) -> SubjectType:
        """Make a subject from the contents of its file.

        Raises:
            BadFileError, KeyError, TypeError, ValueError: the file is damaged.
        """

    @abstractmethod
    def accepts(self, config: Config) -> bool:
        """Whether training with these settings can start from this prior's network."""

    def exportable(self) -> Exportable:
        """The network in a form that other programs can run.

        Raises:
            CannotFitError: this kind cannot be exported.
        """
        raise CannotFitError(f"a prior of the kind '{self.kind}' cannot be exported")

    def exportable_encoder(self) -> Exportable:
        """The encoder, which turns a case's slices into inputs of `exportable`, in exportable form.

        Raises:
            CannotFitError: this kind has no encoder.
        """
        raise CannotFitError(f"a prior of the kind '{self.kind}' has no encoder; export its field")

    def continued(self) -> Config:
        """Settings for further training of this prior; by default, its own."""
        return self.config

    # Shared by all kinds.

    @property
    def kind(self) -> str:
        """The kind of field, a key of `nisf.kinds.registry.KINDS`."""
        return self.config.field.kind

    @property
    def search(self) -> RegionSearch:
        """The search for the region in cases without labels."""
        return RegionSearch(self.half, self.finder, self.config.region.certain)

    @property
    def source(self) -> str | None:
        """Where the prior can be loaded from again: the name of a bundled model, or a folder."""
        return model_name(self.folder) or (None if self.folder is None else str(self.folder))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight; subjects refer to their prior by it.

        Computed once, because a prior's network is frozen.
        """
        return hashed(self.field.state_dict())

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with anything that affects results.

        Besides the weights, these are the finder, the orienter, the region, the settings, the anatomy and
        the appendices.
        """
        tensors = self.weights()
        for part, network in (("finder", self.finder), ("orienter", self.orienter)):
            if network is not None:
                tensors |= {f"{part}.{name}": t for name, t in network.state_dict().items()}
        half = None if self.half is None else [float(h) for h in self.half]
        return hashed(tensors, [to_dict(self.config), to_json(self.anatomy), half, dict(self.appendices)])

    def way(self, case: Case) -> Arrangement:
        """The rearrangement that brings a case into the in-plane orientation of the training cases.

        The identity if the case's orientation in the patient is known, or if there is no orienter.
        """
        known = not case.stacks or case.stacks[0].oriented or not self.anatomy.turn
        return Arrangement() if known or self.orienter is None else way_of(case, self.orienter)

    def check_options(self, options: FitOptions) -> None:
        """Reject options that do not apply to this kind of prior.

        Raises:
            BadSettingError: there are such options; the message names all of them.
        """
        strange = [name for name in options.given() if name not in self.fit_options]
        if strange:
            raise BadSettingError(
                f"{', '.join(strange)}: has no effect on a prior of the kind '{self.kind}'; "
                "leave it out, or give a prior of another kind",
                options=strange,
            )

    def weights(self) -> dict[str, Tensor]:
        """All tensors that its answers depend on, by name."""
        network = {f"field.{name}": tensor for name, tensor in self.field.state_dict().items()}
        return network | self.own_tensors()

    def with_weights(self, tensors: Mapping[str, Tensor], source: Path) -> Prior[SubjectType]:
        """The same prior with other weights, named as in `weights`.

        Without its appendices and its orienter, which belong to the old weights.

        Raises:
            BadFileError: the weights do not fit this prior; the message names ``source``.
        """
        parts = (self.config, self.anatomy, self.half, self.finder, self.card, self.folder)
        return type(self).from_stored(Stored(*parts, "", tensors, source))

    @classmethod
    def from_stored(cls, stored: Stored) -> Prior[SubjectType]:
        """Make the prior from the contents of its folder.

        Raises:
            BadFileError: weights and settings do not belong together.
        """
        network = cls.new_field(stored.config)
        load_part(network, "field.", stored.tensors, stored.source)
        own = cls.own_parts(stored)
        prior = cls(
            config=stored.config,
            anatomy=stored.anatomy,
            field=network,
            half=stored.half,
            finder=stored.finder,
            card=stored.card,
            folder=stored.folder,
            appendices=stored.appendices,
            orienter=stored.orienter,
            **own,
        )
        if extra := sorted(set(stored.tensors) - set(prior.weights())):
            raise BadFileError(
                f"{stored.source}: tensor '{extra[0]}' is not expected; weights and {SPECIFICATION} do not "
                "belong together"
            )
        return prior

    def to(self, device: torch.device) -> Prior[SubjectType]:
        """The same prior with its network on a device; the small finder stays on the CPU."""
        if module_device(self.field) == device:
            return self
        return replace(self, field=copy.deepcopy(self.field).to(device))

    def save(self, folder: str | Path) -> Prior[SubjectType]:
        """Write the folder. ``prior.json`` is written last, so a folder that has it is complete.

        Returns:
            The prior, with ``folder`` set.
        """
        folder = Path(folder)
        tensors = self.weights()
        if self.finder is not None:
            tensors |= {f"finder.{name}": t for name, t in self.finder.state_dict().items()}
        write_tensors(folder / WEIGHTS, tensors)
        if self.orienter is not None:
            write_orienter(folder / ORIENTER, self.orienter, self.fingerprint)
        for name, appendix in self.appendices.items():
            write_json(folder / f"{name}.json", dict(appendix))
        specification = {
            "format": FORMAT,
            "nisf": __version__,
            "fingerprint": self.fingerprint,
            "config": to_dict(self.config),
            "anatomy": to_json(self.anatomy),
            "half_mm": None if self.half is None else [float(h) for h in self.half],
            "finder": self.finder is not None,
            "card": dict(self.card),
        }
        specification["contents"] = contents_of(specification, tensors)
        write_json(folder / SPECIFICATION, specification)
        return replace(self, folder=folder.resolve())
