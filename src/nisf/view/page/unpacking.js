// Arrays out of the file's data: deflated, one after the other.

const TYPES = { float32: Float32Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };

/** One array of the table, inflated. */
export async function unpacked(data, entry) {
  const part = data.subarray(entry.at, entry.at + entry.bytes);
  const stream = new Blob([part]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return { shape: entry.shape, values: new TYPES[entry.type](buffer) };
}

/** Quantised features of a slice (channels, rows, columns; differences along rows) as float32, channel last. */
export function features({ shape, values }, { low, width }) {
  const [f, rows, columns] = shape, out = new Float32Array(rows * columns * f), mask = values.BYTES_PER_ELEMENT === 1 ? 0xff : 0xffff;
  for (let c = 0, n = 0; c < f; c++) {
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let j = 0; j < columns; j++, n++) {
        sum = (sum + values[n]) & mask;
        out[(i * columns + j) * f + c] = low[c] + sum * width[c];
      }
    }
  }
  return { values: out, rows, columns };
}
