/** For Node's `http`, and for Express and Connect. */
import type { IncomingMessage, ServerResponse } from "node:http";

import { WebhookVerificationError } from "@revnoxa/webhook-verifier";

import { MAX_BODY_BYTES, type RequestOptions, type Secret, tooLarge, type VerifiedRequest, verified, verifier } from "./request.js";

export type { RequestOptions, Secret, VerifiedRequest };

declare global {
  namespace Express {
    interface Request {
      /** The verified request, in handlers after the middleware. */
      webhook: VerifiedRequest;
    }
  }
}

/** A request after the middleware. */
export type WebhookRequest = IncomingMessage & { webhook: VerifiedRequest };

/**
 * Reads a request's body and verifies it by its Standard Webhooks headers. Bytes that `express.raw()` or a `rawBody`
 * have kept are used.
 *
 * @throws WebhookVerificationError when the request is refused; `code` tells why.
 */
export async function verifyRequest(request: IncomingMessage, secret: Secret, options: RequestOptions = {}): Promise<VerifiedRequest> {
  const limit = options.maxBodyBytes ?? MAX_BODY_BYTES;
  const body = kept(request) ?? (await read(request, limit));
  if (body.length > limit) throw tooLarge(limit);
  return verified(secret, body, request.headers, options);
}

/**
 * Middleware for Express and Connect: what follows finds the verified request in `request.webhook`. A request that is refused
 * goes to the error handlers, which answer with its `statusCode`.
 */
export function webhook(secret: Secret, options?: RequestOptions) {
  const keys = verifier(secret);
  return (request: IncomingMessage, _response: ServerResponse, next: (error?: unknown) => void): void => {
    verifyRequest(request, keys, options).then((verified) => {
      (request as WebhookRequest).webhook = verified;
      next();
    }, next);
  };
}

function kept(request: IncomingMessage): Uint8Array | undefined {
  const { rawBody, body } = request as { rawBody?: unknown; body?: unknown };
  for (const bytes of [rawBody, body]) if (bytes instanceof Uint8Array) return bytes;
  if (typeof rawBody === "string") return new TextEncoder().encode(rawBody);
  if (request.readableDidRead || request.readableEnded) {
    throw new WebhookVerificationError(
      "body_already_read",
      "the request's body was read before it was verified, probably by express.json() or another body parser. Put this before the parser, or express.raw({ type: \"application/json\" }) in its place on this route; for Fastify there is @revnoxa/webhook-verifier/fastify",
    );
  }
  return undefined;
}

/** @internal */
export function read(request: IncomingMessage, limit: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let length = 0;
    const gone = () => reject(new Error("the connection was closed before the request's end"));
    // Then no event comes.
    if (request.destroyed) return gone();
    request.on("data", (part: Buffer | string) => {
      // A string where setEncoding() was called.
      const bytes = typeof part === "string" ? Buffer.from(part, request.readableEncoding ?? "utf8") : part;
      length += bytes.length;
      if (length <= limit) parts.push(bytes);
      else {
        // What follows is read and thrown away, so that an answer can be sent.
        parts.length = 0;
        reject(tooLarge(limit));
      }
    });
    request.on("end", () => {
      // Tells the parser of Express 4, should it come later, that there is nothing left to read; it would fail.
      Object.assign(request, { _body: true });
      resolve(Buffer.concat(parts));
    });
    request.on("error", reject);
    request.on("close", gone);
  });
}
