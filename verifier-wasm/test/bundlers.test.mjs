// What bundlers make of the package, with everything dropped that nothing uses, run in Node.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";

import { build as esbuild } from "esbuild";
import { build as vite } from "vite";
import webpack from "webpack";

import { expected } from "./runtimes/expected.mjs";

const entry = join(import.meta.dirname, "runtimes/print.mjs");
const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "bundles-"));
after(() => rmSync(folder, { recursive: true }));
// A bundle has to be whole: no package is in reach.
writeFileSync(join(folder, "package.json"), "{}");

const common = { entryPoints: [entry], bundle: true, minify: true, platform: "node", logLevel: "silent" };
const bundlers = {
  "esbuild.mjs": (outfile) => esbuild({ ...common, format: "esm", outfile }),
  "esbuild.cjs": (outfile) => esbuild({ ...common, format: "cjs", outfile }),
  "webpack.cjs": () =>
    promisify(webpack)({
      mode: "production",
      target: "node",
      entry,
      output: { path: folder, filename: "webpack.cjs" },
    }).then((stats) => assert.ok(!stats.hasErrors(), stats.toString())),
  "vite.mjs": () =>
    vite({
      configFile: false,
      logLevel: "silent",
      ssr: { noExternal: true },
      build: { ssr: entry, outDir: folder, emptyOutDir: false, minify: true, rollupOptions: { output: { entryFileNames: "vite.mjs" } } },
    }),
  "bun.mjs": (outfile) =>
    run("node_modules/.bin/bun", ["build", entry, "--target=node", "--minify", `--outfile=${outfile}`], { cwd: import.meta.dirname }),
};

for (const [file, bundle] of Object.entries(bundlers)) {
  test(file, async () => {
    await bundle(join(folder, file));
    const { stdout } = await run(process.execPath, [join(folder, file)], { cwd: folder, timeout: 60_000 });
    assert.deepEqual(JSON.parse(stdout), expected);
  });
}

test("an application that does not use it has nothing of it", async () => {
  const contents = 'import "@revnoxa/webhook-verifier";\nimport { verifyRequest } from "@revnoxa/webhook-verifier/fetch";';
  const { outputFiles } = await esbuild({ ...common, entryPoints: [], stdin: { contents, resolveDir: import.meta.dirname }, format: "esm", write: false });
  assert.equal(outputFiles[0].text, "");
});
