// A worker that decodes: it is told the file's contents once, then places and times.
import { Decoder } from "./decoder.js";
import { features, unpacked } from "./unpacking.js";

let decoder = null, contents = null, data = null;

async function begin(message) {
  ({ contents, data } = message);
  const names = ["each0", "each1", "join0", "join1", "head", "direct"].flatMap((n) => [`${n}.weight`, `${n}.bias`]);
  const weights = {};
  for (const name of names) if (contents.chunks[name]) weights[name] = await unpacked(data, contents.chunks[name]);
  decoder = new Decoder(contents.decoder, weights, (t) => phases.get(t));
}

const phases = new Map();

/** Inflates the phases that a time needs; a few are kept. */
async function ready(time) {
  for (const [t] of decoder.weightsAt(time)) {
    if (phases.has(t)) continue;
    const tables = [];
    for (let k = 0; k < contents.decoder.maps[t].length; k++) {
      tables.push(features(await unpacked(data, contents.chunks[`features ${t} ${k}`]), contents.decoder));
    }
    phases.set(t, tables);
    if (phases.size > 12) phases.delete(phases.keys().next().value);
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
