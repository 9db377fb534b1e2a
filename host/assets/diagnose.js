// Why a webhook's signature does not verify. Pure: neither the page nor the clock is touched, so that it runs in Node too.
import { readHeaders, readSignature } from "./diagnose-headers.js";
import { isJson } from "./diagnose-json.js";
import { explain, howItWasMade, idDiffers, idOf, isSeconds, SCHEMES } from "./diagnose-match.js";
import { readSecret } from "./diagnose-secret.js";
import { note, problem, right, utf8 } from "./diagnose-text.js";
import { StandardVerifier, Verifier } from "./webhook-verifier.js";

/** How many seconds a receiver lets the timestamp differ from its clock, to either side. */
const TOLERANCE_S = 300;

/**
 * What is right and wrong with a request whose `body`, `headers` and `secret` are the texts that were pasted, at the
 * time `now`, a `Date`. `findings` are as diagnose-text.js makes them. `ok` when at least one signature fits and there is no
 * problem; a timestamp out of tolerance is none.
 */
export function diagnose({ body, headers, secret, now }) {
  const request = { ...readHeaders(headers), body };
  const signatures = signaturesIn(request);
  const pasted = readSecret(secret);
  const missing = whatIsMissing({ body, headers, secret, signatures });
  if (missing.length > 0 || pasted.other) {
    const about = pasted.other ? [pasted.other] : [...pasted.mended, ...pasted.malformed];
    return answer([...missing, ...(secret === "" ? [] : about)]);
  }
  const fitting = signatures.filter((signature) => fits(signature, request, secret));
  const refused = signatures.filter((signature) => !fitting.includes(signature));
  const matches = explain(refused, request, secret, pasted.text);
  return answer([
    ...fitting.flatMap((signature) => whatFits(signature, request, secret)),
    ...request.findings,
    ...(signatures.some(({ scheme }) => scheme === "standard") ? aboutTime(request, now) : []),
    ...aboutSecret(pasted, fitting, matches),
    ...refused.flatMap((signature) => whatIsWrong(signature, matches, fitting, request)),
    ...(refused.length === 0 ? [otherwise(body, secret)] : []),
    ...(fitting.length === 0 && matches.size === 0 ? nothingFits(request) : []),
  ]);
}

/** What fits, then problems, then notes. Two signatures often have the same fault, which is told once. */
function answer(findings) {
  const once = [...new Map(findings.map((found) => [found.kind + found.text, found])).values()];
  const [fits, problems, notes] = ["ok", "problem", "note"].map((level) =>
    once.filter((found) => found.level === level),
  );
  return { ok: fits.length > 0 && problems.length === 0, findings: [...fits, ...problems, ...notes] };
}

