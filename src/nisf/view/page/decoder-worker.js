// A worker that decodes: it is told the file's contents once, then places and times.
import { Decoder } from "./decoder.js";
import { features, numbers, unpacked } from "./unpacking.js";

let decoder = null, contents = null, data = null, tables = null;

async function begin(message) {
  ({ contents, data } = message);
  const names = ["each0", "each1", "join0", "join1", "head", "direct"].flatMap((n) => [`${n}.weight`, `${n}.bias`]);
  const weights = {};
  for (const name of names) if (contents.chunks[name]) weights[name] = await unpacked(data, contents.chunks[name]);
  tables = {};
  for (const name of ["basis", "middle", "taps 0", "taps 1", "taps 2"]) tables[name] = await unpacked(data, contents.chunks[name]);
  decoder = new Decoder(contents.decoder, weights, (t) => phases.get(t));
}

const phases = new Map(), known = new Map();
const KEPT = 12;

/** A phase's whole numbers, those of the phases that predict it first. */
async function numbersOf(t) {
  if (!known.has(t)) {
    const entry = contents.chunks[`features ${t}`], { coding } = contents.decoder, earlier = [];
    if (entry.before) {
      await numbersOf(t - 1);
      for (let back = 1; back <= entry.before; back++) earlier.push(await numbersOf(t - back));
    }
    const sizes = coding.shapes[t].map((shape) => shape.map((pixels) => pixels / coding.block));
    const { values } = await unpacked(data, entry);
    known.set(t, numbers(values, entry, tables[`taps ${entry.before}`], earlier, sizes, coding));
    if (known.size > KEPT) known.delete(known.keys().next().value);
  }
  return known.get(t);
}

/** Unpacks the phases that a time needs; a few are kept. */
async function ready(time) {
  for (const [t] of decoder.weightsAt(time)) {
    if (phases.has(t)) continue;
    const { block } = contents.decoder.coding;
    phases.set(t, (await numbersOf(t)).map((found) => features(found, tables.basis, tables.middle, block)));
    if (phases.size > KEPT) phases.delete(phases.keys().next().value);
  }
}

let turn = Promise.resolve();

self.onmessage = ({ data: message }) => {
  turn = turn.then(async () => {
    if (message.contents) {
      await begin(message);
      return;
    }
    await ready(message.time);
    const answer = decoder.answer(message.places, message.time);
    self.postMessage({ number: message.number, answer }, [answer.buffer]);
  }).catch((error) => self.postMessage({ number: message.number, error: String(error.message || error) }));
};
