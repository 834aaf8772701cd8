// Where answers come from: the server that nisf view runs.
import { askServer } from "./packets.js";

async function last(verb, question, signal) {
  let answer = null;
  await askServer(verb, question, (header, buffer) => { answer = { header, buffer }; }, signal);
  if (!answer) throw new DOMException("a newer question took its place", "AbortError");
  return answer;
}

/** The arrays of a plane's answer. */
export function sheetOf(header, buffer, classes) {
  const { width, height } = header, n = width * height;
  return {
    ...header,
    intensity: new Uint16Array(buffer, 0, n),
    label: new Uint8Array(buffer, 2 * n, n),
    probability: Array.from({ length: classes }, (_, k) => new Uint8Array(buffer, (3 + k) * n, n)),
  };
}

export class ServerSource {
  async cases() {
    return (await last("cases", {})).header.cases;
  }

  /** Opens a case; `onProgress(sentence, fraction, fit)` tells how far it is, and shows a fit's steps. */
  async open(number, onProgress, signal) {
    let info = null;
    await askServer("open", { case: number }, (header, buffer) => {
      if (header.progress) onProgress(header.progress, header.fraction, header.fit && { ...header.fit, buffer });
      else info = header;
    }, signal);
    if (!info) throw new DOMException("another case is being opened", "AbortError");
    this.number = number;
    this.info = info;
    return info;
  }

  async plane(question, onSheet, signal) {
    const classes = this.info.labels.length;
    await askServer("plane", { ...question, case: this.number },
      (header, buffer) => onSheet(sheetOf(header, buffer, classes)), signal);
  }

  async point(position, time) {
    return (await last("point", { case: this.number, position, time })).header;
  }

  async view(name, time) {
    return (await last("view", { case: this.number, name, time })).header;
  }

  /** Probabilities of each structure in a box (uint8, first axis fastest). */
  async volume(time, later) {
    const { header, buffer } = await last(later ? "later" : "volume", { case: this.number, time });
    return { ...header, values: new Uint8Array(buffer) };
  }

  async measured(stack, frame) {
    const { header, buffer } = await last("measured", { case: this.number, stack, frame });
    return { ...header, values: new Uint16Array(buffer) };
  }

  async curves() {
    return (await last("curves", { case: this.number })).header;
  }

  /** Measures with intervals, bands of the volumes, the light; as far as they are known. */
  async findings() {
    return (await last("findings", { case: this.number })).header;
  }

  /** Standard deviation of the classes' probabilities over draws, on a coarser lattice of the plane. */
  async spread(question, onSheet, signal) {
    await askServer("spread", { ...question, case: this.number },
      (header, buffer) => onSheet({ ...header, deviation: new Uint8Array(buffer) }), signal);
  }

  /** The strokes that the case follows; given a list, it follows that from now on. */
  async strokes(strokes) {
    return (await last("strokes", { case: this.number, ...(strokes && { strokes }) })).header.strokes;
  }
}
