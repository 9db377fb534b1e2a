// What README.md says is true: each of its blocks runs, in a folder where the package was installed as it says.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { sign, WebhookVerificationError } from "@revnoxa/webhook-verifier";
import { build } from "esbuild";

const require = createRequire(import.meta.url);
const manifest = require.resolve("@revnoxa/webhook-verifier/package.json");
const packed = dirname(manifest);
const page = readFileSync(join(packed, "README.md"), "utf8");
const blocks = Array.from(page.matchAll(/^```(\w+)(?: file=(\S+))?\n(.*?)^```$/gms), ([, language, file, text]) => ({ language, file, text }));
const SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OLD = "whsec_HhwaGBYUEhAODAoIBgQCAAECAwQFBgcICQoLDA0ODxA=";
Object.assign(process.env, { WEBHOOK_SECRET: SECRET, OLD_WEBHOOK_SECRET: OLD });

const folder = realpathSync(mkdtempSync(join(tmpdir(), "readme-")));
after(() => rmSync(folder, { recursive: true }));
const shell = (script) =>
  execFileSync("bash", ["-euc", script], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, npm_config_offline: "true", npm_config_audit: "false", npm_config_fund: "false" },
    stdio: ["ignore", "pipe", "inherit"],
  });
const [install, ...scripts] = blocks.filter(({ language }) => language === "sh").map(({ text }) => text);
writeFileSync(join(folder, "package.json"), '{"type":"module"}');
// As from a registry: its files are packed and unpacked.
shell(install.replace("@revnoxa/webhook-verifier", `--install-links '${packed}'`));
for (const framework of ["express", "fastify"]) {
  symlinkSync(realpathSync(join(import.meta.dirname, "node_modules", framework)), join(folder, "node_modules", framework));
}
const files = blocks.filter(({ file }) => file !== undefined);
for (const { file, text } of files) writeFileSync(join(folder, file), text);
const load = (file) => import(pathToFileURL(join(folder, file)).href);

const BODY = '{"type": "incident.created", "title": "Käse"}';

/** What a receiver prints about a webhook, if it answers as the page says. */
async function receives(t, send) {
  const printed = t.mock.method(console, "log", () => {});
  const post = async (headers, body = BODY) => (await send({ method: "POST", headers: { "content-type": "application/json", ...headers }, body })).status;
  assert.equal(await post(sign(SECRET, BODY, { id: "evt_7" })), 200);
  assert.deepEqual(printed.mock.calls.at(-1)?.arguments, ["evt_7", JSON.parse(BODY)]);
  assert.equal(await post(sign(OLD, BODY)), 401);
  assert.equal(await post({}), 401);
  assert.equal(await post(sign(SECRET, BODY), JSON.stringify(JSON.parse(BODY))), 401);
  assert.equal(await post(sign(SECRET, BODY, { timestamp: 1_767_225_600 })), 401);
  const large = " ".repeat((1 << 20) + 1);
  assert.equal(await post(sign(SECRET, large), large), 413);
  assert.equal(printed.mock.callCount(), 1);
}

/** The servers that blocks start listen on a free port. */
const servers = [];
const { listen } = Server.prototype;
Server.prototype.listen = function (where, ...rest) {
  servers.push(this);
  return listen.call(this, typeof where === "object" ? { ...where, port: 0 } : 0, ...rest);
};
after(() => {
  for (const server of servers) server.close();
});

test("the fetch handler", async (t) => {
  const { POST } = await load("fetch.js");
  await receives(t, (init) => POST(new Request("http://localhost/webhooks", init)));
});

for (const file of ["express.js", "fastify.js", "node.js"]) {
  test(`the server in ${file}`, async (t) => {
    servers.length = 0;
    // What Express prints about a refused request, outside of production.
    t.mock.method(console, "error", () => {});
    await load(file);
    const [server] = servers;
    while (!server.listening) await new Promise((resolve) => setImmediate(resolve));
    t.after(() => (server.closeAllConnections(), server.close()));
    await receives(t, (init) => fetch(`http://localhost:${server.address().port}/webhooks`, init));
  });
}

