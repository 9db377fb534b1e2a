// ./fetch in route handlers of Next.js, in its Node runtime and in its edge runtime, as `next build` bundles them.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { receives, says_the_body_is_read } from "./receivers.mjs";
import { expected } from "./runtimes/expected.mjs";

const next = join(import.meta.dirname, "node_modules/next/dist/bin/next");
const options = { cwd: join(import.meta.dirname, "next"), env: { ...process.env, NEXT_TELEMETRY_DISABLED: "1" } };
let server;
let url;

before(async () => {
  await promisify(execFile)(process.execPath, [next, "build"], { ...options, timeout: 240_000 });
  server = spawn(process.execPath, [next, "start", "--hostname", "127.0.0.1", "--port", "0"], { ...options, stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout, signal: AbortSignal.timeout(60_000) })) {
    url ??= /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
    if (url) break;
  }
  server.stdout.resume();
});

after(async () => {
  if (!server) return;
  server.kill();
  await once(server, "exit");
});

for (const runtime of ["node", "edge"]) {
  test(`a route handler in the ${runtime} runtime`, async () => {
    const verdicts = await fetch(`${url}/${runtime}`);
    assert.deepEqual(await verdicts.json(), { verdicts: expected, edge: runtime === "edge" });
    await receives(`${url}/${runtime}`);
    await says_the_body_is_read(`${url}/${runtime}?read`, /Call verifyRequest first|request\.clone\(\)/);
    await receives(`${url}/${runtime}?clone`);
  });
}

// `next start` would compile it from bytes; the edge networks do not.
test("for the edge, the wasm module is a file of its own", () => {
  const folder = join(options.cwd, "node_modules/.next/server/edge");
  const files = readdirSync(folder, { recursive: true });
  assert.equal(files.filter((file) => file.endsWith(".wasm")).length, 1);
  for (const file of files.filter((file) => file.endsWith(".js"))) {
    assert.ok(!readFileSync(join(folder, file), "utf8").includes(btoa("\0asm\x01\0")), `${file} has it, too`);
  }
});
