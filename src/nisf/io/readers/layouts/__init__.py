"""Layouts of data sets in folders: one module per layout, each with two functions.

- ``recognises(root) -> bool``: whether `root` is a cohort of this layout, or one case folder of it;
- ``list_cases(root, anatomy) -> Listing``: its cases, without opening an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from nisf.io.readers.layouts import acdc, dicom, flat, manifest, mnms, nnunet, pairs, ukb

LAYOUTS: Mapping[str, ModuleType] = {
    # The order in which `auto` tries them: most specific first.
    "manifest": manifest,
    "acdc": acdc,
    "nnunet": nnunet,
    "mnms": mnms,
    "ukb": ukb,
    "pairs": pairs,
    "flat": flat,
    "dicom": dicom,
}
