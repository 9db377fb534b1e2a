// Receivers in TypeScript.
import type { IncomingMessage, ServerResponse } from "node:http";

import { sign, StandardVerifier, Verifier, WebhookVerificationError, type WebhookVerificationErrorCode } from "@revnoxa/webhook-verifier";
import webhooks from "@revnoxa/webhook-verifier/fastify";
import { verifyRequest } from "@revnoxa/webhook-verifier/fetch";
import { verifyRequest as verifyMessage, webhook, type WebhookRequest } from "@revnoxa/webhook-verifier/node";
import express from "express";
import fastify from "fastify";

const genuine: boolean = new Verifier(["a", "b"]).verify(new Uint8Array(), undefined);
const standard = new StandardVerifier("whsec_");
standard.verify(Buffer.from(""), new Headers(), { toleranceSeconds: 60, now: new Date() });
standard.verify("", sign("whsec_", "", { timestamp: 0 }));

export function code(error: unknown): WebhookVerificationErrorCode | undefined {
  if (!(error instanceof WebhookVerificationError)) return undefined;
  const status: 401 | 413 | 500 = error.statusCode;
  return status === 413 ? "body_too_large" : error.code;
}

export async function POST(request: Request): Promise<Response> {
  const { id, json } = await verifyRequest(request, standard, { maxBodyBytes: 1000 });
  return Response.json({ id, number: json<{ data: { number: number } }>().data.number, genuine });
}

export async function listener(request: IncomingMessage, response: ServerResponse): Promise<void> {
  standard.verify("", request.headers);
  response.end((await verifyMessage(request, ["whsec_"])).text());
}

export function handler(request: IncomingMessage, response: ServerResponse): void {
  response.end((request as WebhookRequest).webhook.id);
}

export const sent = fetch("https://receiver.example/", { method: "POST", headers: sign("whsec_", "") });

express().post("/webhook", webhook("whsec_"), (request, response) => {
  response.json({ id: request.webhook.id });
});

const app = fastify();
app.register(async (scope) => {
  await scope.register(webhooks, { secret: "whsec_", toleranceSeconds: 60 });
  scope.post("/webhook", async (request) => request.webhook.id);
});

// @ts-expect-error a parsed body
standard.verify({ id: "evt_1" }, new Headers());
// @ts-expect-error no secret
void app.register(webhooks, {});
// @ts-expect-error not a code
code(undefined) === "no_such_code";