test("anywhere else", async () => {
  const { receive } = await load("anywhere.js");
  assert.deepEqual(receive(BODY, sign(SECRET, BODY)), JSON.parse(BODY));
  assert.deepEqual(receive(Buffer.from(BODY), new Headers(sign(SECRET, BODY))), JSON.parse(BODY));
  assert.throws(() => receive(`${BODY} `, sign(SECRET, BODY)), { code: "no_match", statusCode: 401 });
});

test("two secrets", async () => {
  const { verifier } = await load("rotation.js");
  for (const secret of [SECRET, OLD]) verifier.verify(BODY, sign(secret, BODY));
  assert.throws(() => verifier.verify(BODY, sign(SECRET.replace("AAEC", "AAED"), BODY)), { code: "no_match" });
});

test("X-Revnoxa-Signature", async () => {
  const { isGenuine } = await load("body.js");
  assert.equal(isGenuine({ headers: sign(SECRET, BODY) }, BODY), true);
  assert.equal(isGenuine({ headers: sign(OLD, BODY) }, BODY), false);
  assert.equal(isGenuine({ headers: {} }, BODY), false);
});

test("the receiver's test", async (t) => {
  t.mock.method(console, "log", () => {});
  await load("receiver.test.js");
  const broken = files.find(({ file }) => file === "fetch.js").text.replace("verifyRequest(request, process.env.WEBHOOK_SECRET)", "({ json() {} })");
  mkdirSync(join(folder, "broken"));
  writeFileSync(join(folder, "broken/fetch.js"), broken);
  writeFileSync(join(folder, "broken/receiver.test.js"), files.find(({ file }) => file === "receiver.test.js").text);
  await assert.rejects(load("broken/receiver.test.js"), { name: "AssertionError" });
});

test("the shell prints what the page says", () => {
  assert.equal(scripts.length, 1);
  const expected = Array.from(scripts[0].matchAll(/^# (.*\n)/gm), ([, line]) => line).join("");
  assert.equal(shell(scripts[0]), expected);
});

test("every code, and what to answer", () => {
  const rows = Array.from(page.matchAll(/^\| `(\w+)` \| (\d+) \|/gm), ([, code, status]) => [code, Number(status)]);
  const declared = readFileSync(join(packed, "dist/index.d.ts"), "utf8").match(/WebhookVerificationErrorCode = ([^;]+);/)[1];
  assert.deepEqual(rows.map(([code]) => code).sort(), Array.from(declared.matchAll(/"(\w+)"/g), ([, code]) => code).sort());
  for (const [code, status] of rows) assert.equal(new WebhookVerificationError(code, "").statusCode, status, code);
});

test("every block is one that a test runs", () => {
  const run = ["fetch.js", "express.js", "fastify.js", "node.js", "anywhere.js", "rotation.js", "body.js", "receiver.test.js"];
  assert.deepEqual(files.map(({ file }) => file), run);
  // The toml and the rust block are for cargo: a test in Rust, and a doctest.
  const others = blocks.filter(({ file }) => file === undefined).map(({ language }) => language);
  assert.deepEqual(others, ["sh", "sh", "toml", "rust"]);
});

test("the sizes are kept, and are those on the page", async () => {
  const gzip = (bytes) => gzipSync(bytes, { level: 9 }).length;
  const wasm = gzip(readFileSync(join(packed, "dist/verifier.wasm")));
  assert.ok(wasm <= 4_500, `${wasm} bytes of wasm`);
  const contents = 'export { Verifier, StandardVerifier } from "@revnoxa/webhook-verifier"';
  const options = { bundle: true, minify: true, format: "esm", write: false };
  const { outputFiles } = await build({ stdin: { contents, resolveDir: folder }, ...options });
  const bundle = gzip(outputFiles[0].contents);
  assert.ok(bundle <= 7_000, `${bundle} bytes of a bundle`);
  const [, ofWasm, ofBundle] = page.match(/([\d.]+) KB of WebAssembly, ([\d.]+) KB with its JavaScript/);
  assert.ok(Math.abs(ofWasm - wasm / 1000) < 0.11 && Math.abs(ofBundle - bundle / 1000) < 0.11, `${wasm}, ${bundle}`);
});
