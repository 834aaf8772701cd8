// A plane that is looked at: its middle, the directions of the screen in it, and how much of it is shown.
import { add, cross, dot, minus, scaled, turned, unit } from "./vectors.js";

export const LEAST_MM = 0.01;
export const MOST_MM = 2000;

/** A plane; `extent` is the length in mm along the shorter side of the screen. */
export const plane = (centre, right, down, extent) => ({ centre, right: unit(right), down: unit(down), extent });

export const normal = (p) => cross(p.right, p.down);

/** Millimetres a pixel on a screen of this size. */
export const spacingOn = (p, width, height) => p.extent / Math.max(1, Math.min(width, height));

/** The place under a pixel. */
export function placeAt(p, x, y, width, height) {
  const s = spacingOn(p, width, height);
  return add(p.centre, add(scaled(p.right, (x - width / 2) * s), scaled(p.down, (y - height / 2) * s)));
}

/** The pixel over a place, and its distance in front of the plane in mm. */
export function pixelOf(p, place, width, height) {
  const s = spacingOn(p, width, height), away = minus(place, p.centre);
  return [dot(away, p.right) / s + width / 2, dot(away, p.down) / s + height / 2, dot(away, normal(p))];
}

export const moved = (p, rightMm, downMm) => ({
  ...p, centre: add(p.centre, add(scaled(p.right, rightMm), scaled(p.down, downMm))),
});

export const along = (p, mm) => ({ ...p, centre: add(p.centre, scaled(normal(p), mm)) });

/** Zoomed by a factor so that `place` stays where it is on the screen. */
export function zoomed(p, factor, place = p.centre) {
  const extent = Math.min(MOST_MM, Math.max(LEAST_MM, p.extent / factor));
  const shift = 1 - extent / p.extent;
  const inPlane = minus(place, add(p.centre, scaled(normal(p), dot(minus(place, p.centre), normal(p)))));
  return { ...p, extent, centre: add(p.centre, scaled(inPlane, shift)) };
}

function about(p, axis, angle, pivot) {
  const centre = add(pivot, turned(minus(p.centre, pivot), axis, angle));
  const right = unit(turned(p.right, axis, angle));
  const down = turned(p.down, axis, angle);
  // Rounding must not add up over many small turns.
  return { ...p, centre, right, down: unit(minus(down, scaled(right, dot(right, down)))) };
}

/** Turned in its own plane, in radians; the picture turns clockwise. */
export const spun = (p, angle, pivot = p.centre) => about(p, normal(p), -angle, pivot);

/** Tilted about the directions of the screen through `pivot`, in radians. */
export function tilted(p, aboutDown, aboutRight, pivot = p.centre) {
  const first = about(p, p.down, aboutDown, pivot);
  return about(first, first.right, aboutRight, pivot);
}

/** Both ends of the line along which two planes meet, in pixels of the first; null if they do not. */
export function lineOf(p, other, width, height) {
  const n = normal(p), m = normal(other);
  const direction = cross(n, m);
  const size = dot(direction, direction);
  if (size < 1e-6) return null;
  const away = dot(minus(other.centre, p.centre), m);
  const point = add(p.centre, scaled(cross(direction, n), away / size));
  const far = scaled(direction, (4 * p.extent) / Math.sqrt(size));
  const reach = [minus(point, far), add(point, far)];
  return reach.map((place) => pixelOf(p, place, width, height).slice(0, 2));
}
