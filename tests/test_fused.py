import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nisf import fused as module
from nisf.config import FieldConfig
from nisf.field import Field
from nisf.fused import fused

SMALL = {"width": 16, "latent": 16, "layers": 3, "gabor_omega": 3.0, "gabor_sigma": 3.0}


def test_without_triton_the_field_itself(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    field, said = Field(FieldConfig(**SMALL)), []
    assert fused(field, said.append) is field
    assert said == ["the fused kernel is not used: Triton is not installed (pip install 'nisf[gpu]')"]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({}, None),
        ({"activation": "gabor+sine"}, "alternate between two activations"),
        ({"backbone": "separate"}, "a network each"),
        ({"width": 24}, "the width is 24"),
        ({"width": 8}, "the width is 8"),
    ],
)
def test_networks_that_can_be_fused(monkeypatch, sizes, reason):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = module.why_not(Field(FieldConfig(**{**SMALL, **sizes})))
    assert found is None if reason is None else reason in str(found)


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert module.why_not(Field(FieldConfig(**SMALL))) == "there is no GPU"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert module.why_not(Field(FieldConfig(**SMALL))) is None


CASES = [
    {"sizes": SMALL, "points": 37, "subjects": 2, "products": "fp32", "freeze": False},
    {"sizes": SMALL, "points": 5, "subjects": 1, "products": "fp32", "freeze": True},
    {"sizes": {**SMALL, "activation": "sine", "cyclic_time": True, "sine_omega": 5.0, "latent": 9},
     "points": 20, "subjects": 3, "products": "fp32", "freeze": False},
    {"sizes": {**SMALL, "activation": "relu", "dimensions": 3, "channels": 2, "classes": 17, "layers": 2},
     "points": 16, "subjects": 1, "products": "fp32", "freeze": False},
    {"sizes": {**SMALL, "layers": 1}, "points": 16, "subjects": 2, "products": "fp32", "freeze": False},
    {"sizes": SMALL, "points": 33, "subjects": 1, "products": "bf16", "freeze": False},
]  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_in_the_interpreter():
    """Logits and every gradient as of the plain field in fp64, to about its rounding in fp32."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fused_check.py")), json.dumps(CASES)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for case, errors in zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        limit = 0.1 if case["products"] == "bf16" else max(1e-5, 10 * errors["plain"])
        assert errors["fused"] < limit, (case, errors)
