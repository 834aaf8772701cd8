// A plane from few questions, much as nisf.view.refinement does it: a coarse lattice, a finer one, and every pixel
// where classes meet, the choice is close or intensities are steep.

const LATTICE_MM = 0.7, COARSEST = 8, FIRST = 4, CLOSE = 0.35, STEEP = 0.06;

export function latticeStep(spacing) {
  let step = 1;
  while (step < COARSEST && 2 * step * spacing <= LATTICE_MM) step *= 2;
  return step;
}

const placesOf = (n, step) => Math.max(2, Math.ceil((n - 1) / step) + 1);

function latticeOf(width, height, step) {
  const w = placesOf(width, step), h = placesOf(height, step), pixels = new Float32Array(2 * w * h);
  for (let j = 0, n = 0; j < h; j++) for (let i = 0; i < w; i++, n++) pixels.set([i * step, j * step], 2 * n);
  return { w, h, pixels };
}

/** Cells of a lattice whose answers say too little of what lies between (uint8, row by row). */
function undecided(values, w, h, m, channels) {
  const label = new Uint8Array(w * h), close = new Uint8Array(w * h), out = new Uint8Array((w - 1) * (h - 1));
  for (let n = 0; n < w * h; n++) {
    let best = -1, next = -1;
    for (let c = channels; c < m; c++) {
      const p = values[n * m + c];
      if (p > best) { next = best; best = p; label[n] = c - channels; } else if (p > next) next = p;
    }
    close[n] = best - next < CLOSE ? 1 : 0;
  }
  for (let j = 0, cell = 0; j + 1 < h; j++) {
    for (let i = 0; i + 1 < w; i++, cell++) {
      const corners = [j * w + i, j * w + i + 1, (j + 1) * w + i, (j + 1) * w + i + 1];
      const grey = corners.map((n) => values[n * m]);
      out[cell] = corners.some((n) => close[n] || label[n] !== label[corners[0]])
        || Math.max(...grey) - Math.min(...grey) > STEEP ? 1 : 0;
    }
  }
  return out;
}

/**
 * Sheets of answers: `onSheet({values, width, height, step, sharp})`.
 * @param ask gives, for pixels (columns and rows in turn), m numbers each; a promise.
 */
export async function refined(ask, width, height, step, channels, onSheet) {
  const wide = latticeOf(width, height, step * FIRST), coarse = await ask(wide.pixels), m = coarse.length / (wide.w * wide.h);
  onSheet({ values: coarse, width: wide.w, height: wide.h, step: step * FIRST, sharp: false });
  const { w, h, pixels } = latticeOf(width, height, step), fine = await ask(pixels);
  if (step === 1) {
    onSheet({ values: cropped(fine, w, width, height, m), width, height, step: 1, sharp: true });
    return;
  }
  const cells = undecided(fine, w, h, m, channels), out = new Float32Array(width * height * m), open = [];
  for (let y = 0, n = 0; y < height; y++) {
    const j = Math.min(h - 2, Math.floor(y / step)), b = y / step - j;
    for (let x = 0; x < width; x++, n++) {
      const i = Math.min(w - 2, Math.floor(x / step)), a = x / step - i, corner = (j * w + i) * m;
      for (let c = 0; c < m; c++) {
        const top = fine[corner + c] * (1 - a) + fine[corner + m + c] * a;
        const below = fine[corner + w * m + c] * (1 - a) + fine[corner + w * m + m + c] * a;
        out[n * m + c] = top * (1 - b) + below * b;
      }
      if (cells[j * (w - 1) + i] && (x % step || y % step)) open.push(n);
    }
  }
  const left = new Float32Array(2 * open.length);
  open.forEach((n, k) => left.set([n % width, Math.floor(n / width)], 2 * k));
  const exact = await ask(left);
  open.forEach((n, k) => out.set(exact.subarray(k * m, (k + 1) * m), n * m));
  onSheet({ values: out, width, height, step: 1, sharp: true });
}

function cropped(values, w, width, height, m) {
  if (w === width) return values.subarray(0, width * height * m);
  const out = new Float32Array(width * height * m);
  for (let j = 0; j < height; j++) out.set(values.subarray(j * w * m, (j * w + width) * m), j * width * m);
  return out;
}
