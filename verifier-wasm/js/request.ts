import { type HeadersLike, type StandardOptions, StandardVerifier, WebhookVerificationError } from "@revnoxa/webhook-verifier";

export interface RequestOptions extends StandardOptions {
  /** Bytes of a body at the most, beyond which it is not read on; 1 MiB unless given. */
  maxBodyBytes?: number;
}

/** A request whose Standard Webhooks headers were verified. */
export interface VerifiedRequest {
  /** `webhook-id`: the event's id, the same in each retry. Use it to recognise a repetition. */
  readonly id: string;
  /** The body as it arrived. */
  readonly body: Uint8Array;
  /** The body as text. */
  text(): string;
  /** The body's JSON. */
  json<T = unknown>(): T;
}

/** @internal */
export const MAX_BODY_BYTES = 1 << 20;

/** One secret, several, or a verifier made of them. */
export type Secret = string | readonly string[] | StandardVerifier;

/** @internal */
export function verifier(secret: Secret): StandardVerifier {
  return typeof secret === "object" && "verify" in secret ? secret : new StandardVerifier(secret);
}

/** @internal */
export function verified(
  secret: Secret,
  body: Uint8Array,
  headers: HeadersLike,
  options: RequestOptions = {},
): VerifiedRequest {
  verifier(secret).verify(body, headers, options);
  const id = typeof headers.get === "function" ? headers.get("webhook-id") : (headers as { "webhook-id": string })["webhook-id"];
  const text = () => new TextDecoder().decode(body);
  return { id: id as string, body, text, json: () => JSON.parse(text()) };
}

/** @internal */
export function tooLarge(limit: number): WebhookVerificationError {
  return new WebhookVerificationError("body_too_large", `the body has more than ${limit} bytes`);
}
