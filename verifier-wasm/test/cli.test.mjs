// The command, installed from the tarball by npm into an application. TARBALL is the packed package.
import assert from "node:assert/strict";
import { spawn, execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

const SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER = "whsec_HhwaGBYUEhAODAoIBgQCAAECAwQFBgcICQoLDA0ODxA=";
const BODY = '{"data":{"title":"Ünïcode ✓"}}\n';
const folder = mkdtempSync(join(tmpdir(), "application-"));

before(async () => {
  writeFileSync(join(folder, "package.json"), "{}");
  await promisify(execFile)("npm", ["install", "--offline", "--no-audit", "--no-fund", process.env.TARBALL], { cwd: folder });
  writeFileSync(join(folder, "body.json"), BODY);
});

after(() => rmSync(folder, { recursive: true }));

/** Runs the command as `npx webhook-verifier` does, with a body on its standard input; what it printed never has the secret. */
async function run(args, { secret = SECRET, input = BODY, program = "node_modules/.bin/webhook-verifier" } = {}) {
  const { WEBHOOK_SECRET: _, ...env } = process.env;
  const child = spawn(program, args, { cwd: folder, env: secret === null ? env : { ...env, WEBHOOK_SECRET: secret }, timeout: 30_000 });
  let out = "";
  let err = "";
  child.stdout.on("data", (part) => (out += part));
  child.stderr.on("data", (part) => (err += part));
  // It may be gone before it reads.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const exit = await new Promise((resolve, reject) => child.on("close", resolve).on("error", reject));
  if (secret) {
    const key = secret.replace("whsec_", "");
    assert.ok(!(out + err).includes(key), `${args.join(" ")} printed the secret`);
  }
  return { exit, out, err };
}

/** What `sign` printed, as options of `verify`. */
const options = ({ out }) => out.trim().split("\n").map((line) => `--${line.replace(": ", "=")}`);
const standard = (signed) => options(signed).filter((option) => option.startsWith("--webhook-"));
const revnoxa = (signed) => options(signed).filter((option) => option.startsWith("--x-revnoxa-"));

test("what sign prints, verify verifies", async () => {
  const signed = await run(["sign", "--webhook-id", "evt_1"]);
  assert.equal(signed.exit, 0, signed.err);
  assert.match(signed.out, /^x-revnoxa-signature: [0-9a-f]{64}\nwebhook-id: evt_1\nwebhook-timestamp: \d+\nwebhook-signature: v1,\S+\n$/);
  const verified = { exit: 0, out: "verified\n", err: "" };
  assert.deepEqual(await run(["verify", ...standard(signed)]), verified);
  assert.deepEqual(await run(["verify", ...revnoxa(signed)]), verified);
  assert.deepEqual(await run(["verify", ...options(signed), "body.json"], { input: "" }), verified);
  assert.equal((await run(["sign", "body.json"], { input: "" })).out.split("\n")[0], signed.out.split("\n")[0]);
});

test("npx runs it", async () => {
  const signed = await run(["--no-install", "webhook-verifier", "sign"], { program: "npx" });
  assert.equal(signed.exit, 0, signed.err);
  assert.equal((await run(["verify", ...standard(signed)])).exit, 0);
});

test("what is refused exits with 1 and says why", async () => {
  const signed = await run(["sign"]);
  const old = await run(["sign", "--webhook-timestamp", "1700000000"]);
  const cases = [
    [["verify", ...standard(signed)], { input: BODY.trim() }, "no_match"],
    [["verify", ...revnoxa(signed)], { input: BODY.trim() }, "no_match"],
    [["verify", ...standard(signed)], { secret: OTHER }, "no_match"],
    [["verify", ...revnoxa(signed)], { secret: OTHER }, "no_match"],
    [["verify", ...standard(old)], {}, "timestamp_too_old"],
    [["verify", ...standard(signed), "--tolerance=0", "--webhook-timestamp=99999999999"], {}, "timestamp_too_new"],
    [["verify", "--webhook-signature=v1,AAAA"], {}, "missing_header"],
    // One that is genuine does not make up for the other.
    [["verify", ...standard(signed), "--x-revnoxa-signature=00"], {}, "no_match"],
    [["verify", ...revnoxa(signed), ...standard(old)], {}, "timestamp_too_old"],
  ];
  for (const [args, how, code] of cases) {
    const { exit, out, err } = await run(args, how);
    assert.deepEqual([exit, out, err.split(":")[0]], [1, "", code], `${args.join(" ")}: ${err}`);
  }
  assert.equal((await run(["verify", ...standard(old), "--tolerance=999999999"])).exit, 0);
});

test("a mistake in the call exits with 2 and says which", async () => {
  const cases = [
    [[], {}, /no such command/],
    [["check"], {}, /no such command/],
    [["verify", "a", "b"], {}, /no such command/],
    [["verify"], {}, /--webhook-signature is needed/],
    [["verify", "--secret", SECRET], { secret: null }, /--secret/],
    [["sign"], { secret: null }, /WEBHOOK_SECRET is not set/],
    [["sign"], { secret: "" }, /WEBHOOK_SECRET is not set/],
    [["sign"], { secret: "hunter2-hunter2" }, /does not start with whsec_/],
    [["sign", "--webhook-timestamp", "soon"], {}, /--webhook-timestamp is not a number/],
    [["sign", "--webhook-id", "a.b"], {}, /full stop/],
    [["verify", "--webhook-signature=v1,AAAA", "--tolerance=-1"], {}, /--tolerance is not a number/],
    [["sign", "missing.json"], {}, /missing\.json/],
  ];
  for (const [args, how, message] of cases) {
    const { exit, out, err } = await run(args, how);
    assert.deepEqual([exit, out], [2, ""], args.join(" "));
    assert.match(err, message);
    assert.doesNotMatch(err, /\n {4}at /, "a stack trace");
  }
});

test("--help tells how", async () => {
  const { exit, out } = await run(["--help"], { secret: null });
  assert.equal(exit, 0);
  assert.match(out, /^webhook-verifier verify/);
});
