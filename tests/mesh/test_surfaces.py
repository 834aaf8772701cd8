"""Level sets of known functions: ellipsoids, cut ends, noise; and what makes a mesh sound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nisf.data.geometry import Affine
from nisf.mesh.crossings import crossing_triangles
from nisf.mesh.extraction import largest_part, level_set
from nisf.mesh.margin import margin_of
from nisf.mesh.surface import Surface
from toys import rotation

pytest.importorskip("skimage")


def grid_of(half, spacing, seed=None, mirror=False):
    """Affine and places of a grid whose outermost points are beyond ``half`` mm, turned by a seed."""
    shape = np.floor(2 * np.asarray(half) / spacing).astype(int) + 2
    axes = np.eye(3) if seed is None else rotation(seed)
    axes = axes * np.array([-1.0 if mirror else 1.0, 1.0, 1.0])
    affine = Affine.from_axes(axes, [spacing] * 3, axes @ (-(shape - 1) / 2 * spacing) + [100, -50, 20])
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return affine, affine(index), axes


def ellipsoid(radii, axes=None):
    """A function that is positive inside an ellipsoid at (100, -50, 20), never 0; far from linear."""
    axes = np.eye(3) if axes is None else axes

    def level(places):
        local = (places - [100, -50, 20]) @ axes
        value = 1 - ((local / radii) ** 2).sum(-1)
        return np.where(value == 0, -1e-9, np.sign(value) * np.abs(value) ** 3)

    return level


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("seed", [None, 3])
def test_volume_and_area_of_an_ellipsoid(seed, mirror):
    radii = np.array([20.0, 20.0, 35.0])
    affine, places, axes = grid_of(radii + 3, 2.0, seed, mirror)
    level = ellipsoid(radii, axes)
    surface = level_set("egg", level(places), affine, level)
    assert surface.watertight
    assert not len(crossing_triangles(surface))
    assert surface.volume_ml == pytest.approx(4 / 3 * np.pi * radii.prod() / 1000, rel=5e-3)
    # Prolate spheroid: 2 pi a^2 (1 + c / (a e) asin e).
    e = np.sqrt(1 - (20 / 35) ** 2)
    area = 2 * np.pi * 20**2 * (1 + 35 / (20 * e) * np.arcsin(e)) / 100
    assert surface.area_cm2 == pytest.approx(area, rel=4e-3)
    local = (surface.vertices - [100, -50, 20]) @ axes
    distance = np.linalg.norm(local / radii, axis=1) - 1
    # On the level set itself, but for vertices kept off the ends of their edges.
    assert np.abs(distance).max() * 20 < 0.04
    outwards = local / radii**2 / np.linalg.norm(local / radii**2, axis=1, keepdims=True)
    assert ((surface.normals @ axes) * outwards).sum(1).min() > 0.97


def test_a_jump_is_met_too():
    """At the end of a stack the answer jumps to background: the surface is closed there, and flat."""
    radii = np.array([20.0, 20.0, 20.0])
    affine, places, _ = grid_of(radii + 3, 2.0)
    whole = ellipsoid(radii)

    def level(p):
        return np.where(p[..., 2] > 20 + 7.3, -13.8, whole(p))

    surface = level_set("cut", level(places), affine, level)
    assert surface.watertight
    top = surface.vertices[:, 2] > 20 + 7.3 - 0.06
    assert surface.vertices[:, 2].max() < 20 + 7.3 + 0.06
    assert top.sum() > 100
    h = 20 - 7.3
    truth = (4 / 3 * np.pi * 20**3 - np.pi * h**2 * (20 - h / 3)) / 1000
    assert surface.volume_ml == pytest.approx(truth, rel=0.01)


@given(st.integers(0, 10_000))
def test_noise_gives_sound_meshes(seed):
    """Ambiguous cells of all sorts: still watertight, and no triangle runs through another."""
    rng = np.random.default_rng(seed)
    values = np.full((7, 7, 7), -1.0)
    values[1:-1, 1:-1, 1:-1] = rng.normal(size=(5, 5, 5))
    affine = Affine(np.eye(4))

    jump = rng.uniform(0.01, 0.99, values.shape)

    def level(places):
        """It jumps somewhere on each edge."""
        low = np.floor(places).astype(int)
        high = np.ceil(places).astype(int)
        beyond = (places - low).max(1) > jump[tuple(low.T)]
        return np.where(beyond, values[tuple(high.T)], values[tuple(low.T)])

    surface = level_set("noise", values, affine, level)
    assert surface.watertight
    assert surface.volume_ml > 0
    assert not len(crossing_triangles(surface))


def test_largest_part_is_one_part():
    values = np.full((6, 6, 6), -2.0)
    values[1:4, 1:4, 1:4] = 1.0
    values[4, 4, 4] = 3.0
    kept = largest_part(values)
    assert kept[4, 4, 4] == -3.0
    assert (kept > 0).sum() == 27


def test_margin_changes_sign_where_the_label_changes():
    probability = np.random.default_rng(0).dirichlet([1, 1, 1, 1], size=500)
    label = probability.argmax(1)
    for classes in ((1,), (1, 2)):
        margin = margin_of(probability, classes)
        np.testing.assert_array_equal(margin > 0, np.isin(label, classes))
    assert (margin_of(np.array([[0.5, 0.5], [0.0, 1.0]]), (1,)) != 0).all()


def crossed_naively(surface):
    """Triangles that cross another, by solving each pair of an edge and a triangle."""
    found = set()
    for n, face in enumerate(surface.faces):
        a, b, c = surface.vertices[face]
        for m, other in enumerate(surface.faces):
            for i, j in ((0, 1), (1, 2), (2, 0)):
                p, q = surface.vertices[other[[i, j]]]
                if {other[i], other[j]} & set(face):
                    continue
                matrix = np.stack([p - q, b - a, c - a], axis=1)
                if abs(np.linalg.det(matrix)) < 1e-12:
                    continue
                t, u, v = np.linalg.solve(matrix, p - a)
                if 0 <= t <= 1 and u >= 0 and v >= 0 and u + v <= 1:
                    found |= {n, m}
    return sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_crossings_as_the_naive_way_finds_them(seed):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(16, 3))
    faces = np.array([rng.choice(16, 3, replace=False) for _ in range(14)])
    surface = Surface("soup", vertices, faces)
    assert crossing_triangles(surface).tolist() == crossed_naively(surface)
    assert len(crossed_naively(surface)) > 0


def test_what_is_not_watertight():
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    whole = Surface("tetrahedron", vertices, tetrahedron)
    assert whole.watertight
    assert whole.volume_ml == pytest.approx(1 / 6000)
    assert not Surface("open", vertices, tetrahedron[1:]).watertight
    turned = np.r_[tetrahedron[:3], tetrahedron[3:, ::-1]]
    assert not Surface("one triangle the other way round", vertices, turned).watertight
    np.testing.assert_allclose(whole.extent(), [1, 1, 1])
