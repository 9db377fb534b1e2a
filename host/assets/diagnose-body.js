// The bytes that a signature could be for, given a body that it does not fit.
import { printedAgain } from "./diagnose-json.js";
import { binary, fromBase64, fromUtf8 } from "./diagnose-text.js";

/** For a body of more characters, longer than any that is sent, no other bytes are tried. */
const MAX_TRIED = 1 << 23;

const RAW = "Verify the bytes as they arrived, before anything parses or changes them.";

/**
 * What the body may have been, the likeliest first: `kind`, `text` saying what the signature fits, `fix`, and `body`, a
 * string or bytes.
 */
export function* otherBodies(body) {
  if (body.length > MAX_TRIED) return;
  yield* lineEnds(body);
  yield* characters(body);
  yield* reprinted(body);
  yield* wrapped(body);
  yield* mistaken();
}

function* lineEnds(body) {
  const added = `An editor, a log or \`echo\` adds a line break (\`printf %s\` does not). ${RAW}`;
  if (/\n$/.test(body)) {
    const text = "The signature fits the body without the line break at its end.";
    yield { kind: "extra_newline", text, fix: added, body: body.replace(/\r?\n$/, "") };
  }
  for (const end of ["\n", "\r\n"]) {
    const text = "The signature fits the body with a line break at its end, which is missing here.";
    yield { kind: "missing_newline", text, fix: `Trim nothing. ${RAW}`, body: body + end };
  }
  const lf = body.replaceAll("\r\n", "\n");
  if (lf !== body) {
    const text = "The signature fits the body with its line ends (CRLF) turned into LF.";
    yield { kind: "line_ends", text, fix: `Something turned LF into CRLF: Windows, a mail or git. ${RAW}`, body: lf };
  }
  if (lf.includes("\n")) {
    const text = "The signature fits the body with CRLF as its line ends.";
    const fix = `Something turned CRLF into LF. Text fields like the one here do, so your receiver may well have the right bytes; else: ${RAW}`;
    for (const end of ["", "\r\n"]) yield { kind: "line_ends", text, fix, body: lf.replaceAll("\n", "\r\n") + end };
  }
  const bom = body.startsWith("\ufeff");
  const text = bom
    ? "The signature fits the body without the byte order mark at its start."
    : "The signature fits the body with a byte order mark at its start, which is missing here.";
  const fix = bom ? `An editor adds the mark when it saves. ${RAW}` : `A decoder drops the mark. ${RAW}`;
  yield { kind: "byte_order_mark", text, fix, body: bom ? body.slice(1) : `\ufeff${body}` };
  const trimmed = "The signature fits the body without the white space around it.";
  if (body !== body.trim()) yield { kind: "surrounding_space", text: trimmed, fix: added, body: body.trim() };
}

function* characters(body) {
  if (/^[\0-\x7f]*$/.test(body)) return;
  const bytes = asWindows1252(body);
  if (bytes) {
    const text = "The signature fits the body in UTF-8; it was read as Latin-1 (é became Ã©).";
    yield {
      kind: "wrong_charset",
      text,
      fix: `Read the body as bytes, or as UTF-8 whatever the Content-Type says. ${RAW}`,
      body: bytes,
    };
  }
  for (const form of ["NFC", "NFD"]) {
    const text = `The signature fits the body with its accents in the Unicode form ${form}.`;
    yield { kind: "unicode_form", text, fix: `Something has normalised the text. ${RAW}`, body: body.normalize(form) };
  }
  const plain = body
    .replace(/[\u00a0\u202f]/g, " ")
    .replace(/[“”„]/g, '"')
    .replace(/[‘’]/g, "'")
    .replace(/[\u200b-\u200d\u2060\ufeff]/g, "");
  const text = "The signature fits the body with plain quotes and spaces.";
  yield {
    kind: "typographic_characters",
    text,
    fix: "A document or a chat replaced them: copy the body from its source.",
    body: plain,
  };
}

function* reprinted(body) {
  const fix = `Something parsed the JSON and printed it again: a body parser, a log or a formatter. ${RAW}`;
  for (const { says, text } of printedAgain(body)) {
    yield { kind: "json_printed_again", text: `The signature fits the same JSON printed ${says}.`, fix, body: text };
  }
}

