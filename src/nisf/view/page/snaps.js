// Planes with a name: the slices as they were measured, the anatomy's views, and those across the slices.
import { slicePlane } from "./measured.js";
import { plane } from "./planes.js";
import { add, cross, dot, inverse, mapped, minus, norm, scaled, unit } from "./vectors.js";

/** Directions of a slice as radiologists hang it: the patient's left, front or head where they expect them. */
function hung(right, down, oriented) {
  if (!oriented) return [right, down];
  const main = (v) => v.map(Math.abs).indexOf(Math.max(...v.map(Math.abs)));
  let [r, d] = [right, down];
  if (main(r) > main(d)) [r, d] = [d, r];
  const towards = (v) => (v[main(v)] > 0 ? scaled(v, -1) : v);
  return [towards(r), towards(d)];
}

/** The middle of the region, and how much of it fits a view. */
export function middleOf(info) {
  return { centre: mapped(inverse(info.region.pose), [0, 0, 0]), extent: 2.1 * Math.max(info.region.half[0], info.region.half[1]) };
}

/** The plane of a measured slice; by default the one nearest to a place. */
export function measuredPlane(info, stack, position, near, extent) {
  const found = slicePlane(stack, position ?? nearestSlice(stack, near));
  const [right, down] = hung(unit(found.right), unit(found.down), stack.oriented);
  const n = cross(right, down);
  // As much of the middle as lies in the slice.
  const centre = add(near, scaled(n, dot(minus(found.centre, near), n)));
  return plane(centre, right, down, extent);
}

export function nearestSlice(stack, place) {
  const k = mapped(inverse(stack.affine), place)[2];
  return Math.max(0, Math.min(stack.shape[2] - 1, Math.round(k)));
}

/** A plane across the slices: along their first or second axis. */
export function acrossPlane(info, stack, second, near, extent) {
  const own = measuredPlane(info, stack, null, near, extent);
  const n = cross(own.right, own.down);
  const [right, down] = hung(second ? own.down : own.right, n, stack.oriented);
  return plane(near, right, down, extent);
}

/** Names of the buttons of a view, and what they do. */
export function snapsOf(info) {
  const out = info.stacks.map((stack, k) => ({ id: `slice${k}`, words: info.stacks.length > 1 ? `Slice (${stack.name})` : "Slice" }));
  for (const name of info.views) out.push({ id: `view ${name}`, words: name });
  if (info.stacks.length) out.push({ id: "across0", words: "Across 1" }, { id: "across1", words: "Across 2" });
  return out;
}

/** Whether two planes are the same but for where their middle is and how much they show. */
export function samePlane(p, q) {
  return norm(minus(p.right, q.right)) < 1e-3 && norm(minus(p.down, q.down)) < 1e-3
    && Math.abs(dot(minus(p.centre, q.centre), cross(q.right, q.down))) < 0.05;
}

/** The plane of a snap. Views are asked for, since they follow from the segmentation. */
export async function snapped(page, id, near, extent) {
  const { info, source, store } = page;
  if (id.startsWith("slice")) return measuredPlane(info, info.stacks[Number(id.slice(5))], null, near, extent);
  if (id.startsWith("across")) return acrossPlane(info, info.stacks[0], id === "across1", near, extent);
  const found = await source.view(id.slice(5), store.state.time);
  return plane(found.centre, found.right, found.down, extent);
}
