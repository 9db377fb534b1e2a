// The package as publint, attw and TypeScript see it. TARBALL is the packed package.
import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";

// Beside node_modules, where TypeScript looks for packages.
const folder = mkdtempSync(join(import.meta.dirname, "node_modules/.types-"));
after(() => rmSync(folder, { recursive: true }));

/** Fails with what the program printed. */
async function passes(script, ...args) {
  const options = { cwd: import.meta.dirname, timeout: 120_000 };
  await promisify(execFile)(process.execPath, [`node_modules/${script}`, ...args], options).catch(({ stdout, stderr }) => {
    throw new Error(`${script} ${args.join(" ")}:\n${stdout}${stderr}`);
  });
}

test("publint has nothing to say", () => passes("publint/src/cli.js", "--strict", process.env.TARBALL));

test("attw has nothing to say", () => passes("@arethetypeswrong/cli/dist/index.js", "--no-color", process.env.TARBALL));

const strict = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--types", "node"];
for (const [compiler, module, moduleResolution, extension, ...more] of [
  ["typescript", "nodenext", "nodenext", "mts", "--ignoreConfig"],
  ["typescript", "nodenext", "nodenext", "cts", "--ignoreConfig"],
  ["typescript", "esnext", "bundler", "mts", "--ignoreConfig"],
  // What TypeScript 5 takes for CommonJS unless told.
  ["typescript5", "commonjs", "node10", "cts", "--esModuleInterop", "--skipLibCheck"],
]) {
  test(`${compiler} with ${moduleResolution}, .${extension}`, () => {
    const file = join(folder, `${compiler}-${module}.${extension}`);
    copyFileSync(join(import.meta.dirname, "types/consumer.mts"), file);
    return passes(`${compiler}/bin/tsc`, ...strict, "--module", module, "--moduleResolution", moduleResolution, ...more, file);
  });
}
