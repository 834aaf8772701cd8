// A worker that decodes: it is told the file's contents once, then places and times.
import { Decoder } from "./decoder.js";
import { features, unpacked, whole } from "./unpacking.js";

let decoder = null, contents = null, data = null;

async function begin(message) {
  ({ contents, data } = message);
  const names = ["each0", "each1", "join0", "join1", "head", "direct"].flatMap((n) => [`${n}.weight`, `${n}.bias`]);
  const weights = {};
  for (const name of names) if (contents.chunks[name]) weights[name] = await unpacked(data, contents.chunks[name]);
  decoder = new Decoder(contents.decoder, weights, (t) => phases.get(t));
}

const phases = new Map(), numbers = new Map();
const KEPT = 12;

/** A phase's whole numbers, those of the phases that it follows first. */
async function numbersOf(t) {
  if (!numbers.has(t)) {
    const count = contents.decoder.maps[t].length, entries = Array.from({ length: count }, (_, k) => contents.chunks[`features ${t} ${k}`]);
    const before = entries.some((entry) => entry.follows) ? await numbersOf(t - 1) : null, found = [];
    for (const [k, entry] of entries.entries()) found.push(whole(await unpacked(data, entry), before?.[k]));
    numbers.set(t, found);
    if (numbers.size > KEPT) numbers.delete(numbers.keys().next().value);
  }
  return numbers.get(t);
}

/** Inflates the phases that a time needs; a few are kept. */
async function ready(time) {
  for (const [t] of decoder.weightsAt(time)) {
    if (phases.has(t)) continue;
    phases.set(t, (await numbersOf(t)).map((found) => features(found, contents.decoder)));
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
