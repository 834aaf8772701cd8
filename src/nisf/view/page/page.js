// The page: what it is made of, and how its parts hear of each other.
import { find, make } from "./dom.js";
import { chip, shownCurves } from "./findings.js";
import { LiveFit } from "./live.js";
import { listenToKeys, showHelp } from "./keys.js";
import { MeasuredSlices } from "./measured.js";
import { VIEW_COLOURS } from "./overlay.js";
import { Panel } from "./panel.js";
import { normal } from "./planes.js";
import { orbit, Pointer } from "./pointer.js";
import { SliceView } from "./slice-view.js";
import { acrossPlane, measuredPlane, middleOf, nearestSlice, samePlane, snapped, snapsOf } from "./snaps.js";
import { SolidView } from "./solid.js";
import { fresh, stateOf, Store, VIEWS } from "./store.js";
import { Strokes } from "./strokes.js";
import { saveLink, savePicture } from "./takeaway.js";
import { Timeline } from "./timeline.js";
import { dot, minus } from "./vectors.js";

export class Page {
  constructor(source) {
    this.source = source;
    this.store = new Store();
    this.info = this.measured = this.curves = this.findings = null;
    /** What others draw over the views, `(context, view, unitPx)`, and tools by name: `down`, `move`, `up` get `(view, place, event)`. */
    this.overlays = [];
    this.tools = {};
    this.names = {};
    this.snaps = {};
    this.working = new Set();
    this.views = Object.fromEntries(VIEWS.map((name) => [name, new SliceView(name, find(`[data-view="${name}"] canvas`), this)]));
    this.solid = new SolidView(find('[data-view="solid"] canvas'), this);
    this.timeline = new Timeline(find("#timeline"), this);
    this.panel = new Panel(find("#panel"), this);
    this.strokes = new Strokes(this);
    this.live = new LiveFit(find("#fit"));
    this.savePicture = () => savePicture(this);
    this.saveLink = () => saveLink(this);
    this.wire();
  }

  wire() {
    const { store } = this;
    for (const view of Object.values(this.views)) {
      new Pointer(view, this);
      view.canvas.addEventListener("focus", () => store.set({ active: view.name }));
      const figure = view.canvas.parentElement;
      figure.style.setProperty("--mark", VIEW_COLOURS[view.name]);
      figure.addEventListener("dblclick", () => { if (!view.draft && store.state.tool !== "area") store.set({ active: view.name, single: !store.state.single }); });
    }
    orbit(this.solid.canvas, store, () => store.set({ active: "solid" }));
    this.solid.canvas.addEventListener("focus", () => store.set({ active: "solid" }));
    this.solid.canvas.addEventListener("dblclick", () => store.set({ active: "solid", single: !store.state.single }));
    find(".tools").addEventListener("click", (event) => {
      const tool = event.target.closest("[data-tool]")?.dataset.tool;
      if (tool) store.set({ tool });
    });
    find("#help-button").addEventListener("click", showHelp);
    find("#theme").addEventListener("click", () => this.toggleTheme());
    find("#quality").addEventListener("click", () => {
      this.togglePanel(true);
      find("#findings").scrollIntoView({ block: "start" });
    });
    find("#panel-button").addEventListener("click", () => this.togglePanel());
    find("#case").addEventListener("change", (event) => this.openCase(Number(event.target.value)));
    store.listen((state, changed) => this.changed(state, changed));
    listenToKeys(this);
    matchMedia("(max-width: 560px)").addEventListener("change", () => this.arrange(store.state));
    this.setTheme(matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
  }

  toggleTheme() {
    this.setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light");
  }

  togglePanel(open = !find("#panel").classList.contains("open")) {
    find("#panel").classList.toggle("open", open);
    find("#panel-button").setAttribute("aria-expanded", String(open));
  }

  async start() {
    const given = stateOf(location.hash);
    try {
      const cases = await this.source.cases();
      find("#case").replaceChildren(...cases.map((name, value) => make("option", { value }, name)));
      find("#case").disabled = cases.length < 2;
      if (!cases.length) throw new Error("There is no case to view. Start nisf view with a subject or a scan.");
      await this.openCase(Math.min(given?.case ?? 0, cases.length - 1), given);
    } catch (error) {
      this.cover(error.message, null, true);
    }
  }

  /** Opens a case; a link's state is restored where there is one. */
  async openCase(number, given = null) {
    this.opening?.abort();
    const opening = this.opening = new AbortController();
    this.live.begin(() => this.stopFit(opening, number));
    this.cover("Opening the case", 0);
    this.info = null;
    clearTimeout(this.polling);
    this.snaps = {};
    Object.values(this.views).forEach((view) => {
      view.forget();
      find("small", view.canvas.parentElement).textContent = "";
    });
    try {
      const info = await this.source.open(number, (words, fraction, fit) => {
        if (opening.signal.aborted) return;
        this.cover(words, fraction);
        if (fit) this.live.show(fit);
      }, opening.signal);
      if (opening !== this.opening) return;
      this.measured = new MeasuredSlices(this.source, info);
      this.curves = null;
      this.setFindings(null);
      find("#case").value = number;
      document.title = `${info.name} – nisf view`;
      const stack = info.stacks[0];
      find("#case-note").textContent = stack ? `${stack.shape.join(" × ")} voxels${info.moves ? `, ${info.times.length} frames` : ""}` : "";
      const kept = { ...fresh(), case: number, tool: this.store.state.tool, ...given, playing: false };
      if (!this.measured.there && kept.base !== "none") kept.base = "field";
      if (kept.probability >= info.labels.length) kept.probability = 0;
      this.starts = this.startPlanes(info);
      this.startNames = { a: "slice0", b: "across0", c: "across1" };
      this.names = { ...this.startNames };
      kept.planes = given?.planes || this.starts;
      this.info = info;
      this.panel.open(info);
      this.strokes.open(info);
      this.timeline.open(info);
      this.store.set(kept);
      this.cover(null);
      this.follow();
      this.solid.open(info);
      if (!given?.planes) this.anatomical(info);
    } catch (error) {
      if (error.name !== "AbortError") this.cover(error.message, null, true);
    }
  }

  /** Ends the fit that is shown. */
  stopFit(opening, number) {
    opening.abort();
    this.cover("The fit was stopped.", null, true);
    this.live.stopped(() => this.openCase(number));
  }

  /** The planes before anything is known of the anatomy: along the slices and across them. */
  startPlanes(info) {
    const { centre, extent } = middleOf(info), stack = info.stacks[0] || {
      affine: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], shape: [1, 1, 1], oriented: true,
    };
    return {
      a: measuredPlane(info, stack, null, centre, extent),
      b: acrossPlane(info, stack, false, centre, extent), c: acrossPlane(info, stack, true, centre, extent),
    };
  }

