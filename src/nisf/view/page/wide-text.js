// Bytes that stand in the page as text; see nisf.view.wide_text.

const DIGITS = 63000, FIRST = 0x100, PAIRS = 0xd800, SKIPPED = 0x800, BITS = 31;

/** The first `count` bytes of a text. */
export function bytesOf(text, count) {
  if (text.length !== 2 * Math.ceil((8 * count) / BITS)) throw new Error("The file is damaged.");
  const out = new Uint8Array(count);
  const digit = (n) => {
    const code = text.charCodeAt(n);
    return (code >= PAIRS ? code - SKIPPED : code) - FIRST;
  };
  // Bits that wait for their byte: 7 at most, and 31 new ones, so that a double holds them.
  let waiting = 0, bits = 0, at = 0;
  for (let n = 0; n < text.length; n += 2) {
    waiting = waiting * 2147483648 + digit(n) * DIGITS + digit(n + 1);
    bits += BITS;
    while (bits >= 8) {
      bits -= 8;
      const byte = Math.floor(waiting / 2 ** bits);
      if (at < count) out[at++] = byte;
      waiting -= byte * 2 ** bits;
    }
  }
  return out;
}
