#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { sign, StandardVerifier, Verifier, WebhookVerificationError } from "@revnoxa/webhook-verifier";

const USAGE = `webhook-verifier verify [options] [FILE]   verifies FILE, or standard input, as the body of a webhook
webhook-verifier sign [options] [FILE]     prints the headers of a request with this body

The secret is read from the environment variable WEBHOOK_SECRET.

verify: either of
  --x-revnoxa-signature HEX
  --webhook-id ID --webhook-timestamp SECONDS --webhook-signature SIGNATURES
                          with --tolerance SECONDS, 300 unless given
sign:
  --webhook-id ID         evt_test unless given
  --webhook-timestamp SECONDS   now unless given

The exit code is 0 for a body that is verified or signed, 1 for one that is refused, 2 for a mistake in the call.
`;

class UsageError extends Error {}

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: "boolean", short: "h" },
      "x-revnoxa-signature": { type: "string" },
      "webhook-id": { type: "string" },
      "webhook-timestamp": { type: "string" },
      "webhook-signature": { type: "string" },
      tolerance: { type: "string" },
    },
  });
  const [command, file, ...more] = positionals;
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if ((command !== "verify" && command !== "sign") || more.length > 0) throw new UsageError("no such command");
  const secret = process.env["WEBHOOK_SECRET"];
  if (!secret) throw new UsageError("WEBHOOK_SECRET is not set");
  const { "x-revnoxa-signature": hex, "webhook-id": id, "webhook-timestamp": timestamp } = values;
  const body = () => readFileSync(file ?? 0);
  if (command === "sign") {
    const time = timestamp === undefined ? {} : { timestamp: whole("--webhook-timestamp", timestamp) };
    const headers = sign(secret, body(), { ...(id === undefined ? {} : { id }), ...time });
    for (const [name, value] of Object.entries(headers)) console.log(`${name}: ${value}`);
    return 0;
  }
  if (hex === undefined && values["webhook-signature"] === undefined) {
    throw new UsageError("--x-revnoxa-signature or --webhook-signature is needed");
  }
  if (hex !== undefined && !new Verifier(secret).verify(body(), hex)) {
    console.error("no_match: the signature is for another secret, or for other bytes than this body");
    return 1;
  }
  if (values["webhook-signature"] !== undefined) {
    const toleranceSeconds = values.tolerance === undefined ? 300 : whole("--tolerance", values.tolerance);
    new StandardVerifier(secret).verify(body(), values as Record<string, string>, { toleranceSeconds });
  }
  console.log("verified");
  return 0;
}

function whole(name: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`${name} is not a number of whole seconds`);
  return Number(text);
}

try {
  process.exitCode = main();
} catch (error) {
  const refused = error instanceof WebhookVerificationError;
  console.error(refused ? `${error.code}: ${error.message}` : (error as Error).message);
  if (error instanceof UsageError || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS")) process.stderr.write(`\n${USAGE}`);
  process.exitCode = refused ? 1 : 2;
}
