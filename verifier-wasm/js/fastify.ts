/** For Fastify 4 and 5. */
import type { FastifyPluginCallback } from "fastify";

import { WebhookVerificationError } from "@revnoxa/webhook-verifier";

import { read } from "./node.js";
import { type RequestOptions, type Secret, type VerifiedRequest, MAX_BODY_BYTES, verified, verifier } from "./request.js";

export type { RequestOptions, Secret, VerifiedRequest };

export interface WebhookOptions extends RequestOptions {
  /** One secret, several, or a verifier made of them. */
  secret: Secret;
}

declare module "fastify" {
  interface FastifyRequest {
    /** The verified request, in routes of a scope with the plugin. */
    webhook: VerifiedRequest;
  }
}

/**
 * A plugin: every request in the scope that registers it is verified by its Standard Webhooks headers before it gets to a
 * handler, which finds it in `request.webhook`. Register it in a scope of its own, since nothing there is parsed.
 */
const webhooks: FastifyPluginCallback<WebhookOptions> = (scope, { secret, ...options }, done) => {
  const keys = verifier(secret);
  scope.removeAllContentTypeParsers();
  // Not parseAs, whose error for a body that is too large is another than everywhere else.
  scope.addContentTypeParser("*", (_request, payload, parsed) => {
    read(payload, options.maxBodyBytes ?? MAX_BODY_BYTES).then((body) => parsed(null, body), parsed);
  });
  scope.decorateRequest("webhook");
  scope.addHook("preValidation", (request, _reply, next) => {
    try {
      request.webhook = verified(keys, raw(request.body ?? new Uint8Array()), request.headers, options);
      next();
    } catch (error) {
      next(error as Error);
    }
  });
  done();
};

// For the scope that registers it, not for one below it: https://fastify.dev/docs/latest/Reference/Plugins/
Object.assign(webhooks, { [Symbol.for("skip-override")]: true });

function raw(body: unknown): Uint8Array {
  if (body instanceof Uint8Array) return body;
  throw new WebhookVerificationError(
    "body_already_read",
    "a content type parser parsed the request's body before it was verified. Register the plugin in a scope without addContentTypeParser, and use request.webhook.json()",
  );
}

export default webhooks;
