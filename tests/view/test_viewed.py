import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from nisf.data.geometry import Affine
from nisf.errors import CannotFitError
from nisf.view.background import Background
from nisf.view.measured import description, measured_frame
from nisf.view.packets import Packet
from nisf.view.questions import PlaneQuestion
from nisf.view.static import static_page
from nisf.view.viewed import Viewed
from nisf.view.worker import Step


def question(**changes):
    data = {
        "view": "a",
        "centre": [1, 2, 3],
        "right": [1, 0, 0],
        "down": [0, 0.6, 0.8],
        "spacing": 0.3,
        "width": 120,
        "height": 90,
        "time": 0.0,
    }
    return PlaneQuestion.read({**data, **changes})


def answered(viewed, asked):
    """The last packet of a plane, islands known beforehand."""
    for _ in viewed.background.work():
        pass
    return [answer for answer in viewed.plane(asked) if isinstance(answer, Packet)][-1]


def test_planes_are_those_that_render_gives(toy_seen):
    viewed, asked = Viewed(*toy_seen), question()
    packet = answered(viewed, asked)
    assert packet.header["final"]
    width, height, n = 120, 90, 120 * 90
    truth = toy_seen[0].render(asked.grid(), probabilities=True)
    label = np.frombuffer(packet.payload, np.uint8, n, 2 * n).reshape(height, width)
    assert (label == truth.label[:, :, 0, 0].T).mean() > 0.999
    scale = toy_seen[0].stacks[0].normalise(truth.image[:, :, 0, 0])[..., 0].T
    intensity = np.frombuffer(packet.payload, "<u2", n).reshape(height, width) / 65535
    assert np.abs(intensity - scale).max() < 0.05
    assert np.abs(intensity - scale).mean() < 2e-3
    for k in range(3):
        plane = np.frombuffer(packet.payload, np.uint8, n, (3 + k) * n).reshape(height, width) / 255
        assert np.abs(plane - truth.probability[:, :, 0, 0, k].T).mean() < 0.01


def test_a_plane_waits_for_the_islands_and_is_then_final(toy_seen):
    viewed = Viewed(*toy_seen)
    work, seen = viewed.plane(question()), []
    for answer in work:
        if answer is Step.WAITS:
            break
        if isinstance(answer, Packet):
            seen.append(answer.header)
    assert [(header["level"], header["final"]) for header in seen] == [("coarse", False), ("sharp", False)]
    for _ in viewed.background.work():
        pass
    rest = [answer for answer in work if isinstance(answer, Packet)]
    assert [(packet.header["level"], packet.header["final"]) for packet in rest] == [("sharp", True)]


def test_volumes_are_those_of_a_segmentation(toy_seen):
    subject = toy_seen[0]
    background = Background(subject, subject.raw_answers)
    for _ in background.work():
        pass
    label = subject.render().label
    curves = background.curves()
    assert curves["complete"]
    for t, volumes in enumerate(curves["volumes"]):
        wanted = np.bincount(label[..., t].ravel(), minlength=3)[1:] * subject.stacks[0].grid.voxel_ml
        assert np.allclose(volumes, wanted, atol=1e-3)


def test_planes_do_not_wait_for_islands_that_cannot_be_found(toy_seen, monkeypatch):
    viewed, asked = Viewed(*toy_seen), question()
    plane = viewed.plane(asked)
    while next(plane) is not Step.WAITS:
        pass

    def fails(*_, **__):
        raise CannotFitError("an answer needs 5 GB")

    monkeypatch.setattr(
        viewed.background, "answers", SimpleNamespace(channels=1, classes=3, fill_slice=fails)
    )
    for _ in viewed.work_ahead():
        pass
    (last,) = [answer for answer in plane if isinstance(answer, Packet)]
    assert last.header["final"]
    assert viewed.background.curves()["complete"]
    header = viewed.findings.header()
    assert header["complete"]
    assert header["notes"] == ["Volumes and islands could not be found: an answer needs 5 GB"]
    # A file that is kept has them or is not written.
    with pytest.raises(CannotFitError, match="5 GB"):
        static_page(viewed)


def test_a_volume_for_surfaces_holds_the_structures(toy_seen):
    (packet,) = [p for p in Viewed(*toy_seen).volume(0.0) if isinstance(p, Packet)]
    shape = packet.header["shape"]
    values = np.frombuffer(packet.payload, np.uint8).reshape(2, *shape[::-1])
    spacing = Affine(np.array(packet.header["affine"])).spacing
    ml = (values.sum(0) > 128).sum() * spacing.prod() / 1000
    label = toy_seen[0].render(toy_seen[0].stacks[0].grid.at_times([0.0])).label
    assert abs(ml / ((label > 0).sum() * toy_seen[0].stacks[0].grid.voxel_ml) - 1) < 0.15


def test_measured_pixels_are_those_of_the_case(toy_seen):
    viewed = Viewed(*toy_seen)
    packet = measured_frame(viewed, 0, 1)
    nx, ny, nz = packet.header["shape"]
    values = np.frombuffer(packet.payload, "<u2").reshape(nz, ny, nx)
    item = next(s for s in toy_seen[1].slices if s.position == 2 and s.frame == 1)
    wanted = toy_seen[1].stacks[0].normalise(item.image)[..., 0].T
    assert np.abs(values[2] / 65535 - wanted).max() < 1e-4


def test_a_packet_tells_its_lengths():
    encoded = Packet({"a": 1}, b"xyz").encoded()
    header, payload = struct.unpack("<II", encoded[:8])
    assert header % 4 == 0
    assert json.loads(encoded[8 : 8 + header]) == {"a": 1}
    assert encoded[8 + header :] == b"xyz"
    assert payload == 3


def test_a_description_is_json_without_paths(toy_seen):
    text = json.dumps(description(Viewed(*toy_seen)), allow_nan=False)
    assert "/" not in text
