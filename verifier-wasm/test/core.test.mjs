import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";

import * as esm from "@revnoxa/webhook-verifier";

const cjs = createRequire(import.meta.url)("@revnoxa/webhook-verifier");
const vectors = (name) => JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url)));
const bytes = (vector) => (vector.body === undefined ? Buffer.from(vector.body_base64, "base64") : Buffer.from(vector.body));

for (const [format, { Verifier, StandardVerifier }] of Object.entries({ esm, cjs })) {
  test(`${format}: every X-Revnoxa-Signature vector holds`, () => {
    const { cases, invalid_secrets } = vectors("signature");
    for (const vector of cases) {
      assert.equal(new Verifier(vector.secret).verify(bytes(vector), vector.signature), vector.accepted, vector.why);
      if (vector.body !== undefined) {
        assert.equal(new Verifier(vector.secret).verify(vector.body, vector.signature), vector.accepted, vector.why);
      }
    }
    for (const { secret, why } of invalid_secrets) assert.throws(() => new Verifier(secret), TypeError, why);
  });

  test(`${format}: every Standard Webhooks vector holds`, () => {
    const { cases, invalid_secrets } = vectors("standard");
    for (const vector of cases) {
      if (vector.secrets.length === 0) {
        assert.throws(() => new StandardVerifier([]), TypeError, vector.why);
        continue;
      }
      const headers = { "webhook-id": vector.id, "webhook-timestamp": vector.timestamp, "webhook-signature": vector.signature };
      const options = { now: vector.now_s, toleranceSeconds: vector.tolerance_s };
      let result = "ok";
      try {
        new StandardVerifier(vector.secrets).verify(bytes(vector), headers, options);
      } catch (error) {
        assert.equal(error.name, "WebhookVerificationError", vector.why);
        result = error.code;
      }
      assert.equal(result, vector.result, vector.why);
    }
    for (const { secret, why } of invalid_secrets) assert.throws(() => new StandardVerifier(secret), TypeError, why);
  });
}
