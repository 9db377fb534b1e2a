// What the parts of the diagnosis share: findings and bytes.

// What was found out: `kind` is its stable name; `level` is `ok`, `problem`, or `note` for what is no fault by itself;
// `text` says what is so, `fix` what to do about it.
export const right = (kind, text) => ({ kind, level: "ok", text });
export const problem = (kind, text, fix) => ({ kind, level: "problem", text, fix });
export const note = (kind, text, fix) => ({ kind, level: "note", text, fix });

const encoder = new TextEncoder();

/** A text's UTF-8 bytes. */
export const utf8 = (text) => encoder.encode(text);

/** The bytes of base64 in either alphabet, padded or not; undefined for any other text. */
export function fromBase64(text) {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return undefined;
  try {
    return binary(atob(text.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, "")));
  } catch {
    return undefined;
  }
}

/** Bytes of which each character of a text stands for one; undefined when one cannot. */
export function binary(text) {
  if (/[^\0-\xff]/.test(text)) return undefined;
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Bytes in lowercase hex. */
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The text of UTF-8 bytes, a byte order mark included; undefined when they are something else. */
export function fromUtf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
