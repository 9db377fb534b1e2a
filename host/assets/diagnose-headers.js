// Reads what was pasted as the headers, and the signatures in it, in whatever form they come.
import { fromBase64, fromUtf8, hex, problem } from "./diagnose-text.js";

const NAMES = {
  "x-revnoxa-signature": "X-Revnoxa-Signature",
  "webhook-id": "webhook-id",
  "webhook-timestamp": "webhook-timestamp",
  "webhook-signature": "webhook-signature",
  "content-length": "Content-Length",
};

/** A header in lines, in a curl command, in JSON, or as `HTTP_X_REVNOXA_SIGNATURE`; no value that counts has a quote in it. */
const HEADER =
  /(?<![a-z0-9-])(x[-_]revnoxa[-_]signature|webhook[-_](?:id|timestamp|signature)|content[-_]length)["']?[ \t]*(?:=>|[:=])[ \t]*[["'` \t]*([^"'`\r\n]*)/gi;

/**
 * The headers that count, each as `value` or undefined: `revnoxa`, `id`, `timestamp`, `standard`, `contentLength`.
 * A text without any of their names is one signature: `lone`. `findings` tells of headers that are there twice.
 */
export function readHeaders(text) {
  const found = new Map();
  const findings = [];
  for (const [, written, rest] of text.matchAll(HEADER)) {
    const name = written.toLowerCase().replaceAll("_", "-");
    const value = rest.replace(/[\s,;\\}\]]+$/, "");
    const before = found.get(name);
    if (value === "" || before === value) continue;
    if (before !== undefined) {
      const fix = "Paste the headers of one request; the first value was taken.";
      findings.push(problem("header_twice", `${NAMES[name]} is there twice, with different values.`, fix));
    } else {
      found.set(name, value);
    }
  }
  const lone = found.size === 0 && isOneSignature(text) ? text.trim() : undefined;
  return {
    revnoxa: found.get("x-revnoxa-signature"),
    id: found.get("webhook-id"),
    timestamp: found.get("webhook-timestamp"),
    standard: found.get("webhook-signature"),
    contentLength: found.get("content-length"),
    lone,
    findings,
  };
}

/** One word, or several of `webhook-signature`; a name before it would be another header. */
function isOneSignature(text) {
  return /^\s*["']?(v1,\S+(\s+v1a?,\S+)*|[^\s:]+|sha-?256[:=]\s*\S+)["']?\s*$/i.test(text) && /\S{8}/.test(text);
}

/** Fewer hex digits than this could fit by chance. */
const LEAST_DIGITS = 16;
/** The hex digits of a whole HMAC-SHA256. */
const DIGITS = 64;

/**
 * A signature in any form: `mac` its lowercase hex digits, all 64 or the first of them, `form` how the 32 bytes are
 * written (`hex`, `base64`, or `v1` for base64 behind `v1,`), and `findings` of what is unusual about it. Without a
 * `mac` it is none.
 */
export function readSignature(name, value) {
  const findings = [];
  const tell = (kind, text, fix) => findings.push(problem(kind, `${name} ${text}`, fix));
  let text = value.trim();
  if (/^["'].*["']$/.test(text)) {
    text = text.slice(1, -1).trim();
    tell("signature_quoted", "has quotes around it.", "Compare what is between them.");
  }
  const isV1 = text.startsWith("v1,");
  const label = isV1 ? undefined : /^(?:hmac-?)?(?:sha-?256|v1)\s*[:=,]\s*/i.exec(text);
  if (isV1) text = text.slice(3);
  if (label) {
    text = text.slice(label[0].length);
    tell(
      "signature_prefix",
      `starts with \`${label[0].trim()}\`; the host sends no such prefix.`,
      "Compare what follows it: other senders' code does not fit here unchanged.",
    );
  }
  const cut = text.replace(/(\.{2,3}|…)$/, "");
  const read = wholeMac(cut, isV1, tell) ?? firstOfMac(cut, isV1, tell);
  if (read) return { ...read, findings };
  tell(
    "signature_unreadable",
    "is no signature: neither 64 hex digits nor the base64 of 32 bytes.",
    "Copy the header's whole value.",
  );
  return { findings };
}

function wholeMac(text, isV1, tell) {
  if (/^[0-9a-f]{64}$/i.test(text)) {
    const lower = "Print the digits in lower case before you compare.";
    if (text !== text.toLowerCase())
      tell("signature_upper_case", "is in upper case; the host sends lowercase hex digits.", lower);
    const base64 = "Encode the 32 bytes of the HMAC in base64, not in hex.";
    if (isV1) tell("signature_hex", "has hex digits where base64 belongs.", base64);
    return { mac: text.toLowerCase(), form: isV1 ? "v1" : "hex" };
  }
  const bytes = fromBase64(text);
  const digits = bytes && fromUtf8(bytes);
  if (digits !== undefined && /^[0-9a-f]{64}$/i.test(digits)) {
    tell(
      "signature_base64_of_hex",
      "is the base64 of the hex digits.",
      "Encode the 32 bytes of the HMAC once: in hex for X-Revnoxa-Signature, in base64 for webhook-signature.",
    );
    return { mac: digits.toLowerCase(), form: isV1 ? "v1" : "base64" };
  }
  if (bytes?.length !== 32) return undefined;
  if (/[-_]/.test(text)) {
    const fix = "Use the standard alphabet, with `+` and `/`.";
    tell("signature_url_safe", "is in base64's URL-safe alphabet, with `-` and `_`.", fix);
  } else if (!text.endsWith("=")) {
    tell("signature_unpadded", "lacks the `=` at its end.", "Copy the whole value, and encode with padding.");
  }
  return { mac: hex(bytes), form: isV1 ? "v1" : "base64" };
}

function firstOfMac(text, isV1, tell) {
  const isHex = !isV1 && /^[0-9a-f]+$/i.test(text);
  // Whole groups of four characters are whole bytes.
  const bytes = isHex ? undefined : fromBase64(text.slice(0, text.length - (text.length % 4)));
  const mac = isHex ? text.toLowerCase() : bytes && hex(bytes);
  if (mac === undefined || mac.length < LEAST_DIGITS || mac.length >= DIGITS) return undefined;
  const whole = isHex ? "64 hex digits" : "44 characters of base64";
  tell(
    "signature_truncated",
    `is cut off: ${text.length} of ${whole}.`,
    "Copy the whole value; a terminal or a log may have shortened it.",
  );
  return { mac, form: isHex ? "hex" : isV1 ? "v1" : "base64" };
}
