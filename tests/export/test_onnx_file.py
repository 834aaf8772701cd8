import json

import numpy as np
import pytest
import torch

from nisf.cli import main
from nisf.correction.stroke import Stroke
from nisf.errors import CannotFitError
from nisf.export.onnx_file import onnx_bytes
from nisf.io.subject_file import write_subject
from nisf.prior.exportable import Exportable

onnx = pytest.importorskip("onnx", reason="needs nisf[export]: onnx and onnxruntime")
runtime = pytest.importorskip("onnxruntime", reason="needs nisf[export]: onnx and onnxruntime")


@pytest.fixture(scope="module")
def toy_image_fitted(toy_image_prior):
    import toys
    from nisf.prior.fit import fit

    return fit(toys.toy_case(99), toy_image_prior, find="whole")


def asked(made, **inputs):
    session = runtime.InferenceSession(made, providers=["CPUExecutionProvider"])
    arrays = {name: np.asarray(x, dtype=np.float32) for name, x in inputs.items()}
    return session.run(["intensity", "probability"], arrays)


def places(subject, count):
    """World mm in and a little around the region."""
    scaled = np.random.default_rng(0).uniform(-1.1, 1.1, (count, 3))
    return subject.region.pose.inverse(scaled * subject.region.half)


def test_a_latent_subject_answers_as_in_python(toy_fitted):
    made, away = onnx_bytes(toy_fitted.exportable(), toy_fitted.prior.anatomy.labels)
    assert away < 1e-4
    where, time = places(toy_fitted, 500), np.random.default_rng(1).uniform(-1, 2, 500)
    truth = toy_fitted.raw_answers.answer(where, time, memory_mb=64.0)
    intensity, probability = asked(made, position=where, time=time)
    assert 50 < (~truth.inside).sum() < 450
    assert np.abs(intensity - truth.intensity).max() < 1e-4
    assert np.abs(probability - truth.probability).max() < 1e-4


def test_corrections_are_exported(toy_fitted, toy_image_fitted):
    for subject in (toy_fitted, toy_image_fitted):
        grid = subject.stacks[0].grid
        x, y, z = (n // 2 for n in grid.shape)
        line = grid.affine(np.array([[x - 1, y, z], [x + 2, y, z]]))
        corrected = subject.corrected([Stroke(tuple(map(tuple, line.tolist())), 0.0, "muscle")])
        where, inputs = places(subject, 500), {}
        if subject is toy_fitted:
            inputs = {"time": np.zeros(500)}
        made, _ = onnx_bytes(corrected.exportable(0.0), subject.prior.anatomy.labels)
        _, probability = asked(made, position=where, **inputs)
        # The field follows the stroke; the paint on the stroke itself is not part of it.
        truth, before = (
            one.field_answers.answer(where, np.zeros(500), memory_mb=64.0).probability
            for one in (corrected, subject)
        )
        assert np.abs(truth - before).max() > 0.05
        assert np.abs(probability - truth).max() < 1e-4


def test_an_image_subject_answers_as_in_python_at_its_phase(toy_image_fitted):
    made, away = onnx_bytes(toy_image_fitted.exportable(0.45), toy_image_fitted.prior.anatomy.labels)
    assert away < 1e-4
    about = {entry.key: entry.value for entry in onnx.load_from_string(made).metadata_props}
    time = json.loads(about["nisf"])["time"]
    assert time == 0.5
    where = places(toy_image_fitted, 500)
    truth = toy_image_fitted.raw_answers.answer(where, np.full(500, time), memory_mb=64.0)
    intensity, probability = asked(made, position=where)
    assert 50 < (~truth.inside).sum() < 450
    assert np.abs(intensity - truth.intensity).max() < 1e-4
    assert np.abs(probability - truth.probability).max() < 1e-4


def test_priors_take_another_number_of_slices_and_places(toy_prior, toy_image_prior, toy_image_fitted):
    made, _ = onnx_bytes(toy_prior.exportable(), toy_prior.anatomy.labels)
    mean = toy_prior.latent_mean
    intensity, _ = asked(made, coordinates=np.zeros((9, toy_prior.config.field.dimensions)), latent=mean)
    assert intensity.shape == (9, 1)
    made, _ = onnx_bytes(toy_image_prior.exportable(), toy_image_prior.anatomy.labels)
    scene = toy_image_fitted.scenes.at(1)
    place = np.random.default_rng(0).uniform(-30, 30, (100, 3))
    found = asked(made, features=scene.features, maps=scene.maps, latent=scene.latent, place=place)
    wanted = toy_image_fitted.scenes.ask(place, np.full(100, 0.5))
    for ours, truth in zip(found, wanted, strict=True):
        assert np.abs(ours - truth).max() < 1e-4


def test_a_file_that_answers_nan_is_not_written():
    class Empty(torch.nn.Module):
        def forward(self, x):
            return x, torch.log(-x)

    exportable = Exportable(Empty(), {"x": torch.ones(3, 2)}, {"x": {0: "n"}}, {})
    with pytest.raises(CannotFitError, match="differ by nan"):
        onnx_bytes(exportable, ("background", "heart"))


def test_a_file_that_answers_otherwise_is_not_written():
    class Unsteady(torch.nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls, x

    exportable = Exportable(Unsteady(), {"x": torch.ones(3, 2)}, {"x": {0: "n"}}, {})
    with pytest.raises(CannotFitError, match=r"differ by 1\.0e\+00"):
        onnx_bytes(exportable, ("background",))


def test_the_command(toy_fitted, tmp_path, capsys):
    toy_fitted.prior.save(tmp_path / "prior")
    write_subject(tmp_path / "toy.nisf", toy_fitted)
    given = ["export", str(tmp_path / "toy.nisf"), "--prior", str(tmp_path / "prior")]
    assert main([*given, "-o", str(tmp_path / "toy.onnx")]) == 0
    assert "inputs position, time" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "prior"), "-o", str(tmp_path / "prior.onnx")]) == 0
    assert main([*given, "-o", str(tmp_path / "toy.pt")]) == 2
    assert "name the output .onnx" in capsys.readouterr().err
    (tmp_path / "mine.onnx").write_bytes(b"mine")
    assert main([*given, "-o", str(tmp_path / "mine.onnx")]) == 2
    assert (tmp_path / "mine.onnx").read_bytes() == b"mine"
