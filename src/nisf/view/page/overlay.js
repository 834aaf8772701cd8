// What is drawn over a view: where the other planes cut it, marks, a scale bar, the patient's directions.
import { lineOf, pixelOf, spacingOn } from "./planes.js";
import { VIEWS } from "./store.js";
import { cross, dot, minus, norm, scaled } from "./vectors.js";

export const VIEW_COLOURS = { a: "#56b4e9", b: "#f0e442", c: "#cc79a7" };
const FONT = "system-ui, sans-serif";

function text(context, words, x, y, size, align = "left") {
  context.font = `500 ${size}px ${FONT}`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineWidth = size / 4;
  context.lineJoin = "round";
  context.strokeStyle = "rgba(0, 0, 0, 0.75)";
  context.strokeText(words, x, y);
  context.fillStyle = "#f2f4f7";
  context.fillText(words, x, y);
}

/** A round length that takes about a fifth of the screen: mm and words. */
export function barLength(mm) {
  const rough = mm / 5, power = 10 ** Math.floor(Math.log10(rough));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= rough) ?? power;
  if (length >= 10) return [length, `${length / 10} cm`];
  return [length, length >= 1 ? `${length} mm` : `${Number((length * 1000).toPrecision(2))} µm`];
}

const SIDES = [["R", "L"], ["A", "P"], ["S", "I"]];

/** The side of the patient towards which a direction points, e.g. "RA". */
export function sideOf(direction) {
  const parts = direction.map((v, i) => [Math.abs(v), SIDES[i][v > 0 ? 0 : 1]]);
  return parts.filter(([size]) => size > 0.38).sort((a, b) => b[0] - a[0]).map(([, side]) => side).join("");
}

function drawLines(context, view, state, unitPx) {
  const { canvas, plane, name } = view;
  for (const other of VIEWS) {
    if (other === name || !state.planes[other]) continue;
    const line = lineOf(plane, state.planes[other], canvas.width, canvas.height);
    if (!line) continue;
    context.strokeStyle = VIEW_COLOURS[other];
    context.globalAlpha = 0.7;
    context.lineWidth = unitPx;
    context.setLineDash([6 * unitPx, 4 * unitPx]);
    context.beginPath();
    context.moveTo(...line[0]);
    context.lineTo(...line[1]);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }
}

/** Area in mm² of a polygon in space, by the cross products of its corners. */
export function areaOf(points) {
  let sum = [0, 0, 0];
  for (let i = 1; i + 1 < points.length; i++) {
    const part = cross(minus(points[i], points[0]), minus(points[i + 1], points[0]));
    sum = [0, 1, 2].map((d) => sum[d] + part[d]);
  }
  return norm(sum) / 2;
}

export const wordsOf = (mark) => {
  if (mark.kind === "distance") return `${norm(minus(mark.points[1], mark.points[0])).toFixed(1)} mm`;
  const area = areaOf(mark.points);
  return area >= 100 ? `${(area / 100).toFixed(2)} cm²` : `${area.toFixed(1)} mm²`;
};

function drawMark(context, view, mark, unitPx) {
  const { canvas, plane } = view;
  const at = mark.points.map((p) => pixelOf(plane, p, canvas.width, canvas.height));
  const near = Math.max(...at.map((p) => Math.abs(p[2]))) < 0.5 + plane.extent / 200;
  context.globalAlpha = near ? 1 : 0.25;
  context.strokeStyle = context.fillStyle = "#ffffff";
  context.lineWidth = 1.5 * unitPx;
  context.beginPath();
  at.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (mark.kind === "area") context.closePath();
  context.stroke();
  for (const [x, y] of at.length < 12 ? at : []) {
    context.beginPath();
    context.arc(x, y, 3 * unitPx, 0, 7);
    context.fill();
  }
  const [x, y] = at[at.length - 1];
  if (mark.kind !== "point" && mark.points.length > 1) text(context, wordsOf(mark), x + 8 * unitPx, y, 12 * unitPx);
  context.globalAlpha = 1;
}

function drawBar(context, view, unitPx) {
  const { canvas, plane } = view, s = spacingOn(plane, canvas.width, canvas.height);
  const [mm, words] = barLength(canvas.width * s), length = mm / s;
  const x = canvas.width - 14 * unitPx - length, y = canvas.height - 14 * unitPx;
  for (const [style, width] of [["rgba(0, 0, 0, 0.7)", 4], ["#f2f4f7", 2]]) {
    context.strokeStyle = style;
    context.lineWidth = width * unitPx;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + length, y);
    context.stroke();
  }
  text(context, words, x + length / 2, y - 10 * unitPx, 11 * unitPx, "center");
}

function drawSides(context, view, unitPx) {
  const { canvas, plane } = view, w = canvas.width, h = canvas.height, edge = 11 * unitPx;
  const sides = [
    [scaled(plane.right, -1), edge, h / 2, "left"], [plane.right, w - edge, h / 2, "right"],
    [scaled(plane.down, -1), w / 2, edge + 2 * unitPx, "center"], [plane.down, w / 2, h - edge, "center"],
  ];
  for (const [direction, x, y, align] of sides) text(context, sideOf(direction), x, y, 11 * unitPx, align);
}

/** Everything over the picture. */
export function drawOverlay(context, view) {
  const { state } = view.page.store, unitPx = window.devicePixelRatio || 1;
  if (!view.page.info) return;
  if (state.lines) drawLines(context, view, state, unitPx);
  for (const mark of state.marks) drawMark(context, view, mark, unitPx);
  if (view.draft) drawMark(context, view, view.draft, unitPx);
  for (const draw of view.page.overlays) draw(context, view, unitPx);
  if (Math.min(view.canvas.width, view.canvas.height) < 150 * unitPx) return;
  drawBar(context, view, unitPx);
  if (view.page.info.stacks[0]?.oriented) drawSides(context, view, unitPx);
}

/** Distance in pixels from a point to the line along which another plane cuts a view. */
export function nearestLine(view, state, x, y) {
  let best = null;
  for (const other of VIEWS) {
    if (other === view.name || !state.planes[other]) continue;
    const line = lineOf(view.plane, state.planes[other], view.canvas.width, view.canvas.height);
    if (!line) continue;
    const [dx, dy] = [line[1][0] - line[0][0], line[1][1] - line[0][1]];
    const away = Math.abs((x - line[0][0]) * dy - (y - line[0][1]) * dx) / (Math.hypot(dx, dy) || 1);
    if (!best || away < best.away) best = { other, away };
  }
  return best;
}

export const isFlat = (plane, other) => Math.abs(dot(plane.right, other.right)) > 0.999;
