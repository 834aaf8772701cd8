// The view in 3D: surfaces of the structures, the planes that are looked at, the measured slices' outlines.
import { cameraMatrix, program, vertexArray } from "./gl.js";
import { rgb } from "./layers.js";
import { nearestFrame, outlines } from "./measured.js";
import { surface } from "./nets.js";
import { VIEW_COLOURS } from "./overlay.js";
import { VIEWS } from "./store.js";
import { wantedOrder } from "./timeline.js";
import { add, cross, inverse, mapped, scaled, unit } from "./vectors.js";

const SURFACE_VERTEX = `
layout(location = 0) in vec3 place; layout(location = 1) in vec3 normal;
uniform mat4 view; out vec3 n; out vec3 at;
void main() { n = normal; at = place; gl_Position = view * vec4(place, 1.0); }`;
const SURFACE_FRAGMENT = `
in vec3 n; in vec3 at; uniform vec3 colour, eye, up; uniform float alpha; out vec4 result;
void main() {
  vec3 look = normalize(eye - at), normal = normalize(n);
  if (dot(normal, look) < 0.0) normal = -normal;
  float facing = dot(normal, look), sky = 0.5 + 0.5 * dot(normal, up);
  vec3 light = colour * (0.28 + 0.5 * facing + 0.26 * sky) + vec3(0.22) * pow(facing, 24.0);
  // Thin where seen head on, dense at the rim: what lies within stays visible.
  result = vec4(light, alpha < 1.0 ? mix(alpha, 0.85, pow(1.0 - facing, 2.5)) : 1.0);
}`;
const PLANE_VERTEX = `
layout(location = 0) in vec3 place; layout(location = 1) in vec2 texel; uniform mat4 view; out vec2 t;
void main() { t = texel; gl_Position = view * vec4(place, 1.0); }`;
const PLANE_FRAGMENT = `
in vec2 t; uniform sampler2D picture; uniform float alpha; out vec4 result;
void main() { vec4 c = texture(picture, t); if (c.a < 0.5) discard; result = vec4(c.rgb, alpha); }`;
const LINE_FRAGMENT = `uniform vec3 colour; uniform float alpha; out vec4 result; void main() { result = vec4(colour, alpha); }`;
const KEPT = 48, MOST_OUTLINES = 16;

/** The smallest and largest place of a surface along each axis. */
function boxOf({ places }) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let v = 0; v < places.length; v++) {
    low[v % 3] = Math.min(low[v % 3], places[v]);
    high[v % 3] = Math.max(high[v % 3], places[v]);
  }
  return { low, high };
}

/** How much of one surface's box lies within another's, from 0 to 1. */
function within({ box: a }, { box: b }) {
  const shares = [0, 1, 2].map((d) => (Math.min(a.high[d], b.high[d]) - Math.max(a.low[d], b.low[d])) / (a.high[d] - a.low[d]));
  return shares.reduce((product, share) => product * Math.max(0, share), 1);
}

