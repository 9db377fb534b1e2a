// Reads what was pasted as the secret: what is wrong with it, and what it would be without that.
import { fromBase64, fromUtf8, problem, utf8 } from "./diagnose-text.js";

const PREFIX = "whsec_";
/** The bytes of every secret that the host makes. */
const KEY_BYTES = 32;
const FORM = "whsec_ and 44 characters of base64, as it was shown when the endpoint was made or its secret replaced";

/**
 * `text`, the secret as it probably is; `mended`, the findings about what is different from that in what was pasted;
 * `malformed`, those about what is wrong with it still. `other` is the finding for what is no secret but something else.
 */
export function readSecret(pasted) {
  const other = otherThing(pasted.trim());
  if (other) return { text: pasted, mended: [], malformed: [], other };
  let text = pasted;
  const findings = [];
  for (const [kind, says, fix, mend] of MENDINGS) {
    const mended = mend(text);
    if (mended === undefined || mended === text) continue;
    text = mended;
    findings.push(problem(kind, `The secret ${says}.`, fix));
  }
  return { text, mended: findings, malformed: malformed(text), other: undefined };
}

/** What code takes for the key: rightly `text` or `decoded`, by mistake `encoded` or `line`. */
export function keysOf(secret) {
  const encoded = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret;
  const keys = { text: utf8(secret), decoded: fromBase64(encoded), encoded: utf8(encoded), line: utf8(`${secret}\n`) };
  return Object.entries(keys)
    .map(([kind, bytes]) => ({ kind, bytes }))
    .filter(({ bytes }) => bytes?.length > 0);
}

const OTHER_THINGS = [
  ["secret_is_token", "an API token", /\brvx_/],
  ["secret_is_signature", "a signature", /^(v1,|sha-?256=|[0-9a-f]{64}$)/i],
  ["secret_is_id", "an id", /^(evt|ep|dlv|tok)_/],
  // The verifier takes no key of more than 65,536 bytes.
  ["secret_too_long", "something longer", /^[^]{1000}/],
];

function otherThing(text) {
  const [kind, what] = OTHER_THINGS.find(([, , form]) => form.test(text)) ?? [];
  return kind && problem(kind, `This is ${what}, not the endpoint's secret.`, `Take the endpoint's secret: ${FORM}.`);
}

/** What was done to a secret on its way, in the order in which to undo it. */
const MENDINGS = [
  [
    "secret_invisible",
    "has invisible characters in it",
    "Copy it again from where it was shown, not from a document or chat.",
    (text) => text.replace(/[\u200b-\u200f\u2028-\u202e\u2060\ufeff]/g, ""),
  ],
  [
    "secret_white_space",
    "has white space around it or in it",
    "Remove it, also where your receiver reads the secret: a file or a variable often ends in a line break.",
    (text) => text.replace(/\s+/g, ""),
  ],
  [
    "secret_assignment",
    "has the name of a variable before it",
    "Take what follows the `=`.",
    (text) => /^(?:export)?[A-Za-z][A-Za-z0-9_]*[=:](["']?whsec_.*)$/.exec(text)?.[1],
  ],
  [
    "secret_quoted",
    "has quotes around it",
    "Remove them, also where your receiver reads it: Docker's --env-file keeps quotes.",
    (text) => /^["'`“‘](.*)["'`”’]$/.exec(text)?.[1],
  ],
  [
    "secret_base64_twice",
    "is encoded in base64 once more, as Kubernetes shows it",
    "Decode it once: `base64 -d`.",
    (text) => (text.startsWith("d2hzZWNf") ? fromUtf8(fromBase64(text) ?? Uint8Array.of(255))?.trim() : undefined),
  ],
  [
    "secret_percent_encoded",
    "is encoded as in a URL, with %2B, %2F or %3D",
    "Decode it.",
    (text) => text.replace(/%(2b|2f|3d)/gi, decodeURIComponent),
  ],
  [
    "secret_prefix_case",
    "has a prefix that is not in lower case",
    "Write whsec_ in lower case: it is a part of the key.",
    (text) => text.replace(/^whsec_/i, PREFIX),
  ],
  [
    "secret_without_prefix",
    "lacks its beginning, whsec_",
    "Keep whsec_: it is a part of the key of X-Revnoxa-Signature, and standard libraries ask for it.",
    (text) => (fromBase64(text)?.length === KEY_BYTES ? PREFIX + text : undefined),
  ],
  [
    "secret_url_safe",
    "is in base64's URL-safe alphabet, with `-` and `_`",
    "Take it as it was shown, with `+` and `/`: something has converted it.",
    (text) =>
      text.startsWith(PREFIX)
        ? PREFIX + text.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/")
        : undefined,
  ],
  [
    "secret_unpadded",
    "lacks the `=` at its end",
    "Copy all of it: a double click often leaves the `=` out.",
    (text) => (/^whsec_[A-Za-z0-9+/]{43}$/.test(text) ? `${text}=` : undefined),
  ],
];

function malformed(text) {
  const fix = `It has to be ${FORM}. Replace the endpoint's secret if you no longer have it.`;
  const found = (kind, says) => [problem(kind, `The secret ${says}`, fix)];
  if (!text.startsWith(PREFIX)) return found("secret_prefix", "does not start with whsec_.");
  const bytes = fromBase64(text.slice(PREFIX.length));
  if (!bytes) return found("secret_not_base64", "is not base64 behind whsec_: masked, cut off, or of another sender.");
  const says = `decodes to ${bytes.length} bytes instead of ${KEY_BYTES}: a part is missing, or too much.`;
  return bytes.length === KEY_BYTES ? [] : found("secret_length", says);
}
