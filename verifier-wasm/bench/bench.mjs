// The verifier's time beside others', its sizes and its start, with the goals for each:
//   cargo run -p build-npm && cd verifier-wasm/bench && npm ci && node bench.mjs
// An argument is the package's folder, if it is not in target/webhook-verifier/package.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { verify as octokitVerify } from "@octokit/webhooks-methods";
import { build } from "esbuild";
import { Webhook } from "standardwebhooks";
import { Webhook as Svix } from "svix";

const folder = resolve(process.argv[2] ?? new URL("../../target/webhook-verifier/package", import.meta.url).pathname);
const { StandardVerifier, Verifier } = await import(pathToFileURL(`${folder}/dist/index.js`).href);

const SIZES = [256, 1 << 10, 16 << 10, 1 << 20];
/** Of node:crypto's time, at the most. */
const OF_CRYPTO = [0.5, 1, 3, 3.5];
/** As fast as standardwebhooks, at the least. */
const OF_STANDARDWEBHOOKS = 3;
// Short ones, of which some are left alone by whatever else the machine does.
const ROUNDS = 80;
const BURST_MS = 2;
const STARTS = 20;

const key = randomBytes(32);
const secret = `whsec_${key.toString("base64")}`;

/** One verification by each contender, of one genuine request; each gets the body in the form that it takes quickest. */
function contenders(size) {
  const body = Buffer.from(JSON.stringify({ data: "x".repeat(size - 11) }));
  assert.equal(body.length, size);
  const text = body.toString();
  const timestamp = String(Math.floor(Date.now() / 1000));
  const hex = createHmac("sha256", secret).update(body).digest("hex");
  const base64 = createHmac("sha256", key).update(`evt_1.${timestamp}.`).update(body).digest("base64");
  // As Node's http gives them.
  const headers = {
    host: "example.com",
    "user-agent": "revnoxa-webhooks/0.1.0",
    accept: "*/*",
    "accept-encoding": "gzip, br",
    "content-type": "application/json",
    "content-length": String(size),
    "x-revnoxa-signature": hex,
    "x-revnoxa-event": "incident.created",
    "x-revnoxa-delivery": "dlv_01",
    "x-revnoxa-attempt": "1",
    "webhook-id": "evt_1",
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${base64}`,
  };
  const [verifier, standard] = [new Verifier(secret), new StandardVerifier(secret)];
  const [webhook, svix] = [new Webhook(secret), new Svix(secret)];
  const equal = (a, b) => a.length === b.length && timingSafeEqual(a, b);
  return {
    "Verifier": () => verifier.verify(body, headers["x-revnoxa-signature"]),
    "node:crypto, hex": () =>
      equal(createHmac("sha256", secret).update(body).digest(), Buffer.from(headers["x-revnoxa-signature"], "hex")),
    "@octokit/webhooks-methods": () => octokitVerify(secret, text, `sha256=${headers["x-revnoxa-signature"]}`),
    "StandardVerifier": () => (standard.verify(body, headers), true),
    "node:crypto, Standard": () => {
      const { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signature } = headers;
      const mac = createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest();
      return Math.abs(Date.now() / 1000 - time) < 300 && equal(mac, Buffer.from(signature.slice(3), "base64"));
    },
    "standardwebhooks": () => (webhook.verify(text, headers, { jsonParse: false }), true),
    "svix": () => (svix.verify(text, headers), true),
  };
}

/** Seconds of `count` verifications. */
async function burst(verify, count) {
  const start = performance.now();
  for (let i = 0; i < count; i += 1) {
    const given = verify();
    if (given !== true && (await given) !== true) throw new Error("not verified");
  }
  return (performance.now() - start) / 1000;
}

const least = (times) => Math.min(...times);
const median = (times) => times.toSorted((a, b) => a - b)[times.length >> 1];

/** The minimum and the median of each contender's time in microseconds, measured in turns. */
async function measure(size) {
  const all = Object.entries(contenders(size));
  const counts = [];
  for (const [, verify] of all) {
    await burst(verify, Math.max(3, Math.ceil(2e6 / size)));
    const times = [];
    for (let i = 0; i < 3; i += 1) times.push((await burst(verify, 10)) / 10);
    counts.push(Math.max(1, Math.round(BURST_MS / 1000 / least(times))));
  }
  const times = all.map(() => []);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [i, [, verify]] of all.entries()) times[i].push(((await burst(verify, counts[i])) / counts[i]) * 1e6);
  }
  return Object.fromEntries(all.map(([name], i) => [name, { least: least(times[i]), median: median(times[i]) }]));
}

const goals = [];
const goal = (what, value, limit, unit = "") => goals.push({ what, value, limit, unit, met: value <= limit });

const number = (value) => String(value < 100 ? Number(value.toPrecision(3)) : Math.round(value));
const row = (cells) => console.log(cells.map((cell, i) => (i ? String(cell).padStart(18) : String(cell).padEnd(30))).join(""));

console.log(`Node ${process.version}, ${os.cpus()[0].model}, load ${os.loadavg()[0].toFixed(1)}\n`);
console.log("µs for one verification, the minimum (the median)");
row(["", ...SIZES.map((size) => (size < 1024 ? `${size} B` : size < 1 << 20 ? `${size >> 10} KiB` : `${size >> 20} MiB`))]);
const measured = [];
for (const size of SIZES) measured.push(await measure(size));
for (const name of Object.keys(measured[0])) {
  row([name, ...measured.map((times) => `${number(times[name].least)} (${number(times[name].median)})`)]);
}
for (const [i, times] of measured.entries()) {
  const ratio = (ours, theirs) => times[ours].least / times[theirs].least;
  const at = `at ${SIZES[i]} bytes`;
  goal(`Verifier ÷ node:crypto ${at}`, ratio("Verifier", "node:crypto, hex"), OF_CRYPTO[i]);
  goal(`StandardVerifier ÷ node:crypto ${at}`, ratio("StandardVerifier", "node:crypto, Standard"), OF_CRYPTO[i]);
  goal(`StandardVerifier ÷ standardwebhooks ${at}`, ratio("StandardVerifier", "standardwebhooks"), 1 / OF_STANDARDWEBHOOKS);
}

const gzip = (bytes) => gzipSync(bytes, { level: 9 }).length;
const bundle = await build({
  stdin: { contents: `export { Verifier, StandardVerifier } from ${JSON.stringify(`${folder}/dist/index.js`)}`, resolveDir: folder },
  ...{ bundle: true, minify: true, format: "esm", write: false, legalComments: "none" },
});
goal("verifier.wasm, gzip -9", gzip(readFileSync(`${folder}/dist/verifier.wasm`)), 4_500, " bytes");
goal("a minified bundle with it, gzip -9", gzip(bundle.outputFiles[0].contents), 7_000, " bytes");

/** Milliseconds from the import of a module to the end of its first verification, each in a process of its own. */
function start(specifier, verification) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const signature = `v1,${createHmac("sha256", key).update(`evt_1.${timestamp}.{}`).digest("base64")}`;
  const script = `const [secret, timestamp, signature] = process.argv.slice(1);
    const headers = { "webhook-id": "evt_1", "webhook-timestamp": timestamp, "webhook-signature": signature };
    const start = performance.now();
    const module = await import(${JSON.stringify(specifier)});
    ${verification};
    console.log(performance.now() - start);`;
  const times = Array.from({ length: STARTS }, () => {
    const ran = spawnSync(process.execPath, ["--input-type=module", "-e", script, secret, timestamp, signature], { encoding: "utf8" });
    assert.equal(ran.status, 0, ran.stderr);
    return Number(ran.stdout);
  });
  return { least: least(times), median: median(times) };
}
const ours = start(pathToFileURL(`${folder}/dist/index.js`).href, "new module.StandardVerifier(secret).verify('{}', headers)");
const theirs = start(import.meta.resolve("standardwebhooks"), "new module.Webhook(secret).verify('{}', headers)");
const empty = join(mkdtempSync(join(os.tmpdir(), "bench-")), "empty.mjs");
writeFileSync(empty, "");
const nothing = start(pathToFileURL(empty).href, "");
rmSync(dirname(empty), { recursive: true });
const [cold, other, none] = [ours, theirs, nothing].map((times) => `${number(times.least)} (${number(times.median)})`);
console.log(`\nms from import to the first verification: ${cold}; standardwebhooks: ${other}; an empty module's import: ${none}`);
goal("import and first verification", ours.least, 5, " ms");

console.log("\nGoals, by the minimum");
for (const { what, value, limit, unit, met } of goals) {
  console.log(`${met ? "met   " : "MISSED"} ${what.padEnd(50)} ${number(value)}${unit} of ${number(limit)}${unit}`);
}
