// ./fetch in Hono: in process, and over real HTTP with its server for Node.
import { test } from "node:test";
import { once } from "node:events";

import { serve } from "@hono/node-server";
import { verifyRequest } from "@revnoxa/webhook-verifier/fetch";
import { Hono } from "hono";

import { receives, refused, says_the_body_is_read, SECRET, seen } from "./receivers.mjs";

const app = new Hono();
app.onError((error, c) => c.json(refused(error), error.statusCode));
app.post("/webhook", async (c) => c.json(seen(await verifyRequest(c.req.raw, SECRET))));
app.use("/read", async (c, next) => {
  await c.req.json();
  await next();
});
app.post("/read", async (c) => c.json(seen(await verifyRequest(c.req.raw, SECRET))));
app.post("/mended", async (c) => {
  const webhook = await verifyRequest(c.req.raw.clone(), SECRET);
  await c.req.json();
  return c.json(seen(webhook));
});

async function behaves(url, send) {
  await receives(`${url}/webhook`, { send });
  await says_the_body_is_read(`${url}/read`, /Call verifyRequest first|request\.clone\(\)/, { send });
  await receives(`${url}/mended`, { send });
}

test("Hono", async () => behaves("", (path, init) => app.request(path, init)));

test("Hono on Node's server", async (t) => {
  const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 });
  t.after(() => server.close());
  await once(server, "listening");
  await behaves(`http://127.0.0.1:${server.address().port}`);
});
