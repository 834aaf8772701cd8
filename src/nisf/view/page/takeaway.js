// What can be taken away: a picture, a film, a link, the surfaces, the plane as NIfTI.
import { gif } from "./gif.js";
import { hashOf } from "./store.js";

/** Offers a file for download. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}

const stem = (page) => page.info.name.replace(/[^\w.-]+/g, "_");

function chosenCanvas(page) {
  const { active } = page.store.state;
  return active === "solid" ? page.solid.canvas : page.views[active].canvas;
}

export async function savePicture(page) {
  if (page.store.state.active === "solid") page.solid.paint();
  const blob = await new Promise((done) => chosenCanvas(page).toBlob(done, "image/png"));
  save(blob, `${stem(page)}.png`);
  page.say("The picture was saved.");
}

export async function saveLink(page) {
  const address = location.href.split("#")[0] + hashOf(page.store.state);
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address);
    page.say("The link is on the clipboard. It restores this view while this viewer runs.");
  } catch {
    page.say("The link is in the address bar.");
  }
}

/** One cycle of the chosen view as WebM, frame by frame. */
export async function saveCine(page) {
  const canvas = chosenCanvas(page), { store } = page;
  if (!canvas.captureStream || !window.MediaRecorder) throw new Error("This browser cannot record films.");
  const type = ["video/webm;codecs=vp9", "video/webm", "video/mp4"].find((t) => MediaRecorder.isTypeSupported(t));
  const stream = canvas.captureStream(0), [track] = stream.getVideoTracks();
  const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 8e6 }), parts = [];
  recorder.ondataavailable = (event) => { if (event.data.size) parts.push(event.data); };
  const ended = new Promise((done) => { recorder.onstop = done; });
  const { times } = page.info, cycle = page.info.stacks[0]?.cycle_ms || 1000, before = store.state.time;
  store.set({ playing: false });
  // Every frame is answered before the film begins, so that it runs at an even pace.
  for (const time of times) await page.settled(time);
  recorder.start();
  for (let round = 0; round < 2; round++) {
    for (const time of times) {
      await page.settled(time);
      track.requestFrame();
      await new Promise((done) => setTimeout(done, cycle / times.length));
    }
  }
  recorder.stop();
  await ended;
  store.set({ time: before });
  save(new Blob(parts, { type }), `${stem(page)}.${type.includes("mp4") ? "mp4" : "webm"}`);
  page.say("The film was saved: two cycles.");
}

const GIF_PIXELS = 480;

/** One cycle of the chosen view as GIF. */
export async function saveGif(page) {
  const { store } = page, { times } = page.info, cycle = page.info.stacks[0]?.cycle_ms || 1000, before = store.state.time;
  store.set({ playing: false });
  const source = chosenCanvas(page), shrink = Math.min(1, GIF_PIXELS / Math.max(source.width, source.height));
  const small = Object.assign(document.createElement("canvas"), { width: Math.round(source.width * shrink), height: Math.round(source.height * shrink) });
  const context = small.getContext("2d", { willReadFrequently: true }), pictures = [];
  for (const time of times) {
    await page.settled(time);
    context.drawImage(source, 0, 0, small.width, small.height);
    pictures.push(context.getImageData(0, 0, small.width, small.height));
  }
  store.set({ time: before });
  save(new Blob(gif(pictures, cycle / times.length), { type: "image/gif" }), `${stem(page)}.gif`);
  page.say("The film was saved as GIF: one cycle, repeated.");
}

/** Binary STL of all structures that are shown, in world mm. */
export function stl(parts, hidden) {
  const shown = parts.filter((part, k) => part && !hidden.includes(k));
  const count = shown.reduce((sum, part) => sum + part.corners.length / 3, 0);
  const view = new DataView(new ArrayBuffer(84 + 50 * count));
  view.setUint32(80, count, true);
  let at = 84;
  for (const { places, corners } of shown) {
    for (let t = 0; t < corners.length; t += 3, at += 50) {
      for (let c = 0; c < 3; c++) {
        for (let d = 0; d < 3; d++) view.setFloat32(at + 12 + 12 * c + 4 * d, places[3 * corners[t + c] + d], true);
      }
    }
  }
  return view.buffer;
}

export function saveMesh(page) {
  const parts = page.solid.shown();
  if (!parts) throw new Error("The surfaces are not ready yet.");
  save(new Blob([stl(parts, page.store.state.hidden)], { type: "model/stl" }), `${stem(page)}.stl`);
  page.say("The surfaces were saved as STL, in mm of the patient.");
}

/** A plane's classes as NIfTI-1: columns, then rows, one voxel thick. */
export function nifti(question, sheet) {
  const { width, height } = sheet, view = new DataView(new ArrayBuffer(352 + width * height));
  const set16 = (at, v) => view.setInt16(at, v, true), set32 = (at, v) => view.setFloat32(at, v, true);
  view.setInt32(0, 348, true);
  [3, width, height, 1, 1, 1, 1, 1].forEach((v, i) => set16(40 + 2 * i, v));
  set16(70, 2); // uint8
  set16(72, 8);
  [1, question.spacing, question.spacing, question.spacing, 1, 1, 1, 1].forEach((v, i) => set32(76 + 4 * i, v));
  set32(108, 352);
  set32(112, 1);
  view.setUint8(123, 2); // mm
  set16(252, 0);
  set16(254, 1);
  const { right, down, centre, spacing } = question;
  const across = [right[1] * down[2] - right[2] * down[1], right[2] * down[0] - right[0] * down[2], right[0] * down[1] - right[1] * down[0]];
  for (let i = 0; i < 3; i++) {
    const origin = centre[i] - spacing * ((right[i] * (width - 1)) / 2 + (down[i] * (height - 1)) / 2);
    [right[i] * spacing, down[i] * spacing, across[i] * spacing, origin].forEach((v, j) => set32(280 + 16 * i + 4 * j, v));
  }
  "n+1".split("").forEach((c, i) => view.setUint8(344 + i, c.charCodeAt(0)));
  new Uint8Array(view.buffer, 352).set(sheet.label);
  return view.buffer;
}

export async function saveNifti(page) {
  const { state } = page.store, view = page.views[state.active === "solid" ? "a" : state.active];
  if (!view.sheet || view.sheet.step > 1) throw new Error("The plane is not complete yet.");
  const stream = new Blob([nifti(view.question, view.sheet)]).stream().pipeThrough(new CompressionStream("gzip"));
  save(await new Response(stream).blob(), `${stem(page)}_plane.nii.gz`);
  page.say("The classes on this plane were saved as NIfTI.");
}
