// Arrays out of the file's data: deflated, one after the other.

const TYPES = { float32: Float32Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };

/** One array of the table, inflated. */
export async function unpacked(data, entry) {
  const part = data.subarray(entry.at, entry.at + entry.bytes);
  const stream = new Blob([part]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return { shape: entry.shape, values: new TYPES[entry.type](buffer) };
}

/** Whole numbers of a slice (channels, rows, columns) from differences along rows, and from the phase before if it follows one. */
export function whole({ shape, values }, before) {
  const columns = shape[2];
  for (let first = 0; first < values.length; first += columns) {
    for (let n = first + 1; n < first + columns; n++) values[n] += values[n - 1];
  }
  if (before) for (let n = 0; n < values.length; n++) values[n] += before.values[n];
  return { shape, values };
}

/** Whole numbers as features: float32, channel last. */
export function features({ shape, values }, { low, width }) {
  const [f, rows, columns] = shape, out = new Float32Array(rows * columns * f);
  for (let c = 0, n = 0; c < f; c++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++, n++) out[(i * columns + j) * f + c] = low[c] + values[n] * width[c];
    }
  }
  return { values: out, rows, columns };
}
