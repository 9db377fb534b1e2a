// Checks one request with the npm package `standardwebhooks`.
// stdin: {"secret","headers":{name: value},"body": base64,"now_ms"}; exit 0 = accepted, 1 = refused, the reason on stderr.
import { Webhook } from "standardwebhooks";
import { readFileSync } from "node:fs";

const { secret, headers, body, now_ms } = JSON.parse(readFileSync(0, "utf8"));
// The host under test runs on a manual clock; the package's tolerance of five minutes is measured against the same one.
Date.now = () => now_ms;
try {
  new Webhook(secret).verify(Buffer.from(body, "base64").toString("utf8"), headers);
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
