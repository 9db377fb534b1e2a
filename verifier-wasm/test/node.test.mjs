// ./node over real HTTP: Node's own server, Connect, Express 4 and 5.
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { createServer, request } from "node:http";
import { createRequire } from "node:module";
import { test } from "node:test";

import { sign } from "@revnoxa/webhook-verifier";
import * as esm from "@revnoxa/webhook-verifier/node";
import connect from "connect";
import express5 from "express";
import express4 from "express4";

import { receives, refused, says_the_body_is_read, SECRET, seen } from "./receivers.mjs";

const { verifyRequest, webhook } = esm;
const cjs = createRequire(import.meta.url)("@revnoxa/webhook-verifier/node");

/** Where the listener serves until the test's end. */
async function serving(t, listener) {
  const server = createServer(listener).listen(0, "127.0.0.1");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

const answer = (response, status, body) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

for (const [format, { verifyRequest }] of Object.entries({ esm, cjs })) {
  test(`node:http, ${format}`, async (t) => {
    const url = await serving(t, (request, response) => {
      verifyRequest(request, SECRET).then(
        (verified) => answer(response, 200, seen(verified)),
        (error) => answer(response, error.statusCode, refused(error)),
      );
    });
    await receives(url);
  });
}

test("a stream with an encoding", async (t) => {
  const url = await serving(t, (request, response) => {
    request.setEncoding("utf8");
    verifyRequest(request, SECRET).then(
      (verified) => answer(response, 200, seen(verified)),
      (error) => answer(response, error.statusCode, refused(error)),
    );
  });
  await receives(url);
});

for (const when of ["while the body is read", "before"]) {
  test(`a client that goes away ${when}`, async (t) => {
    const handled = new EventEmitter();
    const url = await serving(t, async (request) => {
      request.on("error", () => {});
      client.destroy();
      if (when === "before") await new Promise((resolve) => request.on("close", resolve));
      verifyRequest(request, SECRET).catch((error) => handled.emit("refused", error));
    });
    const client = request(url, { method: "POST", headers: { "content-length": 100, ...sign(SECRET, "") } });
    client.on("error", () => {});
    client.write("{");
    const [error] = await once(handled, "refused", { signal: AbortSignal.timeout(10_000) });
    assert.match(error.message, /aborted|the connection was closed/);
  });
}

test("Connect", async (t) => {
  const app = connect();
  app.use("/webhook", webhook(SECRET));
  app.use("/webhook", (request, response) => answer(response, 200, seen(request.webhook)));
  app.use((error, _request, response, _next) => answer(response, error.statusCode, refused(error)));
  await receives(`${await serving(t, app)}/webhook`);
});

for (const [name, express] of Object.entries({ "Express 5": express5, "Express 4": express4 })) {
  const errors = (error, _request, response, _next) => response.status(error.statusCode).json(refused(error));
  const handler = (request, response) => response.json(seen(request.webhook));

  test(name, async (t) => {
    const app = express();
    app.post("/webhook", webhook(SECRET), handler);
    app.use(errors);
    await receives(`${await serving(t, app)}/webhook`);
  });

  test(`${name}, a handler that verifies`, async (t) => {
    const app = express();
    app.post("/webhook", (request, response, next) => {
      verifyRequest(request, SECRET).then((verified) => response.json(seen(verified)), next);
    });
    app.use(errors);
    await receives(`${await serving(t, app)}/webhook`);
  });

  test(`${name}, its own error handler`, async (t) => {
    const app = express();
    app.set("env", "test");
    app.post("/webhook", webhook(SECRET), handler);
    const response = await fetch(`${await serving(t, app)}/webhook`, { method: "POST", body: "{}" });
    assert.equal(response.status, 401);
  });

  test(`${name}, where express.json() has read the body`, async (t) => {
    const app = express();
    app.use(express.json());
    app.post("/webhook", webhook(SECRET), handler);
    app.use(errors);
    await says_the_body_is_read(`${await serving(t, app)}/webhook`, /before the parser, or express\.raw\(\{ type: "application\/json" \}\)/);
  });

  test(`${name}, mended: before the parser`, async (t) => {
    const app = express();
    app.use("/webhook", webhook(SECRET));
    app.use(express.json());
    app.post("/webhook", handler);
    app.post("/other", (request, response) => response.json(request.body));
    app.use(errors);
    const url = await serving(t, app);
    await receives(`${url}/webhook`);
    const other = await fetch(`${url}/other`, { method: "POST", body: '{"a":1}', headers: { "content-type": "application/json" } });
    assert.deepEqual(await other.json(), { a: 1 });
  });

  test(`${name}, mended: express.raw() in its place`, async (t) => {
    const app = express();
    app.use("/webhook", express.raw({ type: "application/json", limit: "2mb" }));
    app.use(express.json());
    app.post("/webhook", webhook(SECRET), handler);
    app.use(errors);
    await receives(`${await serving(t, app)}/webhook`);
  });

  test(`${name}, with a rawBody`, async (t) => {
    const app = express();
    app.use(express.json({ limit: "2mb", strict: false, verify: (request, _response, bytes) => (request.rawBody = bytes) }));
    app.post("/webhook", webhook(SECRET), handler);
    app.use(errors);
    await receives(`${await serving(t, app)}/webhook`);
  });
}
