// Keys, and the sheet that tells of them.
import { find, make } from "./dom.js";
import { along, moved, spun, tilted, zoomed } from "./planes.js";

const DEGREE = Math.PI / 180;

/** Groups of keys: what is pressed, what it does, and words for the help. */
export const KEYS = [
  ["Plane", [
    ["← → ↑ ↓", "Move the plane on the screen"], ["Alt + ← → ↑ ↓", "Tilt it by 5°"], ["Q E", "Turn it by 5°"],
    ["PgUp PgDn", "Go 1 mm along its normal (Shift: 5 mm)"], ["+ −", "Zoom"], ["[ ]", "To the next measured slice"],
    ["1 … 9", "Snap to a named plane"], ["0", "Back to the planes at the start"],
  ]],
  ["Time", [["Space", "Play or pause"], [", .", "Frame by frame"]]],
  ["Layers", [
    ["C", "Contour, fill, off"], ["I", "Field, measured, difference"], ["H", "Hatch what was not measured"], ["U", "Uncertainty"], ["X", "Lines of the other planes"],
  ]],
  ["Tools", [["V", "Move"], ["P", "Point"], ["D", "Distance"], ["A", "Area"], ["Esc", "Cancel a ruler"]]],
  ["Page", [["F", "One view large, or all alike"], ["Tab", "Next view"], ["S", "Save a picture"], ["L", "Copy a link"], ["T", "Dark or light"], ["?", "Show this help"]]],
  ["Mouse", [
    ["Drag", "What the chosen tool does"], ["Drag a line", "Move that line's plane"], ["Shift + drag", "Tilt"], ["Alt + drag", "Turn"],
    ["Right drag", "Window and level"], ["Wheel", "Through the plane"], ["Ctrl + wheel", "Zoom at the pointer"], ["Two fingers", "Zoom, turn"],
  ]],
];

const next = (list, value) => list[(list.indexOf(value) + 1) % list.length];

/** The key of an event; a letter in lower case, which Caps Lock does not change. */
const keyOf = ({ key }) => (key.length === 1 ? key.toLowerCase() : key);

function planeKey(event, plane) {
  const step = plane.extent / 40, arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const arrow = arrows[event.key];
  if (arrow && event.altKey) return tilted(plane, arrow[0] * 5 * DEGREE, -arrow[1] * 5 * DEGREE);
  if (arrow) return moved(plane, arrow[0] * step, arrow[1] * step);
  const mm = event.shiftKey ? 5 : 1;
  const changes = {
    PageUp: () => along(plane, -mm), PageDown: () => along(plane, mm),
    "+": () => zoomed(plane, 1.25), "=": () => zoomed(plane, 1.25), "-": () => zoomed(plane, 0.8),
    q: () => spun(plane, -5 * DEGREE), e: () => spun(plane, 5 * DEGREE),
  };
  return changes[keyOf(event)]?.() ?? null;
}

function otherKey(event, page) {
  const { store, timeline } = page, { state } = store, set = (changes) => store.set(changes);
  const moves = page.info.moves;
  const actions = {
    " ": () => moves && timeline.toggle(), ",": () => moves && timeline.step(-1), ".": () => moves && timeline.step(1),
    c: () => set({ classes: next(["contour", "fill", "none"], state.classes) }),
    i: () => set({ base: next(page.measured.there ? ["field", "measured", "difference"] : ["field", "none"], state.base) }),
    h: () => set({ unmeasured: !state.unmeasured }), u: () => page.info.draws && set({ spread: !state.spread }), x: () => set({ lines: !state.lines }),
    v: () => set({ tool: "move" }), p: () => set({ tool: "point" }), d: () => set({ tool: "distance" }), a: () => set({ tool: "area" }),
    f: () => set({ single: !state.single }), s: () => page.attempt(page.savePicture), l: () => page.attempt(page.saveLink),
    t: () => page.toggleTheme(), "?": () => showHelp(), "[": () => page.stepSlice(-1), "]": () => page.stepSlice(1), 0: () => page.reset(),
    Escape: () => page.giveUp(),
  };
  const digit = /^[1-9]$/.test(event.key) ? page.snapIds()[Number(event.key) - 1] : null;
  const action = digit ? () => page.snap(digit) : actions[keyOf(event)];
  if (action) action();
  return Boolean(action);
}

/** Listens to the keyboard; keys that a control needs are left to it. */
export function listenToKeys(page) {
  // A control that was clicked keeps the focus; Space acts on it only for those who reached it by keys.
  let clicked = false;
  const left = (event) => !page.info || event.ctrlKey || event.metaKey || find("#help").open
    || isNeeded(event, clicked && page.info.moves);
  document.addEventListener("pointerdown", () => { clicked = true; }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab") clicked = false;
    if (left(event)) return;
    const { store } = page, { state } = store, plane = state.planes[state.active];
    const changed = plane ? planeKey(event, plane) : null;
    if (changed) store.setPlane(state.active, changed);
    if (changed || otherKey(event, page)) event.preventDefault();
  });
  // Firefox presses a button when Space is let go.
  document.addEventListener("keyup", (event) => { if (event.key === " " && !left(event)) event.preventDefault(); });
}

/** Whether the control that has the focus needs a key; `plays` if Space is for the film, not for a control. */
function isNeeded({ key, target }, plays) {
  const { tagName, type } = target;
  if (tagName === "SELECT") return key !== " ";
  if (tagName === "BUTTON") return key === "Enter" || (key === " " && !plays);
  if (tagName !== "INPUT") return tagName === "TEXTAREA" || target.isContentEditable;
  if (type === "range") return /^(Arrow|Page)/.test(key);
  if (type === "checkbox" || type === "radio") return /^(Arrow|Page)/.test(key) || (key === " " && !plays);
  return true;
}

export function showHelp() {
  const dialog = find("#help");
  dialog.replaceChildren(
    make("h2", { id: "help-title" }, "Keys and mouse"),
    make("div", { class: "columns" }, ...KEYS.map(([title, rows]) => make("div", { class: "group" }, make("h3", {}, title),
      make("dl", {}, ...rows.flatMap(([keys, words]) => [make("dt", {}, make("kbd", {}, keys)), make("dd", {}, words)]))))),
    make("form", { method: "dialog" }, make("button", { autofocus: true }, "Close")));
  dialog.showModal();
  dialog.scrollTop = 0; // the button that gets the focus is at the end
}