export class SolidView {
  constructor(canvas, page) {
    this.canvas = canvas;
    this.page = page;
    this.meshes = new Map();
    this.textures = {};
    const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    this.gl = gl;
    if (!gl) return;
    this.surfaces = program(gl, SURFACE_VERTEX, SURFACE_FRAGMENT);
    this.planes = program(gl, PLANE_VERTEX, PLANE_FRAGMENT);
    this.linesProgram = program(gl, PLANE_VERTEX, LINE_FRAGMENT);
    canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.gl = null; });
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  resized() {
    const scale = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.max(1, Math.round(box.width * scale));
    this.canvas.height = Math.max(1, Math.round(box.height * scale));
    this.draw();
  }

  /** A new case. */
  async open(info) {
    for (const mesh of this.meshes.values()) mesh?.forEach((part) => part?.array.free());
    this.meshes.clear();
    this.generation = (this.generation || 0) + 1;
    this.centre = mapped(inverse(info.region.pose), [0, 0, 0]);
    this.radius = 0.8 * Math.hypot(...info.region.half);
    this.fitted = false;
    this.upright = [0, 0, 1];
    if (!this.gl) return;
    const { generation } = this, asked = new Set();
    await this.fetch(this.page.store.state.time, false);
    for (;;) {
      // Which comes next is decided anew each time: the user moves on, and ES is known late.
      const { page } = this, named = Object.values(page.curves?.phases || {});
      const next = wantedOrder(info.times, named, page.store.state.time).find((frame) => !asked.has(frame));
      if (next === undefined || generation !== this.generation) return;
      asked.add(next);
      await this.fetch(info.times[next], true);
    }
  }

  async fetch(time, later) {
    const key = time.toFixed(4);
    if (this.meshes.has(key)) return;
    const generation = this.generation;
    this.meshes.set(key, null);
    try {
      const volume = await this.page.source.volume(time, later);
      if (generation !== this.generation || !this.gl) return;
      this.keep(key, volume);
      this.draw();
    } catch (error) {
      if (generation !== this.generation) return;
      this.meshes.delete(key);
      if (error.name !== "AbortError" && !later) this.note(error.message);
    }
  }

  keep(key, volume) {
    const { gl } = this, classes = this.page.info.labels.length;
    const parts = [null];
    let sum = [0, 0, 0], count = 0;
    for (let k = 1; k < classes; k++) {
      const found = surface(volume, k);
      if (!found.corners.length) { parts.push(null); continue; }
      for (let v = 0; v < found.places.length; v += 3, count++) {
        for (let d = 0; d < 3; d++) sum[d] += found.places[v + d];
      }
      parts.push({ ...found, box: boxOf(found), array: vertexArray(gl, [found.places, found.normals], [3, 3], found.corners) });
    }
    if (!this.fitted && count) {
      this.centre = scaled(sum, 1 / count);
      this.radius = 0;
      for (const part of parts) {
        for (let v = 0; part && v < part.places.length; v += 3) {
          this.radius = Math.max(this.radius, Math.hypot(...[0, 1, 2].map((d) => part.places[v + d] - this.centre[d])));
        }
      }
      this.fitted = true;
    }
    this.meshes.set(key, parts);
    const all = [...this.meshes.keys()];
    if (all.length > KEPT) {
      this.meshes.get(all[0])?.forEach((part) => part?.array.free());
      this.meshes.delete(all[0]);
    }
    this.note("");
  }

  note(words) {
    this.page.solidNote(words);
  }

  /** The surfaces that are there for the time nearest to the one shown. */
  shown() {
    const { state } = this.page.store, exact = this.meshes.get(state.time.toFixed(4));
    if (exact) return exact;
    const there = [...this.meshes.entries()].filter(([, parts]) => parts);
    if (!there.length) return null;
    return there[nearestFrame(there.map(([key]) => Number(key)), state.time)][1];
  }

  changed(state, changed) {
    if (!this.gl || !this.page.info) return;
    if (changed.has("time") && !state.playing) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.fetch(state.time, false), 250);
    }
    this.draw();
  }

  /** Camera directions: from the state's angles, with the patient's head up. */
  camera() {
    const { turn, lift, zoom } = this.page.store.state.camera, up = this.upright;
    const side = unit(cross(up, Math.abs(up[1]) > 0.9 ? [1, 0, 0] : [0, 1, 0]));
    const front = cross(side, up);
    const level = add(scaled(side, Math.sin(turn)), scaled(front, Math.cos(turn)));
    const back = unit(add(scaled(level, Math.cos(lift)), scaled(up, Math.sin(lift))));
    const right = unit(cross(up, back)), distance = (this.radius * 4) / zoom;
    return {
      right, up: cross(back, right), back, centre: this.centre, distance,
      aspect: this.canvas.width / this.canvas.height,
      near: Math.max(0.1, distance - 5 * this.radius), far: distance + 6 * this.radius,
    };
  }

  draw() {
    if (this.scheduled || !this.gl) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.paint(); });
  }

  paint() {
    const { gl, canvas } = this;
    if (!gl || !this.page.info || !this.centre) return;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.043, 0.051, 0.063, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    const camera = this.camera(), { matrix, eye } = cameraMatrix(camera);
    const { state } = this.page.store;
    if (state.lines) this.paintPlanes(matrix, state);
    this.paintSurfaces(matrix, eye, camera.up, state);
    canvas.dataset.surfaces = this.shown() ? "shown" : "";
  }

  paintSurfaces(matrix, eye, up, state) {
    const { gl } = this, parts = this.shown();
    if (!parts) return;
    const use = this.surfaces;
    gl.useProgram(use.made);
    gl.uniformMatrix4fv(use.at("view"), false, matrix);
    gl.uniform3fv(use.at("eye"), eye);
    gl.uniform3fv(use.at("up"), up);
    const there = parts.map((part, k) => ({ part, k })).filter(({ part, k }) => part && !state.hidden.includes(k));
    // What holds another structure is drawn last, and clear.
    const holds = ({ part }) => there.some((other) => other.part !== part && within(other.part, part) > 0.8);
    const order = there.map((item) => ({ ...item, clear: holds(item) })).sort((a, b) => a.clear - b.clear);
    order.forEach(({ part, k, clear }) => {
      const colour = rgb(this.page.info.colours[k]).map((v) => v / 255);
      gl.uniform3fv(use.at("colour"), colour);
      gl.uniform1f(use.at("alpha"), clear ? 0.3 : 1);
      gl.bindVertexArray(part.array.made);
      if (!clear) {
        // Where two structures meet their surfaces are one: the solid one is drawn a little nearer.
        gl.enable(gl.POLYGON_OFFSET_FILL);
        gl.polygonOffset(-4, -4);
        gl.drawElements(gl.TRIANGLES, part.array.count, gl.UNSIGNED_INT, 0);
        gl.disable(gl.POLYGON_OFFSET_FILL);
        return;
      }
      gl.enable(gl.BLEND);
      gl.depthMask(false);
      gl.enable(gl.CULL_FACE);
      for (const face of [gl.FRONT, gl.BACK]) {
        gl.cullFace(face);
        gl.drawElements(gl.TRIANGLES, part.array.count, gl.UNSIGNED_INT, 0);
      }
      gl.disable(gl.CULL_FACE);
      gl.depthMask(true);
      gl.disable(gl.BLEND);
    });
    gl.bindVertexArray(null);
  }

  paintPlanes(matrix, state) {
    const { gl } = this;
    gl.enable(gl.BLEND);
    for (const name of VIEWS) {
      const view = this.page.views[name];
      if (!view?.sheet || !view.question) continue;
      const q = view.question, half = [(q.width / 2) * q.spacing, (q.height / 2) * q.spacing];
      const corner = (i, j) => add(q.centre, add(scaled(q.right, i * half[0]), scaled(q.down, j * half[1])));
      const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
      if (name === state.active) this.paintPicture(matrix, view, corners);
      this.paintLoop(matrix, corners, rgb(VIEW_COLOURS[name]).map((v) => v / 255), 0.9);
    }
    const there = this.page.measured?.there ? this.page.measured.stacks : [];
    for (const stack of there) {
      // Of dense stacks only some, so that they do not hide the surfaces.
      const every = Math.ceil(stack.shape[2] / MOST_OUTLINES);
      outlines([stack]).forEach((loop, k) => { if (k % every === 0) this.paintLoop(matrix, loop, [0.6, 0.65, 0.7], 0.28); });
    }
    gl.disable(gl.BLEND);
  }

  paintPicture(matrix, view, corners) {
    const { gl } = this, use = this.planes;
    if (!this.texture) this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, view.picture);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    const texels = new Float32Array([0, 0, 1, 0, 1, 1, 0, 1]);
    const array = vertexArray(gl, [new Float32Array(corners.flat()), texels], [3, 2], new Uint32Array([0, 1, 2, 0, 2, 3]));
    gl.useProgram(use.made);
    gl.uniformMatrix4fv(use.at("view"), false, matrix);
    gl.uniform1f(use.at("alpha"), 0.9);
    gl.bindVertexArray(array.made);
    gl.drawElements(gl.TRIANGLES, 6, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
    array.free();
  }

  paintLoop(matrix, corners, colour, alpha) {
    const { gl } = this, use = this.linesProgram;
    const array = vertexArray(gl, [new Float32Array(corners.flat()), new Float32Array(2 * corners.length)], [3, 2]);
    gl.useProgram(use.made);
    gl.uniformMatrix4fv(use.at("view"), false, matrix);
    gl.uniform3fv(use.at("colour"), colour);
    gl.uniform1f(use.at("alpha"), alpha);
    gl.bindVertexArray(array.made);
    gl.drawArrays(gl.LINE_LOOP, 0, corners.length);
    gl.bindVertexArray(null);
    array.free();
  }
}