/** The signatures of a request: `scheme`, `name` for people, `value`, and `readings`, more than one while a secret is replaced. */
function signaturesIn({ revnoxa, standard, lone }) {
  const signature = (scheme, name, value) => {
    const entries = scheme === "standard" ? value.trim().split(/\s+/) : [value];
    return { scheme, name, value, readings: entries.map((entry) => readSignature(name, entry)) };
  };
  return [
    ...(revnoxa === undefined ? [] : [signature("revnoxa", SCHEMES.revnoxa.name, revnoxa)]),
    ...(standard === undefined ? [] : [signature("standard", SCHEMES.standard.name, standard)]),
    ...(lone === undefined ? [] : [signature(/^["']?v1,/.test(lone) ? "standard" : "revnoxa", "The signature", lone)]),
  ];
}

function whatIsMissing({ body, headers, secret, signatures }) {
  const missing = [];
  if (body === "") missing.push(note("body_missing", "Paste the raw body."));
  if (headers.trim() === "") missing.push(note("headers_missing", "Paste the headers, or one signature."));
  if (secret === "") missing.push(note("secret_missing", "Paste the endpoint's secret."));
  if (headers.trim() !== "" && signatures.length === 0) {
    const text = "There is neither X-Revnoxa-Signature nor webhook-signature in the headers.";
    const fix =
      "Paste all headers as `name: value` lines. If they are all there, a proxy has removed these, or the request is from someone else.";
    missing.push(problem("signature_missing", text, fix));
  }
  return missing;
}

/** Whether a receiver with this secret accepts the signature, whatever the time. */
function fits({ scheme, value }, request, secret) {
  if (scheme === "revnoxa") return new Verifier(secret).verify(request.body, value);
  return standardFits(value, request, secret);
}

function standardFits(value, { id, timestamp, body }, secret) {
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": value };
  try {
    new StandardVerifier(secret).verify(body, headers, { now: isSeconds(timestamp) ? Number(timestamp) : 0 });
    return true;
  } catch {
    return false;
  }
}

function whatFits({ scheme, name, value }, request, secret) {
  if (scheme === "revnoxa") return [right("revnoxa_fits", `${name} fits this body and secret.`)];
  const text = `${name} fits this body, webhook-id, webhook-timestamp and secret.`;
  const entries = value.split(" ");
  const at = entries.findIndex((entry) => standardFits(entry, request, secret));
  const place = at === 0 ? "The first fits, which is the new secret's" : "Not the first fits: this is the old secret";
  const several = `webhook-signature holds ${entries.length} signatures, as while a secret is replaced. ${place}. One is enough.`;
  return [right("standard_fits", text), ...(entries.length > 1 ? [note("one_of_several", several)] : [])];
}

function aboutTime({ timestamp }, now) {
  if (!isSeconds(timestamp)) return [];
  const age = Math.round(now.getTime() / 1000) - Number(timestamp);
  if (age > TOLERANCE_S) {
    const text = `The timestamp is too old for a receiver now: it was signed ${inWords(age)} ago, and 5 min are accepted, against replays.`;
    const fix =
      "That is right for a stored request, and says nothing about the signature. If it was refused as it arrived, your server's clock is ahead, or the request waited in a queue: verify on arrival.";
    return [note("timestamp_too_old", text, fix)];
  }
  if (age < -TOLERANCE_S) {
    const text = `The timestamp is ${inWords(-age)} in the future; receivers accept 5 min.`;
    const fix = "It says nothing about the signature. This device's clock is behind, or the timestamp was changed.";
    return [note("timestamp_too_new", text, fix)];
  }
  return [];
}

function inWords(seconds) {
  const units = [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
    ["s", 1],
  ];
  const at = units.findIndex(([, length]) => seconds >= length);
  const [[large, length], small] = units.slice(at, at + 2);
  const rest = small && Math.floor((seconds % length) / small[1]);
  return `${Math.floor(seconds / length)} ${large}${rest ? ` ${rest} ${small[0]}` : ""}`;
}

function aboutSecret({ mended, malformed }, fitting, matches) {
  const fixed = [...matches].filter(([, { key }]) => key.isMended).map(([{ name }]) => name);
  if (fixed.length > 0) {
    const text = `With the secret so corrected, it is right for ${fixed.join(" and ")}.`;
    return [...mended, note("fits_mended_secret", text)];
  }
  // Any text is a key for X-Revnoxa-Signature, so one that fits does not show that the host has this secret.
  const isKnown = fitting.some(({ scheme }) => scheme === "standard") || (fitting.length === 0 && matches.size > 0);
  return isKnown ? [] : [...mended, ...malformed];
}

function whatIsWrong(signature, matches, fitting, request) {
  const match = matches.get(signature);
  const headers = signature.scheme === "standard" ? aboutStandardHeaders(request) : [];
  if (match) return [...headers, ...howItWasMade(signature, match, request)];
  const { findings } = signature.readings[0];
  const isRestRight = fitting.length > 0 || matches.size > 0;
  if (findings.length > 0 || headers.length > 0 || !isRestRight) return [...headers, ...findings];
  return [ofAnother(signature, request)];
}

function aboutStandardHeaders({ id, timestamp }) {
  const findings = [];
  const fix = "Paste it, too. If your receiver lacks it, a proxy has removed it.";
  const missing = (kind, name) =>
    findings.push(problem(kind, `${name} is missing, which webhook-signature covers.`, fix));
  if (id === undefined) missing("id_missing", "webhook-id");
  if (timestamp === undefined) missing("timestamp_missing", "webhook-timestamp");
  if (timestamp !== undefined && !isSeconds(timestamp)) {
    const fix = "Use the header's text as it came: neither milliseconds nor a date.";
    findings.push(problem("timestamp_form", "webhook-timestamp is not in Unix seconds.", fix));
  }
  return findings;
}

/** A signature that fits nothing while another of the request fits, or nearly does. */
function ofAnother({ scheme, name }, { standard }) {
  if (scheme === "standard") {
    const text = `Body and secret are right, but ${name} does not fit: webhook-id, webhook-timestamp or the signature is of another request or attempt, or was changed.`;
    const fix =
      "Take all headers from one attempt: each has its own timestamp. From the values alone one cannot tell which of them is foreign.";
    return problem("id_or_timestamp_of_another", text, fix);
  }
  if (standard.includes(" ")) {
    const text = `${name} is by another secret than this, which is the old one: it is being replaced.`;
    const fix =
      "Give your receiver the new secret. Until the overlap ends, webhook-signature fits both; X-Revnoxa-Signature is always made with the new one.";
    return problem("old_secret", text, fix);
  }
  const text = `Body and secret are right, but ${name} does not fit: it is of another request, or was changed.`;
  return problem("signature_of_another", text, "Take all headers from the same request.");
}

/** What one needs to know when the page says yes and the receiver no. */
function otherwise(body, secret) {
  const text = `If your receiver refuses this request all the same, it has other bytes, another secret or other headers than these.`;
  const fix = `Let it log how long they are: here the body has ${utf8(body).length} bytes and the secret ${secret.length} characters.`;
  return note("receiver_differs", text, fix);
}

function nothingFits(request) {
  const text = "Nothing fits: the signature was made with another secret, or for other bytes than this body.";
  const fix =
    "Take the secret of this very endpoint, the newest if it was replaced, and the raw body as shown under “Get the raw body”. What cannot be recognised: keys in another order, numbers printed anew (1.0 as 1), values that were changed.";
  return [problem("nothing_fits", text, fix), ...clues(request)];
}

/** What shows that the body is not the one that was signed. */
function clues({ id, contentLength, body }) {
  const found = [];
  const length = utf8(body).length;
  if (/^\d{1,15}$/.test(contentLength ?? "") && Number(contentLength) !== length) {
    const text = `Content-Length says ${contentLength} bytes, but this body has ${length}.`;
    found.push(note("content_length", text, "So these are other bytes than those that were sent."));
  }
  if (body.includes("\ufffd")) {
    const text = "The body has replacement characters (\ufffd): bytes were lost when it was decoded.";
    found.push(note("characters_lost", text, "Take the bytes before anything decodes them."));
  }
  if (/^\s*[{[]/.test(body) && !isJson(body)) {
    const text = "The body is not whole JSON: it is cut off or was edited.";
    found.push(note("body_cut_off", text, "Logs and terminals cut long lines; save the body to a file instead."));
  }
  const idInBody = idOf(body);
  const isOfAnother = id !== undefined && idInBody !== undefined && id !== idInBody;
  return isOfAnother ? [...found, { ...idDiffers(id, idInBody), level: "note" }] : found;
}