  /** The anatomy's first views take the place of the planes across the slices, where they are found. */
  async anatomical(info) {
    for (const [view, name] of [["b", info.views[0]], ["c", info.views[1]]]) {
      if (!name) continue;
      const before = this.store.state.planes[view];
      try {
        const plane = await snapped(this, `view ${name}`, null, before.extent);
        if (this.info !== info || this.store.state.planes[view] !== before) return;
        this.starts = { ...this.starts, [view]: plane };
        this.startNames = { ...this.startNames, [view]: `view ${name}` };
        this.names = { ...this.names, [view]: `view ${name}` };
        this.snaps[view] = plane;
        this.store.setPlane(view, plane);
      } catch (error) {
        if (error.name !== "AbortError") this.say(error.message);
      }
    }
  }

  /** Fetches the volumes until they are complete. */
  async follow() {
    const { info } = this;
    try {
      const [curves, findings] = await Promise.all([this.source.curves(), this.source.findings()]);
      if (info !== this.info) return;
      this.curves = shownCurves(curves, findings);
      this.timeline.setCurves(this.curves);
      this.setFindings(findings);
      this.panel.changed(this.store.state);
      if (!curves.complete || !findings.complete) this.polling = setTimeout(() => this.follow(), 700);
    } catch (error) {
      if (error.name !== "AbortError" && info === this.info) this.fail(error.message);
    }
  }

  setFindings(findings) {
    if (JSON.stringify(findings) === JSON.stringify(this.findings)) return;
    this.findings = findings;
    this.panel.setFindings(findings);
    const light = find("#quality");
    light.hidden = !findings?.quality;
    if (!findings?.quality) return;
    light.replaceChildren(chip(findings.quality));
    light.setAttribute("aria-label", `Quality: ${findings.quality.meaning}`);
  }

