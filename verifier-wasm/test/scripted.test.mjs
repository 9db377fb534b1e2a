// The runtimes that run a script from the command line, each as its users would.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { expected } from "./runtimes/expected.mjs";

const commands = {
  "Node": [process.execPath],
  // Without a permission: the package reads no file and no environment.
  "Deno": ["node_modules/.bin/deno", "run", "--no-prompt", "--cached-only"],
  "Bun": ["node_modules/.bin/bun", "run"],
};

for (const [runtime, [program, ...first]] of Object.entries(commands)) {
  test(`${runtime} verifies`, async () => {
    const { stdout } = await promisify(execFile)(program, [...first, "runtimes/print.mjs"], { cwd: import.meta.dirname, timeout: 60_000 });
    assert.deepEqual(JSON.parse(stdout), expected);
  });
}
