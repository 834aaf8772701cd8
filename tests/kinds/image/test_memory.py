from dataclasses import replace

import pytest

import toys
from nisf.errors import CannotFitError
from nisf.prior.fit import fit


def test_slices_that_do_not_fit_into_memory_are_refused_before_they_are_encoded(toy_image_prior, monkeypatch):
    case = toys.toy_case(3)
    monkeypatch.setattr("nisf.device.available_bytes", lambda: 10_000)
    with pytest.raises(CannotFitError, match=r"toy3: encoding 6 slices together needs about 1\.5 MB"):
        fit(case, toy_image_prior)
    monkeypatch.setattr("nisf.device.available_bytes", lambda: 10**9)
    few = replace(case, slices=case.slices[:6])
    assert fit(few, toy_image_prior).canvases.images.shape[0] == 6
