// workerd, which compiles no wasm from bytes: a worker as Cloudflare's tools bundle it, behind real HTTP.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { sign } from "@revnoxa/webhook-verifier";
import { build } from "esbuild";
import workerd from "workerd";

import { expected } from "./runtimes/expected.mjs";

const SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const folder = mkdtempSync(join(tmpdir(), "worker-"));
let server;
let url;

before(async () => {
  await build({
    entryPoints: [join(import.meta.dirname, "runtimes/worker.mjs")],
    outfile: join(folder, "worker.js"),
    bundle: true,
    format: "esm",
    conditions: ["workerd", "worker", "browser"],
    loader: { ".wasm": "copy" },
    assetNames: "[name]",
  });
  copyFileSync(join(import.meta.dirname, "runtimes/workerd.capnp"), join(folder, "workerd.capnp"));
  server = spawn(workerd.default, ["serve", "workerd.capnp", "--control-fd=3"], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit", "pipe"],
  });
  // It tells the port that it was given.
  const [listening] = await once(server.stdio[3], "data", { signal: AbortSignal.timeout(30_000) });
  url = `http://127.0.0.1:${JSON.parse(listening).port}/`;
});

after(async () => {
  server.kill();
  await once(server, "exit");
  rmSync(folder, { recursive: true });
});

test("workerd verifies", async () => {
  assert.deepEqual(await (await fetch(url)).json(), expected);
});

test("a worker receives webhooks", async () => {
  const headers = sign(SECRET, '{"number":7}', { id: "evt_7" });
  const send = async (body) => {
    const response = await fetch(url, { method: "POST", body, headers });
    return [response.status, await response.json()];
  };
  assert.deepEqual(await send('{"number":7}'), [200, { id: "evt_7", number: 7 }]);
  assert.deepEqual(await send('{"number":8}'), [401, { code: "no_match" }]);
  assert.deepEqual(await send("x".repeat((1 << 20) + 1)), [413, { code: "body_too_large" }]);
});
