// Vectors of three numbers and affine maps (rows of 4 x 4 matrices), world millimetres throughout.

export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scaled = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
];
export const norm = (a) => Math.hypot(a[0], a[1], a[2]);
export const unit = (a) => scaled(a, 1 / (norm(a) || 1));

/** A vector turned about a unit axis by an angle in radians (Rodrigues' formula). */
export function turned(vector, axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  const along = scaled(axis, dot(axis, vector) * (1 - c));
  return add(add(scaled(vector, c), scaled(cross(axis, vector), s)), along);
}

/** An affine map applied to a place. */
export const mapped = (m, p) => [0, 1, 2].map((i) => m[i][0] * p[0] + m[i][1] * p[1] + m[i][2] * p[2] + m[i][3]);

/** The linear part of an affine map applied to a direction. */
export const mappedDirection = (m, p) => [0, 1, 2].map((i) => m[i][0] * p[0] + m[i][1] * p[1] + m[i][2] * p[2]);

/** The inverse of an affine map. */
export function inverse(m) {
  const column = (j) => [m[0][j], m[1][j], m[2][j]];
  const [a, b, c] = [column(0), column(1), column(2)];
  const volume = dot(a, cross(b, c));
  const rows = [cross(b, c), cross(c, a), cross(a, b)].map((row) => scaled(row, 1 / volume));
  const origin = column(3);
  return [...rows.map((row) => [...row, -dot(row, origin)]), [0, 0, 0, 1]];
}

/** The directions of a map's columns, of unit length, and their lengths. */
export function columns(m) {
  const all = [0, 1, 2].map((j) => [m[0][j], m[1][j], m[2][j]]);
  return { axes: all.map(unit), spacing: all.map(norm) };
}
