// Questions to the server and its answers: packets of a JSON header and numbers, in a stream.

function joined(a, b) {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** Takes whole packets off the front of `bytes`; what is left is returned. */
function taken(bytes, onPacket) {
  let rest = bytes;
  while (rest.length >= 8) {
    const view = new DataView(rest.buffer, rest.byteOffset, 8);
    const header = view.getUint32(0, true), payload = view.getUint32(4, true);
    const size = 8 + header + payload;
    if (rest.length < size) break;
    const text = new TextDecoder().decode(rest.subarray(8, 8 + header));
    onPacket(JSON.parse(text), rest.slice(8 + header, size).buffer);
    rest = rest.subarray(size);
  }
  return rest;
}

// Tells this page's questions from those of other tabs: a newer question takes the place of an older one.
const PAGE = Math.random().toString(36).slice(2);

/** Asks the server; `onPacket(header, buffer)` gets each answer. Rejects with a sentence on errors. */
export async function askServer(verb, question, onPacket, signal) {
  let response;
  try {
    response = await fetch(`/api/${verb}`, { method: "POST", body: JSON.stringify({ ...question, page: PAGE }), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The viewer's server does not answer. Was it stopped? Start nisf view again.");
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error || `The server answered ${response.status}.`);
  }
  const reader = response.body.getReader();
  let rest = new Uint8Array(0), failure = null;
  const check = (header, buffer) => {
    if (header.error) failure = new Error(header.error);
    else if (!header.dropped) onPacket(header, buffer);
  };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest = taken(rest.length ? joined(rest, value) : value, check);
  }
  if (failure) throw failure;
}
