/** For what hands over a web `Request`: Hono, Next.js route handlers, Workers, Deno, Bun. */
import { WebhookVerificationError } from "@revnoxa/webhook-verifier";

import { MAX_BODY_BYTES, type RequestOptions, type Secret, tooLarge, type VerifiedRequest, verified } from "./request.js";

export type { RequestOptions, Secret, VerifiedRequest };

/**
 * Reads a request's body and verifies it by its Standard Webhooks headers.
 *
 * @throws WebhookVerificationError when the request is refused; `code` tells why. `body_already_read`: something read
 * the body before; verify first, or hand over `request.clone()`.
 */
export async function verifyRequest(request: Request, secret: Secret, options: RequestOptions = {}): Promise<VerifiedRequest> {
  if (request.bodyUsed || request.body?.locked) {
    throw new WebhookVerificationError(
      "body_already_read",
      "the request's body was read before it was verified. Call verifyRequest first, and use the json() of its answer; or read a request.clone()",
    );
  }
  const body = await read(request, options.maxBodyBytes ?? MAX_BODY_BYTES);
  return verified(secret, body, request.headers, options);
}

async function read(request: Request, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = request.body?.getReader();
  for (let part; reader && !(part = await reader.read()).done; ) {
    length += part.value.length;
    if (length > limit) {
      reader.cancel().catch(() => {});
      throw tooLarge(limit);
    }
    parts.push(part.value);
  }
  if (parts.length === 1) return parts[0]!;
  const body = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}
