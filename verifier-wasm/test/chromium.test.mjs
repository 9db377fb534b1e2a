// A page that Vite builds, in headless Chromium, under a strict Content-Security-Policy.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { build } from "vite";

import { expected } from "./runtimes/expected.mjs";

const TYPES = { ".html": "text/html", ".js": "text/javascript" };
const folder = mkdtempSync(join(tmpdir(), "page-"));
let server;

before(async () => {
  await build({
    root: join(import.meta.dirname, "runtimes/page"),
    configFile: false,
    logLevel: "warn",
    build: { outDir: join(folder, "site"), emptyOutDir: true },
  });
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://page.example");
    const file = pathname === "/" ? "/index.html" : pathname;
    response.setHeader("content-security-policy", searchParams.get("policy") ?? "");
    response.setHeader("content-type", TYPES[extname(file)] ?? "text/plain");
    try {
      response.end(readFileSync(join(folder, "site", file)));
    } catch {
      response.writeHead(404).end();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
});

after(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

/** What the page says when it has run. */
async function page(policy) {
  const url = `http://127.0.0.1:${server.address().port}/?policy=${encodeURIComponent(policy)}`;
  const profile = mkdtempSync(join(folder, "profile-"));
  const quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const headless = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", ...quiet, `--user-data-dir=${profile}`];
  const { stdout } = await promisify(execFile)("chromium", [...headless, "--virtual-time-budget=10000", "--dump-dom", url], {
    timeout: 60_000,
  });
  const [, said] = /<pre id="verdicts">(.*?)<\/pre>/s.exec(stdout) ?? assert.fail(stdout);
  return said;
}

test("a page verifies when its policy allows wasm, and nothing else", async () => {
  assert.deepEqual(JSON.parse(await page("default-src 'self'; script-src 'self' 'wasm-unsafe-eval'")), expected);
});

test("a page whose policy does not allow wasm is told so", async () => {
  assert.match(await page("default-src 'self'; script-src 'self'"), /^CompileError: .*Content Security Policy/);
});
