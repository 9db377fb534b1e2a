// Which key and which message a signature was made with, whatever a sender should do.
import { otherBodies } from "./diagnose-body.js";
import { isJson } from "./diagnose-json.js";
import { keysOf } from "./diagnose-secret.js";
import { problem, utf8 } from "./diagnose-text.js";
import { mac } from "./webhook-verifier.js";

/** How each signature is made; `key` and `message` are kinds of `keysOf` and `messagesOf`, `form` is one of `readSignature`. */
export const SCHEMES = {
  revnoxa: {
    name: "X-Revnoxa-Signature",
    key: "text",
    message: "body",
    form: "hex",
    rule: "X-Revnoxa-Signature is the lowercase hex of HMAC-SHA256 over the body alone; the key is the secret's whole text, whsec_ included.",
  },
  standard: {
    name: "webhook-signature",
    key: "decoded",
    message: "whole",
    form: "v1",
    rule: "webhook-signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; the key is the base64 behind whsec_, decoded to 32 bytes.",
  },
};

/**
 * How each signature was really made, as far as it is found out: by signature, the `reading` that fits, the kinds of
 * its `key` and `message`, whether the secret had to be mended, and `other`, the one of `otherBodies` that it is for.
 */
export function explain(signatures, request, secret, mended) {
  const matches = new Map();
  const keys = [...new Set([mended, secret])].flatMap((text) =>
    keysOf(text).map((key) => ({ ...key, isMended: text !== secret })),
  );
  const messages = messagesOf(request);
  // Two mistakes at once are looked for with the bodies only where both schemes' own keys and messages meet.
  const [ownKeys, ownMessages] = [keys, messages].map((all) =>
    all.filter(({ kind }) => ["text", "decoded", "body", "whole"].includes(kind)),
  );
  const compare = (body, keys, messages, other) => {
    for (const key of keys) {
      for (const message of messages) {
        const digits = mac(key.bytes, message.before, body);
        for (const signature of signatures) {
          const reading = signature.readings.find((reading) => reading.mac && digits.startsWith(reading.mac));
          if (reading && !matches.has(signature)) matches.set(signature, { reading, key, message, other });
        }
      }
    }
    return matches.size === signatures.length;
  };
  if (compare(utf8(request.body), keys, messages)) return matches;
  for (const other of otherBodies(request.body)) {
    const bytes = typeof other.body === "string" ? utf8(other.body) : other.body;
    if (compare(bytes, ownKeys, ownMessages, other)) break;
  }
  return matches;
}

/** What code puts `before` the body: rightly nothing or the id and timestamp, in the kinds `body` and `whole`. */
function messagesOf({ id, timestamp, body }) {
  const idInBody = idOf(body);
  const seconds = asSeconds(timestamp);
  return [
    ["body", ""],
    ...(id && timestamp ? [["whole", `${id}.${timestamp}.`]] : []),
    ...(id && seconds ? [["seconds", `${id}.${seconds}.`]] : []),
    ...(idInBody && timestamp ? [["id_in_body", `${idInBody}.${timestamp}.`]] : []),
    ...(timestamp ? [["without_id", `${timestamp}.`]] : []),
    ...(id ? [["without_timestamp", `${id}.`]] : []),
  ].map(([kind, before]) => ({ kind, before: utf8(before) }));
}

/** The event's id in the body, which webhook-id repeats; undefined where there is none. */
export function idOf(body) {
  if (!isJson(body)) return undefined;
  const id = JSON.parse(body)?.id;
  return typeof id === "string" && id !== "" ? id : undefined;
}

/** The Unix seconds of a time in milliseconds or as a date; undefined for what is in seconds already, or no time. */
function asSeconds(timestamp) {
  if (timestamp === undefined || isSeconds(timestamp)) return undefined;
  const ms = /^\d{13,15}$/.test(timestamp) ? Number(timestamp) : Date.parse(timestamp);
  return Number.isNaN(ms) ? undefined : String(Math.floor(ms / 1000));
}

/** What is different about a signature whose match `explain` found from how the host makes it. */
export function howItWasMade({ scheme, name }, { reading, key, message, other }, { id, body }) {
  const own = SCHEMES[scheme];
  const foreign = scheme === "revnoxa" ? SCHEMES.standard : SCHEMES.revnoxa;
  const found = [...reading.findings];
  const differs = (kind, text) => found.push(problem(kind, `${name} ${text}`, own.rule));
  if (key.kind === foreign.key && message.kind === foreign.message && reading.form === foreign.form) {
    differs("wrong_header", `has the value of ${foreign.name}.`);
  } else {
    const isTold = found.some(({ kind }) => kind === "signature_base64_of_hex");
    if (reading.form !== own.form && !isTold) differs(...FORMS[scheme][reading.form]);
    if (key.kind !== own.key) differs(`key_${key.kind}`, `was made with ${KEYS[key.kind]} as the key.`);
    if (message.kind !== own.message && MESSAGES[message.kind]) {
      differs(`message_${message.kind}`, `was made for ${MESSAGES[message.kind]}.`);
    }
    if (message.kind === "id_in_body" && id !== undefined) found.push(idDiffers(id, idOf(body)));
  }
  if (other) found.push(problem(other.kind, other.text, other.fix));
  // Receivers are stricter than the search about what a header may be.
  const isRefused = found.length === 0 && !key.isMended && message.kind === own.message;
  if (isRefused) differs("header_refused", "fits, but receivers refuse the headers as malformed.");
  return found;
}

const KEYS = {
  text: "the secret's text, not decoded,",
  decoded: "the decoded bytes of the secret",
  encoded: "the secret's text without whsec_",
  line: "the secret's text and a line break",
};

/** Messages that code makes by mistake; the other kinds have headers that are wrong. */
const MESSAGES = {
  body: "the body alone, without webhook-id and webhook-timestamp",
  whole: "`id.timestamp.body` instead of the body alone",
  without_id: "`timestamp.body`",
  without_timestamp: "`id.body`",
};

const FORMS = {
  revnoxa: {
    base64: ["signature_base64", "is in base64, not in hex."],
    v1: ["signature_base64", "is `v1,` and base64, not hex."],
  },
  standard: {
    hex: ["signature_hex", "is in hex; it has to be `v1,` and base64."],
    base64: ["signature_version_missing", "lacks `v1,` before its base64."],
  },
};

/** That the body and the headers are of two requests. */
export function idDiffers(id, idInBody) {
  // They may be anything, and long.
  const shown = (id) => id.slice(0, 64).replace(/[^!-~]/g, "\ufffd");
  const text = `webhook-id is ${shown(id)}, but the body's id is ${shown(idInBody)}: they are of different requests.`;
  return problem("id_differs", text, "Take the body and the headers from the same request.");
}

/** Whether a timestamp is written as senders write it, in Unix seconds. */
export const isSeconds = (timestamp) => /^(0|[1-9]\d{0,11})$/.test(timestamp ?? "");
