// What the page shows, in one place; whoever draws something listens. The address keeps what can be restored.

export const VIEWS = ["a", "b", "c"];

export const fresh = () => ({
  case: 0, time: 0, playing: false, speed: 1, planes: {}, active: "a", single: false, tool: "move",
  base: "field", classes: "contour", opacity: 0.45, probability: 0, spread: false, around: true, unmeasured: true,
  lines: true, low: 0, high: 1, hidden: [], marks: [], camera: { turn: 0.7, lift: 0.35, zoom: 1 },
});

/** Names of the entries that a link restores. */
const KEPT = ["case", "time", "planes", "active", "single", "base", "classes", "opacity", "probability", "spread",
  "around", "unmeasured", "lines", "low", "high", "hidden", "marks", "camera"];

export class Store {
  constructor() {
    this.state = fresh();
    this.listeners = [];
    this.waiting = null;
  }

  /** Calls `listener(state, changed)` after changes; `changed` is the set of the entries' names. */
  listen(listener) {
    this.listeners.push(listener);
  }

  /** Changes entries; listeners are called once for all changes before the next picture. */
  set(changes) {
    Object.assign(this.state, changes);
    if (!this.waiting) {
      this.waiting = new Set();
      queueMicrotask(() => {
        const changed = this.waiting;
        this.waiting = null;
        for (const listener of this.listeners) listener(this.state, changed);
      });
    }
    for (const name of Object.keys(changes)) this.waiting.add(name);
  }

  setPlane(view, plane) {
    this.set({ planes: { ...this.state.planes, [view]: plane } });
  }
}

const short = (_, value) => (typeof value === "number" ? Number(value.toPrecision(7)) : value);

/** What a link keeps of the state, as the part of an address after #. */
export function hashOf(state) {
  const kept = Object.fromEntries(KEPT.map((name) => [name, state[name]]));
  return `#${encodeURIComponent(JSON.stringify(kept, short))}`;
}

const isVector = (v) => Array.isArray(v) && v.length === 3 && v.every(Number.isFinite);
const isPlane = (p) => p && isVector(p.centre) && isVector(p.right) && isVector(p.down) && p.extent > 0;
const isMark = (m) => m && Array.isArray(m.points) && m.points.every(isVector)
  && ((m.kind === "distance" && m.points.length === 2) || (m.kind === "area" && m.points.length > 2 && m.points.length < 1000));

/** What entries must be besides being of their type. */
const ALLOWED = {
  case: (v) => Number.isInteger(v) && v >= 0, probability: (v) => Number.isInteger(v) && v >= 0,
  time: (v) => v >= 0 && v <= 1, active: (v) => [...VIEWS, "solid"].includes(v),
};

/** The state that a link describes, or null: a link may come from anyone, so each entry is looked at. */
export function stateOf(hash) {
  let given;
  try {
    given = JSON.parse(decodeURIComponent(hash.replace(/^#/, "")));
  } catch {
    return null;
  }
  if (!given || typeof given !== "object") return null;
  const out = {}, model = fresh();
  for (const name of KEPT) {
    const value = given[name];
    if (name === "planes") {
      if (value && VIEWS.every((view) => isPlane(value[view]))) out.planes = value;
    } else if (name === "marks") {
      if (Array.isArray(value) && value.length < 200 && value.every(isMark)) out.marks = value;
    } else if (name === "hidden") {
      if (Array.isArray(value) && value.every(Number.isInteger)) out.hidden = value;
    } else if (name === "camera") {
      if (value && ["turn", "lift", "zoom"].every((key) => Number.isFinite(value[key]))) out.camera = value;
    } else if (typeof value === typeof model[name] && (typeof value !== "number" || Number.isFinite(value))
      && (ALLOWED[name]?.(value) ?? true)) {
      out[name] = value;
    }
  }
  return out;
}
