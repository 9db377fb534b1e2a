// What the host's signature debugger imports: the package, and a signature by any key. Not part of the package.
import { type Exports, use } from "./core.js";
import { inlined } from "./inlined.js";

export { sign, StandardVerifier, Verifier } from "./core.js";

const module = inlined();
use(module);

// An instance of its own: the verifiers keep their keys in the slots of theirs.
const wasm = new WebAssembly.Instance(module).exports as unknown as Exports;
// The places in the module's input: src/wasm.rs.
const PIECE_BYTES = 65_536;
const SIGNATURE_AT = PIECE_BYTES + 264 + 16;
const SLOT = 0;
const decoder = new TextDecoder();

/**
 * HMAC-SHA256 of `parts` in a row, in lowercase hex, by any key of 1 to 65,536 bytes: tells which key and which message
 * a wrong signature was made with.
 */
export function mac(key: Uint8Array, ...parts: readonly Uint8Array[]): string {
  const input = new Uint8Array(wasm.memory.buffer, wasm.input());
  input.set(key);
  wasm.prepare(SLOT, key.length);
  input.fill(0, 0, key.length);
  wasm.begin(SLOT);
  for (const part of parts) {
    for (let at = 0; at < part.length; at += PIECE_BYTES) {
      const piece = part.subarray(at, at + PIECE_BYTES);
      input.set(piece);
      wasm.update(piece.length);
    }
  }
  const length = wasm.sign();
  return decoder.decode(input.subarray(SIGNATURE_AT, SIGNATURE_AT + length));
}
