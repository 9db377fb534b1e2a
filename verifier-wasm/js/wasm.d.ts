// build.mjs brings it.
declare module "wasm:hex" {
  const hex: string;
  export default hex;
}
declare module "wasm:module" {
  const module: WebAssembly.Module;
  export default module;
}
