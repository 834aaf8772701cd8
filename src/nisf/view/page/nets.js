// Surfaces by naive surface nets: one vertex in each cell that a surface passes, at the mean of its crossings
// (Gibson, "Constrained elastic surface nets", MICCAI 1998, without the relaxation).
import { mapped } from "./vectors.js";

/** By how much class `k` leads over all others at every voxel, with a border where it does not. */
function leads(volume, k) {
  const [nx, ny, nz] = volume.shape, n = nx * ny * nz, classes = volume.values.length / n;
  const size = [nx + 2, ny + 2, nz + 2], out = new Float32Array(size[0] * size[1] * size[2]).fill(-255);
  for (let z = 0, v = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      let o = ((z + 1) * size[1] + y + 1) * size[0] + 1;
      for (let x = 0; x < nx; x++, v++, o++) {
        let sum = 0, other = 0;
        const own = volume.values[(k - 1) * n + v];
        for (let c = 0; c < classes; c++) {
          const p = volume.values[c * n + v];
          sum += p;
          if (c !== k - 1 && p > other) other = p;
        }
        const lead = own - Math.max(other, 255 - sum);
        out[o] = lead === 0 ? -0.5 : lead;
      }
    }
  }
  return { values: out, size };
}

const CORNERS = Array.from({ length: 8 }, (_, c) => [c & 1, (c >> 1) & 1, (c >> 2) & 1]);
const EDGES = [];
for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) if (!(a & bit)) EDGES.push([a, a | bit]);

/** Vertices of all cells that the surface passes, and each cell's vertex. */
function vertices({ values, size }) {
  const [sx, sy, sz] = size, step = [1, sx, sx * sy];
  const index = new Int32Array(values.length).fill(-1), places = [];
  const offsets = CORNERS.map(([x, y, z]) => x + y * step[1] + z * step[2]);
  for (let z = 0; z + 1 < sz; z++) {
    for (let y = 0; y + 1 < sy; y++) {
      for (let x = 0, cell = (z * sy + y) * sx; x + 1 < sx; x++, cell++) {
        let inside = 0;
        for (let c = 0; c < 8; c++) inside |= (values[cell + offsets[c]] > 0) << c;
        if (inside === 0 || inside === 255) continue;
        const sum = [0, 0, 0];
        let count = 0;
        for (const [a, b] of EDGES) {
          if (((inside >> a) & 1) === ((inside >> b) & 1)) continue;
          const va = values[cell + offsets[a]], way = va / (va - values[cell + offsets[b]]);
          for (let d = 0; d < 3; d++) sum[d] += CORNERS[a][d] + way * (CORNERS[b][d] - CORNERS[a][d]);
          count += 1;
        }
        index[cell] = places.length / 3;
        // Voxels of the volume begin at 1: there is a border.
        places.push(x + sum[0] / count - 1, y + sum[1] / count - 1, z + sum[2] / count - 1);
      }
    }
  }
  return { index, places, step };
}

/** Two triangles for every edge of the lattice that crosses the surface, seen from outside. */
function triangles({ values, size }, { index, step }) {
  const out = [];
  for (let axis = 0; axis < 3; axis++) {
    const u = step[(axis + 1) % 3], v = step[(axis + 2) % 3];
    for (let n = u + v; n + step[axis] < values.length; n++) {
      const from = values[n] > 0;
      if (from === values[n + step[axis]] > 0) continue;
      const quad = [index[n], index[n - u], index[n - u - v], index[n - v]];
      if (quad.includes(-1)) continue;
      const [a, b, c, d] = from ? quad : quad.reverse();
      out.push(a, b, c, a, c, d);
    }
  }
  return out;
}

/** Unit normals, from the triangles around each vertex. */
function normals(places, corners) {
  const out = new Float32Array(places.length);
  for (let t = 0; t < corners.length; t += 3) {
    const [a, b, c] = [3 * corners[t], 3 * corners[t + 1], 3 * corners[t + 2]];
    const e = [0, 1, 2].map((d) => places[b + d] - places[a + d]);
    const f = [0, 1, 2].map((d) => places[c + d] - places[a + d]);
    const n = [e[1] * f[2] - e[2] * f[1], e[2] * f[0] - e[0] * f[2], e[0] * f[1] - e[1] * f[0]];
    for (const corner of [a, b, c]) for (let d = 0; d < 3; d++) out[corner + d] += n[d];
  }
  for (let v = 0; v < out.length; v += 3) {
    const length = Math.hypot(out[v], out[v + 1], out[v + 2]) || 1;
    for (let d = 0; d < 3; d++) out[v + d] /= length;
  }
  return out;
}

/**
 * The surface of one class: world mm of its vertices, unit normals that point outwards, triangles.
 * @param volume shape, affine, and probabilities of the structures (uint8, first axis fastest).
 */
export function surface(volume, k) {
  const field = leads(volume, k), found = vertices(field);
  const corners = triangles(field, found), m = volume.affine;
  const places = new Float32Array(found.places.length);
  for (let v = 0; v < places.length; v += 3) places.set(mapped(m, found.places.slice(v, v + 3)), v);
  const volumeOf = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
    + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  if (volumeOf < 0) for (let t = 0; t < corners.length; t += 3) [corners[t], corners[t + 1]] = [corners[t + 1], corners[t]];
  return { places, normals: normals(places, corners), corners: new Uint32Array(corners) };
}
