// Contours of classes by marching squares, between pixels: where a class is as probable as the next one.

/** By how much class `k` is more probable than every other, at pixel `n`. */
function lead(probability, k, n) {
  let other = 0;
  for (let c = 0; c < probability.length; c++) {
    if (c !== k && probability[c][n] > other) other = probability[c][n];
  }
  // Never zero, so that every corner is on one side.
  return probability[k][n] - other + (probability[k][n] > other ? 0.5 : -0.5);
}

const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0]];

/**
 * Line segments [x, y, x, y] of the contour of one class, in pixels from the middle of the first.
 * @param sheet an answer: label, probability, width, height.
 */
export function segments(sheet, k) {
  const { width, height, label, probability } = sheet, out = [];
  for (let j = 0; j + 1 < height; j++) {
    for (let i = 0; i + 1 < width; i++) {
      const n = j * width + i;
      const corners = [n, n + 1, n + width + 1, n + width];
      const count = corners.reduce((sum, c) => sum + (label[c] === k), 0);
      if (count === 0 || count === 4) continue;
      const value = corners.map((c) => lead(probability, k, c));
      const places = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], crossings = [];
      for (const [a, b] of EDGES) {
        if (value[a] > 0 === value[b] > 0) continue;
        const way = value[a] / (value[a] - value[b]);
        crossings.push(places[a].map((x, d) => x + way * (places[b][d] - x)));
      }
      for (let c = 0; c + 1 < crossings.length; c += 2) out.push([...crossings[c], ...crossings[c + 1]]);
    }
  }
  return out;
}

/** The contours of all classes that are not hidden, as paths by class. */
export function paths(sheet, hidden) {
  const out = new Map();
  for (let k = 1; k < sheet.probability.length; k++) {
    if (hidden.includes(k)) continue;
    const path = new Path2D();
    for (const [x, y, v, w] of segments(sheet, k)) {
      path.moveTo(x, y);
      path.lineTo(v, w);
    }
    out.set(k, path);
  }
  return out;
}
