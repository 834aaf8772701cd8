// From answers to colours: which layer is drawn over which, pixel by pixel.
import { gridOf, insideRegion, sampled } from "./measured.js";

export const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** Dark blue over green to yellow: rises in brightness, safe for the colour-blind (after viridis). */
const RAMP = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"].map(rgb);

export function ramp(share) {
  const place = Math.min(1, Math.max(0, share)) * (RAMP.length - 1), k = Math.min(RAMP.length - 2, Math.floor(place));
  return [0, 1, 2].map((i) => RAMP[k][i] + (place - k) * (RAMP[k + 1][i] - RAMP[k][i]));
}

const MORE = rgb("#e69f00"), LESS = rgb("#56b4e9");
const HATCH = rgb("#96a5b4"), NIGHT = rgb("#0b0d10");
const DIM = 0.5;

/** Greys of the base layer, in place; returns what the other layers need to know. */
function paintBase(out, sheet, state, inside, measured) {
  const { low, high, base, around } = state, gain = 255 / Math.max(1e-6, high - low) / 65535;
  const offset = (low * 255) / Math.max(1e-6, high - low);
  const there = measured ? measured.there : null;
  for (let n = 0, o = 0; n < inside.length; n++, o += 4) {
    let grey = -1;
    if (base === "field" && inside[n]) grey = sheet.intensity[n] * gain - offset;
    else if (base === "measured" && there && there[n]) grey = measured.value[n] * gain - offset;
    else if (base === "field" && around && there && there[n]) {
      grey = Math.max(0, measured.value[n] * gain - offset) * DIM;
    } else if (base === "difference" && inside[n] && there && there[n]) {
      const away = (sheet.intensity[n] - measured.value[n]) / 65535, colour = away > 0 ? MORE : LESS;
      const size = Math.min(1, Math.abs(away) * 3);
      for (let i = 0; i < 3; i++) out[o + i] = colour[i] * size;
      out[o + 3] = 255;
      continue;
    }
    const shown = grey > 0 ? grey : 0;
    out[o] = out[o + 1] = out[o + 2] = shown > 255 ? 255 : shown;
    // Where there is nothing to show the plane is clear, in 3D too.
    out[o + 3] = inside[n] || (there && there[n]) ? 255 : 0;
  }
}

function mix(out, o, colour, alpha) {
  for (let i = 0; i < 3; i++) out[o + i] += (colour[i] - out[o + i]) * alpha;
}

function paintClasses(out, sheet, state, colours) {
  const hidden = new Set(state.hidden);
  for (let n = 0, o = 0; n < sheet.label.length; n++, o += 4) {
    const k = sheet.label[n];
    if (k && !hidden.has(k)) mix(out, o, colours[k], state.opacity);
  }
}

function paintProbability(out, plane) {
  const table = Array.from({ length: 256 }, (_, v) => ramp(v / 255));
  for (let n = 0, o = 0; n < plane.length; n++, o += 4) {
    if (plane[n] > 4) mix(out, o, table[plane[n]], 0.25 + (0.6 * plane[n]) / 255);
  }
}

/** The spread over draws: from 0 to 0.5 along the same ramp, on a coarser lattice, interpolated linearly. */
export function paintSpread(out, sheet, spread) {
  const table = Array.from({ length: 256 }, (_, v) => ramp(v / 255)), { width, height, deviation } = spread;
  const pace = sheet.step / spread.step;
  for (let j = 0, n = 0; j < sheet.height; j++) {
    const y = Math.min(height - 1, j * pace), y0 = Math.min(Math.max(0, height - 2), Math.floor(y)), b = y - y0, below = height > 1 ? width : 0;
    for (let i = 0; i < sheet.width; i++, n++) {
      const x = Math.min(width - 1, i * pace), x0 = Math.min(Math.max(0, width - 2), Math.floor(x)), a = x - x0, right = width > 1 ? 1 : 0;
      const c = y0 * width + x0;
      const v = (1 - b) * ((1 - a) * deviation[c] + a * deviation[c + right])
        + b * ((1 - a) * deviation[c + below] + a * deviation[c + below + right]);
      if (v > 4) mix(out, 4 * n, table[Math.min(255, Math.round(v))], Math.min(0.9, 0.2 + v / 160));
    }
  }
}

/** Hatches what lies in the region but in no measured slice; a coarse sheet has no room for lines. */
function paintUnmeasured(out, sheet, inside, there) {
  const { width, step } = sheet;
  for (let n = 0, o = 0; n < inside.length; n++, o += 4) {
    if (there[n] || !inside[n]) continue;
    const line = step > 1 ? 0.25 : ((n % width) + Math.floor(n / width)) % 9 < 1 ? 1 : 0;
    mix(out, o, NIGHT, 0.4);
    mix(out, o, HATCH, 0.35 * line);
  }
}

/** A sheet of answers as an ImageData of its own size. */
export function composed(question, sheet, state, info, found, spread) {
  const grid = gridOf(question, sheet);
  const inside = insideRegion(info.region, grid);
  const measured = found ? sampled(found, grid) : null;
  const image = new ImageData(sheet.width, sheet.height), out = image.data;
  paintBase(out, sheet, state, inside, measured);
  if (state.probability > 0 && state.probability < info.labels.length) {
    paintProbability(out, sheet.probability[state.probability]);
  }
  if (state.spread && spread) paintSpread(out, sheet, spread);
  if (state.classes === "fill") paintClasses(out, sheet, state, info.colours.map(rgb));
  if (state.unmeasured && measured && state.base !== "measured") {
    paintUnmeasured(out, sheet, inside, measured.there);
  }
  return image;
}