  changed(state, changed) {
    document.querySelectorAll("[data-tool]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.tool === state.tool)));
    if (!this.info) return;
    if (changed.has("planes")) this.rename(state);
    for (const view of Object.values(this.views)) view.changed(state, changed);
    this.solid.changed(state, changed);
    this.timeline.changed(state);
    this.panel.changed(state);
    this.arrange(state);
  }

  /** One view large and the others small, or all alike. */
  arrange(state) {
    find("#views").classList.toggle("single", state.single || this.narrow());
    for (const figure of document.querySelectorAll("#views figure")) {
      const own = figure.dataset.view === state.active;
      figure.classList.toggle("active", own);
      figure.classList.toggle("big", own);
    }
  }

  narrow() {
    return matchMedia("(max-width: 560px)").matches;
  }

  /** Titles of the views: a name as long as the plane is still that of the name. */
  rename(state) {
    for (const name of VIEWS) {
      const plane = state.planes[name], snap = this.snaps[name] || this.starts[name];
      if (this.names[name] && !this.names[name].startsWith("slice") && !samePlane(plane, snap)) this.names[name] = null;
      if (this.names[name]?.startsWith("slice") && Math.abs(dot(normal(plane), normal(snap))) < 0.99999) this.names[name] = null;
      const words = snapsOf(this.info).find(({ id }) => id === this.names[name])?.words || "Oblique";
      find(`[data-view="${name}"] figcaption span`).textContent = words;
      this.views[name].canvas.setAttribute("aria-label", `${words} plane of ${this.info.name}; arrow keys move it, question mark shows all keys`);
    }
  }

  snapIds() {
    return snapsOf(this.info).map(({ id }) => id);
  }

  async snap(id) {
    const view = this.store.state.active === "solid" ? "a" : this.store.state.active;
    const { centre, extent } = this.store.state.planes[view];
    try {
      const plane = await snapped(this, id, id.startsWith("slice") ? centre : middleOf(this.info).centre, extent);
      this.snaps[view] = plane;
      this.names[view] = id;
      this.store.setPlane(view, plane);
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, true);
    }
  }

  /** The chosen view shows the next measured slice. */
  stepSlice(by) {
    const stack = this.info.stacks[0], view = this.store.state.active === "solid" ? "a" : this.store.state.active;
    if (!stack) return;
    const { centre, extent } = this.store.state.planes[view];
    const position = Math.max(0, Math.min(stack.shape[2] - 1, nearestSlice(stack, centre) + by));
    const plane = measuredPlane(this.info, stack, position, centre, extent);
    this.snaps[view] = plane;
    this.names[view] = "slice0";
    this.store.setPlane(view, plane);
  }

  reset() {
    this.snaps = { ...this.starts };
    this.names = { ...this.startNames };
    this.store.set({ planes: { ...this.starts }, low: 0, high: 1, camera: fresh().camera });
  }

  giveUp() {
    for (const view of Object.values(this.views)) { view.draft = null; view.draw(); }
    this.togglePanel(false);
  }

  async pick(position) {
    this.panel.showPlace({ position, answer: null });
    try {
      this.panel.showPlace({ position, answer: await this.source.point(position, this.store.state.time) });
      this.togglePanel(innerWidth <= 1000);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error.message);
    }
  }

  /** Where the pointer is, in words. */
  hover(view, place) {
    find("small", view.canvas.parentElement).textContent = this.wordsAt(view, place);
  }

  wordsAt(view, place) {
    const { sheet, question } = view;
    const where = `${place.map((v) => v.toFixed(1)).join(", ")} mm`;
    if (!sheet) return where;
    const pitch = question.spacing * sheet.step, away = minus(place, question.centre);
    const i = Math.round((dot(away, question.right) + ((question.width - 1) / 2) * question.spacing) / pitch);
    const j = Math.round((dot(away, question.down) + ((question.height - 1) / 2) * question.spacing) / pitch);
    if (i < 0 || j < 0 || i >= sheet.width || j >= sheet.height) return where;
    const n = j * sheet.width + i, k = sheet.label[n];
    return k ? `${where} · ${this.info.labels[k]} ${Math.round((100 * sheet.probability[k][n]) / 255)} %` : where;
  }

  busy(view, is) {
    if (is) this.working.add(view);
    else this.working.delete(view);
    find(`[data-view="${view}"]`).classList.toggle("busy", is);
  }

  idle() {
    return this.working.size === 0;
  }

  /** A time, once all views show it sharply. */
  async settled(time) {
    this.store.set({ time });
    await new Promise((done) => setTimeout(done, 0));
    while (!this.idle()) await new Promise((done) => requestAnimationFrame(done));
    this.solid.paint();
  }

  composed(name) {
    if (name === this.store.state.active) this.solid.draw();
  }

  solidNote(words) {
    find('[data-view="solid"] small').textContent = words;
  }

  async attempt(action) {
    try {
      await action(this);
    } catch (error) {
      this.say(error.message, true);
    }
  }

  fail(words) {
    this.say(words, true);
  }

  say(words, error = false) {
    const toast = find("#toast");
    toast.textContent = words;
    toast.classList.toggle("error", error);
    toast.hidden = false;
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => { toast.hidden = true; }, error ? 9000 : 4000);
  }

  /** What covers the page while there is nothing to see; gone if `words` is null. */
  cover(words, fraction = null, failed = false) {
    find("#cover").hidden = words === null;
    find("#cover-text").textContent = words || "";
    const bar = find("#cover-progress");
    bar.hidden = failed;
    if (fraction) bar.value = fraction;
    else bar.removeAttribute("value");
  }
}
