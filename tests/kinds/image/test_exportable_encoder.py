import json

import numpy as np
import pytest
import torch

import toys
from nisf.data.region import Region, reference_pose
from nisf.errors import CannotFitError
from nisf.kinds.image.exportable_encoder import exportable_encoder
from nisf.kinds.image.scenes import Scenes
from nisf.networks.canvas import canvases
from nisf.networks.image_field import ImageField
from nisf.networks.phase_exchange import most_different

onnx = pytest.importorskip("onnx", reason="needs nisf[export]: onnx and onnxruntime")
runtime = pytest.importorskip("onnxruntime", reason="needs nisf[export]: onnx and onnxruntime")


@pytest.mark.parametrize("exchanges", [0, 2])
def test_the_file_encodes_as_scenes_do(exchanges):
    from nisf.export.onnx_file import onnx_bytes

    torch.manual_seed(0)
    image = {"slice_exchange": exchanges, "phase_exchange": exchanges, "mirrors": 1}
    config = toys.settings(toys.IMAGE, image=image)
    field = ImageField(config.field, config.image).eval().requires_grad_(False)
    for part in [*field.encoder.exchange, *field.encoder.moments]:
        part.into.weight.normal_(std=0.3)
    case = toys.toy_case(0, toys.toy_grid(frames=4))
    region = Region(reference_pose(case, (0.0, 0.0, 0.0)), np.full(3, 50.0))
    seen = canvases(case, case.slices, region, config.image)
    made, away = onnx_bytes(exportable_encoder(field, mirrors=1), ("background",))
    assert away < 1e-4
    about = {entry.key: entry.value for entry in onnx.load_from_string(made).metadata_props}
    assert json.loads(about["nisf"])["pixels"] == config.image.pixels

    phases = [torch.from_numpy(seen.times == time) for time in np.unique(seen.times)]
    images = torch.stack([seen.images[index].float() for index in phases])
    inputs = {"images": images[1].numpy()}
    if exchanges:  # else slices see neither each other nor other phases
        inputs["maps"] = seen.maps[phases[1]].numpy()
        inputs["reference"] = images[list(most_different(images))].numpy()
    session = runtime.InferenceSession(made, providers=["CPUExecutionProvider"])
    features, latent = session.run(["features", "latent"], inputs)
    scene = Scenes(field, seen, mirrors=1).at(1)
    assert scene.features.std() > 0.1
    np.testing.assert_allclose(features, scene.features, atol=1e-4)
    np.testing.assert_allclose(latent, scene.latent, atol=1e-4)


def test_a_latent_prior_has_no_encoder(toy_prior):
    with pytest.raises(CannotFitError, match="no encoder"):
        toy_prior.exportable_encoder()
