// Arrays out of the file's data: deflated, one after the other.

const TYPES = { float32: Float32Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int32: Int32Array };

/** One array of the table, inflated. */
export async function unpacked(data, entry) {
  const part = data.subarray(entry.at, entry.at + entry.bytes);
  const stream = new Blob([part]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return { shape: entry.shape, values: new TYPES[entry.type](buffer) };
}

/** What is left of the whole numbers of each slice's blocks: `{ h, w, values }`, axis by axis; see nisf.view.coding. */
function residuals(bytes, counts, sizes) {
  const total = sizes.reduce((sum, [h, w]) => sum + h * w, 0), out = sizes.map(([h, w]) => ({ h, w, values: new Int32Array(counts[0] * h * w) }));
  let at = 0;
  counts.forEach((count, plane) => {
    for (let d = 0; d < count; d++) {
      for (const { h, w, values } of out) {
        const n = h * w;
        for (let p = 0; p < n; p++) values[d * n + p] |= bytes[at + p] << (8 * plane);
        at += n;
      }
    }
  });
  if (at !== counts.reduce((sum, count) => sum + count * total, 0)) throw new Error("The file is damaged.");
  for (let d = 0; d < counts[0]; d++) {
    // As many bytes as the axis has are a signed number.
    const shift = 32 - 8 * counts.filter((count) => count > d).length;
    for (const { h, w, values } of out) for (let p = d * h * w; p < (d + 1) * h * w; p++) values[p] = (values[p] << shift) >> shift;
  }
  return out;
}

/**
 * Whole numbers of a phase: what is left of them, added to what neighbours predict.
 * @param entry, bytes of the phase; `taps` of the axes; `earlier` numbers of the phases before, the last one first.
 */
export function numbers(bytes, entry, taps, earlier, sizes, { spatial, before, unit }) {
  const out = residuals(bytes, entry.counts, sizes), count = taps.shape[1], half = unit / 2;
  out.forEach(({ h, w, values }, k) => {
    const n = h * w, ways = spatial.map(([up, left]) => [values, up, left]);
    for (let back = 0; back < entry.before; back++) for (const [up, left] of before[back]) ways.push([earlier[back][k].values, up, left]);
    for (let d = 0; d < entry.counts[0]; d++) {
      for (let i = 0; i < h; i++) {
        for (let j = 0; j < w; j++) {
          let sum = half;
          for (let t = 0; t < count; t++) {
            const [from, up, left] = ways[t], y = i - up, x = j - left;
            if (y >= 0 && y < h && x >= 0 && x < w) sum += taps.values[d * count + t] * from[d * n + y * w + x];
          }
          values[d * n + i * w + j] += Math.floor(sum / unit);
        }
      }
    }
  });
  return out;
}

/** Features of a slice, float32, channel last, from the whole numbers of its blocks. */
export function features({ h, w, values }, basis, middle, block) {
  const [axes, size] = basis.shape, f = size / block ** 2, rows = h * block, columns = w * block, n = h * w;
  const out = new Float32Array(rows * columns * f), own = new Float32Array(size), steps = basis.values;
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < w; j++) {
      own.set(middle.values);
      for (let d = 0; d < axes; d++) {
        const v = values[d * n + i * w + j];
        if (v !== 0) for (let c = 0, o = d * size; c < size; c++, o++) own[c] += v * steps[o];
      }
      for (let a = 0; a < block; a++) out.set(own.subarray(a * block * f, (a + 1) * block * f), ((i * block + a) * columns + j * block) * f);
    }
  }
  return { values: out, rows, columns };
}
