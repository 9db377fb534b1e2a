// What every receiver has to do, whatever it is written with.
import assert from "node:assert/strict";

import { sign } from "@revnoxa/webhook-verifier";

export const SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER = "whsec_HhwaGBYUEhAODAoIBgQCAAECAwQFBgcICQoLDA0ODxA=";
// As the host sends it; a receiver that parses it and writes it again has other bytes.
const text = (number) => `{"type": "incident.created",  "data": {"number": ${number}.0, "title": "Ünïcode ✓"}}`;

/** What a handler answers with. */
export const seen = ({ id, json }) => ({ id, number: json().data.number });

/** What an error handler answers with. */
export const refused = ({ code, message }) => ({ code, message });

/**
 * Sends webhooks to a receiver at `path`. With `send`, it need not be fetch; `tooLarge` is the code it has for that.
 *
 * The receiver answers with `seen`, and for a refused request with `refused` and the error's `statusCode`.
 */
export async function receives(url, { send = fetch, tooLarge = "body_too_large" } = {}) {
  const post = async (body, headers) => {
    const response = await send(url, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
    return [response.status, await response.json()];
  };
  const code = async (body, headers) => {
    const [status, answer] = await post(body, headers);
    return [status, answer.code];
  };
  const body = text(7);
  const headers = sign(SECRET, body, { id: "evt_7" });
  assert.deepEqual(await post(body, headers), [200, { id: "evt_7", number: 7 }], "genuine");
  assert.deepEqual(await code(text(8), headers), [401, "no_match"], "for another body");
  assert.deepEqual(await code(body, sign(OTHER, body)), [401, "no_match"], "by another secret");
  assert.deepEqual(await code(body, { ...headers, "webhook-id": "evt_8" }), [401, "no_match"], "for another id");
  assert.deepEqual(await code(body, sign(SECRET, body, { timestamp: 1_700_000_000 })), [401, "timestamp_too_old"], "a replay");
  assert.deepEqual(await code(body, {}), [401, "missing_header"], "not signed");
  const large = JSON.stringify("x".repeat(1 << 20));
  assert.deepEqual(await code(large, sign(SECRET, large)), [413, tooLarge], "too large");

  const answers = Array.from({ length: 30 }, async (_, number) => {
    const body = text(number);
    const genuine = number % 3 > 0;
    const [status, answer] = await post(genuine ? body : text(number + 1), sign(SECRET, body, { id: `evt_${number}` }));
    if (genuine) assert.deepEqual([status, answer], [200, { id: `evt_${number}`, number }]);
    else assert.deepEqual([status, answer.code], [401, "no_match"]);
  });
  await Promise.all(answers);
}

/** Sends a genuine webhook to a receiver that has parsed it before; its answer tells how to mend it. */
export async function says_the_body_is_read(url, how, { send = fetch } = {}) {
  const body = text(7);
  const headers = { "content-type": "application/json", ...sign(SECRET, body) };
  const response = await send(url, { method: "POST", body, headers });
  const { code, message } = await response.json();
  assert.deepEqual([response.status, code], [500, "body_already_read"]);
  assert.match(message, how);
}
