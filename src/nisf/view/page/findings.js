// The case in numbers: its light, its measures with their intervals, and bands around the volumes.
import { draw, make } from "./dom.js";

const LIGHTS = ["green", "amber", "red"];

/** The curves that are shown: those of the measures as soon as these are known, else voxels so far. */
export function shownCurves(curves, findings) {
  if (!findings?.volumes) return curves;
  const { volumes, halves, phases } = findings;
  return { ...curves, volumes, halves, phases: Object.keys(phases).length ? phases : curves.phases, integrated: true };
}

/** The light as a chip: a shape, for colours are not seen by all, and what it means. */
export function chip(quality) {
  const light = LIGHTS.includes(quality.light) ? quality.light : "amber";
  return make("span", { class: `light ${light}` }, make("b", { "aria-hidden": "true" }, quality.shape), make("span", {}, quality.meaning));
}

/** The panel's section. */
export function findingsSection(findings) {
  const section = make("section", { id: "findings" }, make("h2", {}, "Quality and measures"));
  const { quality, groups, notes, complete } = findings || { groups: [], notes: [] };
  if (quality) {
    section.append(make("p", { class: "row" }, chip(quality), make("span", { class: "note" }, `predicted Dice ${quality.dice.toFixed(2)}`)));
    if (quality.reasons.length) section.append(make("ul", { class: "note" }, ...quality.reasons.map((reason) => make("li", {}, reason))));
  }
  for (const { title, rows } of groups) {
    const intervals = rows.some((row) => row.interval);
    section.append(make("table", { class: "measures" },
      make("thead", {}, make("tr", {}, make("th", {}, title || "Measure"), make("td"), make(intervals ? "th" : "td", { class: "number" }, intervals ? "90 % interval" : ""))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, make("td", {}, row.title),
        make("td", { class: "number" }, `${row.value} ${row.unit}`), make("td", { class: "number quiet" }, row.interval))))));
  }
  for (const note of notes) section.append(make("p", { class: "note" }, note));
  const words = complete ? "This anatomy has no measures." : "Being computed; the views come first.";
  if (!groups.length && !notes.length) section.append(make("p", { class: "note" }, words));
  return section;
}

/** The band around one structure's volumes, as polygons of the phases that have one. */
export function bands(curves, times, k, x, y) {
  const rows = times.map((t, i) => [t, curves?.volumes[i]?.[k], curves?.halves?.[i]?.[k]]);
  if (rows.length && rows.every(([, v, half]) => Number.isFinite(v) && Number.isFinite(half))) rows.push([1, rows[0][1], rows[0][2]]);
  const runs = [[]];
  for (const row of rows) {
    if (Number.isFinite(row[1]) && Number.isFinite(row[2])) runs.at(-1).push(row);
    else if (runs.at(-1).length) runs.push([]);
  }
  return runs.filter((run) => run.length > 1).map((run) => draw("polygon", {
    class: "band",
    points: [...run.map(([t, v, h]) => `${x(t)},${y(v + h)}`), ...run.reverse().map(([t, v, h]) => `${x(t)},${y(Math.max(0, v - h))}`)].join(" "),
  }));
}

/** The largest volume that the curves with their bands reach. */
export function highest(curves) {
  return Math.max(1, ...(curves?.volumes || []).flatMap((entry, t) => (entry || []).map((v, k) => v + (curves.halves?.[t]?.[k] || 0))));
}