/** How bodies are packed on their way, and how each is unpacked; undefined where it is not packed so. */
const WRAPPINGS = [
  ["json_string", "is a string of JSON, with quotes escaped; the signature fits what it stands for", unquoted],
  ["python_bytes", "is written as Python prints bytes; the signature fits what it stands for", fromPython],
  ["html_entities", "has HTML entities such as &quot;; the signature fits what they stand for", fromHtml],
  [
    "base64",
    "is in base64, as API Gateway hands it on (isBase64Encoded); the signature fits the decoded bytes",
    (body) => fromBase64(body.replace(/\s/g, "")),
  ],
  ["hex", "is in hex digits; the signature fits the bytes", fromHex],
  ["form", "is encoded as in a form or URL; the signature fits the decoded text", fromForm],
];

function* wrapped(body) {
  for (const [kind, says, unwrap] of WRAPPINGS) {
    const inner = unwrap(body.trim());
    if (inner === undefined) continue;
    const found = {
      kind: `body_${kind}`,
      text: `The body ${says}.`,
      fix: `Undo that before you verify, or better: ${RAW}`,
    };
    yield { ...found, body: inner };
    const text = typeof inner === "string" ? inner : fromUtf8(inner);
    if (text !== undefined && text.trim() !== text) yield { ...found, body: text.trim() };
  }
}

/** What code signs that has no body any more. */
function* mistaken() {
  const fix = `The stream was read before, or the body was parsed first. ${RAW}`;
  for (const [what, body] of [
    ["an empty body", ""],
    ["`[object Object]`", "[object Object]"],
    ["`{}`", "{}"],
    ["`undefined`", "undefined"],
    ["`null`", "null"],
  ]) {
    yield {
      kind: "body_lost",
      text: `This is the signature of ${what}: the code that computed it did not have the body.`,
      fix,
      body,
    };
  }
}

function unquoted(body) {
  for (const literal of [body, `"${body}"`]) {
    try {
      const text = JSON.parse(literal);
      if (typeof text === "string" && text !== body) return text;
    } catch {
      // Not in these quotes.
    }
  }
  return undefined;
}

function fromPython(body) {
  const inner = /^b(['"])(.*)\1$/s.exec(body)?.[2];
  const escapes = { n: "\n", r: "\r", t: "\t" };
  const plain = inner?.replace(/\\(?:x([0-9a-f]{2})|(.))/gi, (_, code, character) =>
    code ? String.fromCharCode(Number.parseInt(code, 16)) : (escapes[character] ?? character),
  );
  return plain === undefined ? undefined : binary(plain);
}

function fromHtml(body) {
  const named = { quot: '"', amp: "&", lt: "<", gt: ">", apos: "'", nbsp: "\u00a0" };
  const text = body.replace(/&(?:#x([0-9a-f]{1,5})|#([0-9]{1,6})|([a-z]+));/gi, (whole, hex, decimal, name) => {
    const code = hex ? Number.parseInt(hex, 16) : decimal ? Number(decimal) : undefined;
    return code === undefined ? (named[name] ?? whole) : String.fromCodePoint(code);
  });
  return text === body ? undefined : text;
}

function fromHex(body) {
  const digits = body.replace(/^(0x|\\x)/, "").replace(/\s/g, "");
  if (!/^([0-9a-f]{2})+$/i.test(digits)) return undefined;
  return Uint8Array.from(digits.match(/../g), (pair) => Number.parseInt(pair, 16));
}

function fromForm(body) {
  if (!/%[0-9a-f]{2}/i.test(body)) return undefined;
  try {
    return decodeURIComponent(body.replace(/^[\w-]+=/, "").replaceAll("+", " "));
  } catch {
    return undefined;
  }
}

/** What 0x80 to 0x9f are in Windows-1252. A table, since not every TextDecoder keeps to it. */
const WINDOWS_1252 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ";

/** The bytes that are read as this text in Windows-1252 or Latin-1; undefined when none are. */
function asWindows1252(text) {
  const code = (character) => {
    const at = WINDOWS_1252.indexOf(character);
    return at < 0 ? character : String.fromCharCode(0x80 + at);
  };
  return binary(text.replace(/[^\0-\xff]/g, code));
}
