import hex from "wasm:hex";

/** The wasm module that the bundle holds, compiled. @internal */
export function inlined(): WebAssembly.Module {
  return new WebAssembly.Module(decoded());
}

/** Eight digits at a time: digit by digit it would be a third of the time to load this. */
function decoded(): Uint8Array<ArrayBuffer> {
  const words = new DataView(new ArrayBuffer(Math.ceil(hex.length / 8) * 4));
  for (let at = 0; at < hex.length; at += 8) {
    words.setUint32(at / 2, Number.parseInt(hex.slice(at, at + 8).padEnd(8, "0"), 16));
  }
  return new Uint8Array(words.buffer, 0, hex.length / 2);
}
