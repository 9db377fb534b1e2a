// ./fastify over real HTTP, with Fastify 5 and 4.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

import { sign } from "@revnoxa/webhook-verifier";
import esm from "@revnoxa/webhook-verifier/fastify";
import { verifyRequest } from "@revnoxa/webhook-verifier/node";
import fastify5 from "fastify";
import fastify4 from "fastify4";

import { receives, refused, says_the_body_is_read, SECRET, seen } from "./receivers.mjs";

const cjs = createRequire(import.meta.url)("@revnoxa/webhook-verifier/fastify").default;

/** Where the app serves until the test's end. */
async function serving(t, app) {
  t.after(() => app.close());
  return app.listen({ host: "127.0.0.1", port: 0 });
}

for (const [name, fastify, webhooks] of [["Fastify 5", fastify5, esm], ["Fastify 5, cjs", fastify5, cjs], ["Fastify 4", fastify4, esm]]) {
  test(`${name}, and what is beside the scope is as before`, async (t) => {
    const app = fastify();
    app.register(async (scope) => {
      scope.register(webhooks, { secret: SECRET });
      scope.post("/webhook", async (request) => seen(request.webhook));
    });
    app.post("/other", async (request) => request.body);
    const url = await serving(t, app);
    await receives(`${url}/webhook`);
    const other = await fetch(`${url}/other`, { method: "POST", body: '{"a":1}', headers: { "content-type": "application/json" } });
    assert.deepEqual(await other.json(), { a: 1 });
  });

  test(`${name}, whatever the content type`, async (t) => {
    const app = fastify();
    app.register(async (scope) => {
      await scope.register(webhooks, { secret: [SECRET], toleranceSeconds: 60, maxBodyBytes: 100 });
      scope.post("/webhook", async ({ webhook }) => webhook.text());
    });
    const url = `${await serving(t, app)}/webhook`;
    for (const type of ["text/plain", "application/cloudevents+json; charset=utf-8", "application/octet-stream", ""]) {
      const body = new TextEncoder().encode("a body");
      const response = await fetch(url, { method: "POST", body, headers: { ...sign(SECRET, body), ...(type && { "content-type": type }) } });
      assert.deepEqual([response.status, await response.text()], [200, "a body"], type);
    }
    const old = await fetch(url, { method: "POST", body: "", headers: sign(SECRET, "", { timestamp: Date.now() / 1000 - 90 }) });
    assert.deepEqual([old.status, (await old.json()).code], [401, "timestamp_too_old"]);
    const empty = await fetch(url, { method: "POST", headers: sign(SECRET, "") });
    assert.deepEqual([empty.status, await empty.text()], [200, ""]);
    const large = "x".repeat(101);
    const refused = await fetch(url, { method: "POST", body: large, headers: sign(SECRET, large) });
    assert.deepEqual([refused.status, (await refused.json()).code], [413, "body_too_large"]);
  });

  test(`${name}, where another parser has read the body`, async (t) => {
    const app = fastify();
    app.register(async (scope) => {
      scope.register(webhooks, { secret: SECRET });
      scope.register(async (below) => {
        below.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) => done(null, JSON.parse(body)));
        below.post("/webhook", async (request) => seen(request.webhook));
      });
    });
    const url = await serving(t, app);
    // Mended as it says: the first test.
    await says_the_body_is_read(`${url}/webhook`, /a scope without addContentTypeParser/);
  });

  test(`${name}, where a handler verifies what Fastify has parsed`, async (t) => {
    const app = fastify();
    app.post("/webhook", async (request, reply) => {
      try {
        return seen(await verifyRequest(request.raw, SECRET));
      } catch (error) {
        return reply.status(error.statusCode).send(refused(error));
      }
    });
    await says_the_body_is_read(`${await serving(t, app)}/webhook`, /@revnoxa\/webhook-verifier\/fastify/);
  });
}
