// An animated GIF of a few pictures: one palette for all, LZW.

const GREYS = 64, COLOURS = 256;

/** 64 greys, and the colours that are most frequent among 32768. */
function paletteOf(pictures) {
  const counts = new Uint32Array(32768);
  for (const { data } of pictures) {
    for (let o = 0; o < data.length; o += 4) {
      const [r, g, b] = [data[o], data[o + 1], data[o + 2]];
      if (Math.max(r, g, b) - Math.min(r, g, b) > 8) counts[((r >> 3) << 10) | ((g >> 3) << 5) | (b >> 3)]++;
    }
  }
  const wide = (five) => Math.round((five * 255) / 31);
  const frequent = [...counts.keys()].filter((k) => counts[k]).sort((a, b) => counts[b] - counts[a]).slice(0, COLOURS - GREYS);
  const out = new Uint8Array(3 * COLOURS);
  for (let k = 0; k < GREYS; k++) out.fill(Math.round((k * 255) / (GREYS - 1)), 3 * k, 3 * k + 3);
  frequent.forEach((key, k) => out.set([wide(key >> 10), wide((key >> 5) & 31), wide(key & 31)], 3 * (GREYS + k)));
  return { colours: out, count: GREYS + frequent.length };
}

/** The palette's nearest colour of every pixel; each of 262144 colours is looked for once. */
function indexed({ data }, { colours, count }, known) {
  const out = new Uint8Array(data.length / 4);
  for (let n = 0, o = 0; n < out.length; n++, o += 4) {
    const key = ((data[o] >> 2) << 12) | ((data[o + 1] >> 2) << 6) | (data[o + 2] >> 2);
    if (known[key] < 0) {
      let best = Infinity;
      for (let k = 0; k < count; k++) {
        const away = (colours[3 * k] - data[o]) ** 2 + (colours[3 * k + 1] - data[o + 1]) ** 2 + (colours[3 * k + 2] - data[o + 2]) ** 2;
        if (away < best) { best = away; known[key] = k; }
      }
    }
    out[n] = known[key];
  }
  return out;
}

/** LZW with codes of 9 to 12 bits, in blocks of 255 bytes. */
function packed(indices) {
  const bytes = [];
  let size = 9, next = 258, bits = 0, count = 0, table = new Map(), prefix = indices[0];
  const emit = (code) => {
    bits |= code << count;
    for (count += size; count >= 8; count -= 8, bits >>>= 8) bytes.push(bits & 255);
  };
  emit(256);
  for (let n = 1; n < indices.length; n++) {
    const key = prefix * 256 + indices[n], code = table.get(key);
    if (code !== undefined) { prefix = code; continue; }
    emit(prefix);
    if (next < 4096) {
      if (next === 1 << size) size++;
      table.set(key, next++);
    } else {
      emit(256);
      [table, size, next] = [new Map(), 9, 258];
    }
    prefix = indices[n];
  }
  emit(prefix);
  if (next === 1 << size && size < 12) size++;
  emit(257);
  if (count) bytes.push(bits & 255);
  const out = [8];
  for (let first = 0; first < bytes.length; first += 255) {
    const block = bytes.slice(first, first + 255);
    out.push(block.length, ...block);
  }
  out.push(0);
  return Uint8Array.from(out);
}

const word = (n) => [n & 255, n >> 8];

/** Pictures (ImageData of one size) as a GIF that runs for ever; `ms` between two. */
export function gif(pictures, ms) {
  const { width, height } = pictures[0], palette = paletteOf(pictures), known = new Int16Array(262144).fill(-1);
  const letters = (text) => [...text].map((c) => c.charCodeAt(0));
  const parts = [
    Uint8Array.from([...letters("GIF89a"), ...word(width), ...word(height), 0xf7, 0, 0]), palette.colours,
    Uint8Array.from([0x21, 0xff, 11, ...letters("NETSCAPE2.0"), 3, 1, 0, 0, 0]),
  ];
  for (const picture of pictures) {
    parts.push(
      Uint8Array.from([0x21, 0xf9, 4, 4, ...word(Math.max(2, Math.round(ms / 10))), 0, 0, 0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0]),
      packed(indexed(picture, palette, known)));
  }
  parts.push(Uint8Array.of(0x3b));
  return parts;
}
