// Makes the package's folder from the wasm module in it: node build.mjs FOLDER VERSION. `cargo run -p build-npm` calls it.
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { build } from "esbuild";

const [folder, version] = process.argv.slice(2);
const dist = join(folder, "dist");

/** How an entry comes to the wasm module. */
const wasm = (specifier) => ({
  name: "wasm",
  setup(build) {
    // In hexadecimal digits, which gzip makes a fifth smaller than base64; without a path, which the output would show.
    build.onResolve({ filter: /^wasm:hex$/ }, () => ({ path: "verifier.wasm", namespace: "hex" }));
    build.onLoad({ filter: /.*/, namespace: "hex" }, ({ path }) => ({
      contents: readFileSync(join(dist, path), "hex"),
      loader: "text",
    }));
    build.onResolve({ filter: /^wasm:module$/ }, () => ({ path: specifier, external: true }));
  },
});

const common = { bundle: true, platform: "neutral", target: "es2022", charset: "utf8", logLevel: "warning" };
const external = ["@revnoxa/webhook-verifier", "node:*"];
for (const [format, extension] of [["esm", "js"], ["cjs", "cjs"]]) {
  for (const entry of ["index", "fetch", "node", "fastify"]) {
    const out = { format, external, outfile: join(dist, `${entry}.${extension}`), plugins: [wasm()] };
    await build({ ...common, ...out, entryPoints: [`js/${entry}.ts`] });
  }
}
for (const [entry, specifier] of [["workerd", "./verifier.wasm"], ["edge-light", "./verifier.wasm?module"]]) {
  const out = { format: "esm", outfile: join(dist, `${entry}.js`), plugins: [wasm(specifier)] };
  await build({ ...common, ...out, entryPoints: ["js/module.ts"] });
}
await build({ ...common, format: "esm", external, entryPoints: ["js/cli.ts"], outfile: join(dist, "cli.js") });
// Beside the package: what the host serves to its signature debugger.
const served = { format: "esm", plugins: [wasm()], outfile: join(folder, "../webhook-verifier.js") };
await build({ ...common, ...served, entryPoints: ["js/debugger.ts"] });

// The types, each for import and for require.
const types = join(folder, "types");
const tsc = join("node_modules", "typescript", "bin", "tsc");
const checked = spawnSync(process.execPath, [tsc, "-p", ".", "--outDir", types], { stdio: "inherit" });
if (checked.status !== 0) process.exit(1);
for (const [from, to] of [["core", "index"], ["request", "request"], ["fetch", "fetch"], ["node", "node"], ["fastify", "fastify"]]) {
  const text = readFileSync(join(types, `${from}.d.ts`), "utf8");
  writeFileSync(join(dist, `${to}.d.ts`), text);
  writeFileSync(join(dist, `${to}.d.cts`), text.replaceAll('./request.js"', './request.cjs"'));
}
rmSync(types, { recursive: true });

const { devDependencies, ...manifest } = JSON.parse(readFileSync("package.json", "utf8"));
const { name, ...rest } = manifest;
writeFileSync(join(folder, "package.json"), `${JSON.stringify({ name, version, ...rest }, null, 2)}\n`);
copyFileSync("README.md", join(folder, "README.md"));
cpSync("docs", join(folder, "docs"), { recursive: true });
console.log(readdirSync(dist).sort().join(" "));
