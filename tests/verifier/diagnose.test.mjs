// The diagnosis of the host's signature debugger: requests that were signed truly, and then changed.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const asset = (name) => import(pathToFileURL(join(process.env.ASSETS, name)).href);
const { diagnose } = await asset("diagnose.js");
const { mac, sign, Verifier } = await asset("webhook-verifier.js");

const SECRET = "whsec_AAEC+/QFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=";
const OTHER = "whsec_/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ID = "evt_1";
const SIGNED_S = 1_767_225_600;
const BODY =
  '{"id":"evt_1","type":"incident.created","timestamp":"2026-01-01T00:00:00.000Z","data":{"title":"Café <a/b>","share":1.0,"tags":[]}}';
const ASCII = '{"id":"evt_1","type":"incident.created","timestamp":"2026-01-01T00:00:00.000Z","data":{"number":7}}';

const signed = (body, secret = SECRET) => sign(secret, body, { id: ID, timestamp: SIGNED_S });
const lines = (headers) =>
  Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
const bytes = (text) => new TextEncoder().encode(text);
const base64 = (hex) => Buffer.from(hex, "hex").toString("base64");
const decoded = Buffer.from(SECRET.slice(6), "base64");
const prefix = (id = ID, timestamp = SIGNED_S) => bytes(`${id}.${timestamp}.`);

/** The request that arrives: signed for `sent`, pasted with `changes`. */
const pasted = (sent, changes) => ({
  body: sent,
  headers: lines(signed(sent)),
  secret: SECRET,
  now: new Date((SIGNED_S + 5) * 1000),
  ...changes,
});
const kinds = ({ findings }, level) => findings.filter((found) => found.level === level).map(({ kind }) => kind);
const { "x-revnoxa-signature": HEX, "webhook-signature": V1 } = signed(BODY);
const without = (name) => lines(Object.fromEntries(Object.entries(signed(BODY)).filter(([key]) => key !== name)));
const replaced = (changes) => lines({ ...signed(BODY), ...changes });

test("a genuine request is verified, however its headers are pasted", () => {
  const headers = signed(BODY);
  const forms = {
    lines: lines(headers),
    "among others": `POST /webhooks HTTP/1.1\r\nHost: example.com\r\nX-Webhook-Id: none\r\nContent-Length: 1\r\n${lines(headers).replaceAll("\n", "\r\n")}\r\n`,
    curl: `curl ${Object.entries(headers)
      .map(([name, value]) => `-H '${name}: ${value}'`)
      .join(" ")} https://example.com`,
    "curl -v": lines(headers).replace(/^/gm, "> "),
    JSON: JSON.stringify(headers),
    "printed by Node": Object.entries(headers)
      .map(([name, value]) => `  '${name}': '${value}',`)
      .join("\n"),
    environment: Object.entries(headers)
      .map(([name, value]) => `HTTP_${name.toUpperCase().replaceAll("-", "_")}=${value}`)
      .join("\n"),
    twice: `${lines(headers)}\n${lines(headers)}`,
  };
  for (const [form, text] of Object.entries(forms)) {
    const found = diagnose(pasted(BODY, { headers: text }));
    assert.deepEqual(
      [found.ok, kinds(found, "ok"), kinds(found, "problem")],
      [true, ["revnoxa_fits", "standard_fits"], []],
      form,
    );
  }
});

test("one signature alone is verified", () => {
  const found = diagnose(pasted(BODY, { headers: `\n${HEX} ` }));
  assert.deepEqual([found.ok, kinds(found, "ok")], [true, ["revnoxa_fits"]]);
});

test("what is missing is asked for, and nothing is judged before", () => {
  const empty = diagnose({ body: "", headers: "", secret: "", now: new Date() });
  assert.deepEqual([empty.ok, kinds(empty, "note")], [false, ["body_missing", "headers_missing", "secret_missing"]]);
  assert.deepEqual(kinds(empty, "problem"), []);
  const unsigned = diagnose(pasted(BODY, { headers: "content-type: application/json" }));
  assert.deepEqual(kinds(unsigned, "problem"), ["signature_missing"]);
});

const piece = "x".repeat(65_535);
const sorted = JSON.stringify({
  data: { number: 7 },
  id: "evt_1",
  timestamp: "2026-01-01T00:00:00.000Z",
  type: "incident.created",
});
const escaped = BODY.replaceAll("é", "\\u00e9");
const parsed = JSON.parse(ASCII);

/** What was sent, what was pasted as the body, and what is found to be wrong, and nothing else. */
const BODIES = [
  ["a line break more", BODY, `${BODY}\n`, "extra_newline"],
  ["CRLF more", BODY, `${BODY}\r\n`, "extra_newline"],
  ["a line break less", `${BODY}\n`, BODY, "missing_newline"],
  ["CRLF less", `${BODY}\r\n`, BODY, "missing_newline"],
  ["white space around it", BODY, `  ${BODY}\n\n`, "surrounding_space"],
  ["LF for CRLF", "{\r\n}", "{\n}", "line_ends"],
  ["CRLF for LF", "{\n}", "{\r\n}", "line_ends"],
  ["a byte order mark more", BODY, `\ufeff${BODY}`, "byte_order_mark"],
  ["a byte order mark less", `\ufeff${BODY}`, BODY, "byte_order_mark"],
  ["UTF-8 read as Latin-1", BODY, Buffer.from(BODY).toString("latin1"), "wrong_charset"],
  ["UTF-8 read as Windows-1252", '"€"', '"â‚¬"', "wrong_charset"],
  ["accents decomposed", BODY, BODY.normalize("NFD"), "unicode_form"],
  ["typographic quotes", BODY, BODY.replace('"id"', "“id”"), "typographic_characters"],
  ["hard spaces", '{"a": 1}', '{"a":\u00a01}', "typographic_characters"],
  ["indented by 2", ASCII, JSON.stringify(parsed, null, 2), "json_printed_again"],
  ["indented, with a line break", ASCII, `${JSON.stringify(parsed, null, 2)}\n`, "json_printed_again"],
  ["numbers kept when it is printed again", BODY, BODY.replaceAll(",", ",\n  "), "json_printed_again"],
  ["compact, sent indented by 2", JSON.stringify(parsed, null, 2), ASCII, "json_printed_again"],
  ["compact, sent indented by 4", JSON.stringify(parsed, null, 4), ASCII, "json_printed_again"],
  ["compact, sent indented by tabs", JSON.stringify(parsed, null, "\t"), ASCII, "json_printed_again"],
  [
    "compact, sent as by json.dumps",
    '{"id": "evt_1", "tags": [1, 2]}',
    '{"id":"evt_1","tags":[1,2]}',
    "json_printed_again",
  ],
  ["escaped to ASCII", BODY, escaped, "json_printed_again"],
  ["escaped to ASCII and spaced", BODY, escaped.replaceAll('":', '": '), "json_printed_again"],
  ["sent escaped to ASCII", escaped, BODY, "json_printed_again"],
  ["sent escaped in upper case", BODY.replaceAll("é", "\\u00E9"), BODY, "json_printed_again"],
  ["slashes escaped", BODY, BODY.replaceAll("/", "\\/"), "json_printed_again"],
  ["sent with slashes escaped", BODY.replaceAll("/", "\\/"), BODY, "json_printed_again"],
  ["sent as by PHP", escaped.replaceAll("/", "\\/"), BODY, "json_printed_again"],
  ["sent as by Go", BODY.replaceAll("<", "\\u003c").replaceAll(">", "\\u003e"), BODY, "json_printed_again"],
  ["members sorted", ASCII, sorted, "json_printed_again"],
  ["a string of JSON", BODY, JSON.stringify(BODY), "body_json_string"],
  ["a string of JSON without its quotes", BODY, JSON.stringify(BODY).slice(1, -1), "body_json_string"],
  ["bytes as Python prints them", BODY, `b'${BODY.replaceAll("é", "\\xc3\\xa9")}'`, "body_python_bytes"],
  [
    "HTML entities",
    BODY,
    BODY.replaceAll('"', "&quot;").replaceAll("<", "&lt;").replaceAll("/", "&#x2F;"),
    "body_html_entities",
  ],
  ["base64", BODY, Buffer.from(BODY).toString("base64"), "body_base64"],
  ["base64 of a body with a line break more", BODY, Buffer.from(`${BODY}\n`).toString("base64"), "body_base64"],
  ["hex", BODY, Buffer.from(BODY).toString("hex"), "body_hex"],
  ["a form's field", BODY, `payload=${encodeURIComponent(BODY).replaceAll("%20", "+")}`, "body_form"],
  ["longer than one piece of the module's", `"${piece}é${piece}"`, `"${piece}é${piece}"\n`, "extra_newline"],
];

test("other bytes than those that were sent are recognised", () => {
  for (const [why, sent, body, kind] of BODIES) {
    const found = diagnose(pasted(sent, { body }));
    assert.deepEqual([found.ok, kinds(found, "problem")], [false, [kind]], why);
  }
});

const REVNOXA = (hex) => `X-Revnoxa-Signature: ${hex}`;
const STANDARD = (entry, id = ID, timestamp = SIGNED_S) =>
  `webhook-id: ${id}\nwebhook-timestamp: ${timestamp}\nwebhook-signature: ${entry}`;
const bodyMac = (key) => mac(key, bytes(BODY));
const wholeMac = (key, before = prefix()) => `v1,${base64(mac(key, before, bytes(BODY)))}`;

/** What was pasted as the headers, and what is found to be wrong, and nothing else. */
const HEADERS = [
  ["upper case", REVNOXA(HEX.toUpperCase()), "signature_upper_case"],
  ["a prefix", REVNOXA(`sha256=${HEX}`), "signature_prefix"],
  ["a prefix, alone", `sha256=${HEX}`, "signature_prefix"],
  ["quotes", `"${HEX}"`, "signature_quoted"],
  ["base64", REVNOXA(base64(HEX)), "signature_base64"],
  ["URL-safe base64", STANDARD(V1.replaceAll("+", "-").replaceAll("/", "_")), "signature_url_safe"],
  ["base64 without its padding", STANDARD(V1.slice(0, -1)), "signature_unpadded"],
  ["base64 of the hex digits", REVNOXA(Buffer.from(HEX).toString("base64")), "signature_base64_of_hex"],
  ["cut off", REVNOXA(HEX.slice(0, 40)), "signature_truncated"],
  ["cut off by an ellipsis", STANDARD(`${V1.slice(0, 30)}…`), "signature_truncated"],
  ["hex in webhook-signature", STANDARD(mac(decoded, prefix(), bytes(BODY))), "signature_hex"],
  ["hex behind v1,", STANDARD(`v1,${mac(decoded, prefix(), bytes(BODY))}`), "signature_hex"],
  ["without v1,", STANDARD(V1.slice(3)), "signature_version_missing"],
  ["the one header in the other", `${STANDARD(HEX)}`, "wrong_header"],
  ["the other header in the one", `${REVNOXA(V1)}\nwebhook-id: ${ID}\nwebhook-timestamp: ${SIGNED_S}`, "wrong_header"],
  ["without the id", without("webhook-id"), "id_missing"],
  ["without the timestamp", without("webhook-timestamp"), "timestamp_missing"],
  ["webhook-signature alone", V1, "id_missing timestamp_missing nothing_fits"],
  ["a timestamp in milliseconds", replaced({ "webhook-timestamp": SIGNED_S * 1000 }), "timestamp_form"],
  [
    "a timestamp as a date",
    replaced({ "webhook-timestamp": new Date(SIGNED_S * 1000).toISOString() }),
    "timestamp_form",
  ],
  ["the timestamp of another attempt", replaced({ "webhook-timestamp": SIGNED_S + 30 }), "id_or_timestamp_of_another"],
  ["the id of another event", replaced({ "webhook-id": "evt_2" }), "id_differs"],
  [
    "X-Revnoxa-Signature of another request",
    replaced({ "x-revnoxa-signature": HEX.replaceAll("0", "1") }),
    "signature_of_another",
  ],
  ["two values of a header", `${lines(signed(BODY))}\nwebhook-id: evt_2`, "header_twice"],
  ["no signature", REVNOXA("none"), "signature_unreadable nothing_fits"],
  ["a byte more in the header than receivers take", `${STANDARD(`${V1} ${"x".repeat(1_024)}`)}`, "header_refused"],
  ["the decoded key", REVNOXA(bodyMac(decoded)), "key_decoded"],
  ["the key without whsec_", REVNOXA(bodyMac(bytes(SECRET.slice(6)))), "key_encoded"],
  ["the key with a line break", REVNOXA(bodyMac(bytes(`${SECRET}\n`))), "key_line"],
  ["the key not decoded", STANDARD(wholeMac(bytes(SECRET))), "key_text"],
  ["the key not decoded, without whsec_", STANDARD(wholeMac(bytes(SECRET.slice(6)))), "key_encoded"],
  ["the decoded key, alone in base64", base64(bodyMac(decoded)), "signature_base64 key_decoded"],
  [
    "id and timestamp before the body",
    `${REVNOXA(mac(bytes(SECRET), prefix(), bytes(BODY)))}\nwebhook-id: ${ID}\nwebhook-timestamp: ${SIGNED_S}`,
    "message_whole",
  ],
  ["the body alone", STANDARD(wholeMac(decoded, bytes(""))), "message_body"],
  ["without the id in it", STANDARD(wholeMac(decoded, bytes(`${SIGNED_S}.`))), "message_without_id"],
  ["without the timestamp in it", STANDARD(wholeMac(decoded, bytes(`${ID}.`))), "message_without_timestamp"],
  ["of no body", REVNOXA(mac(bytes(SECRET))), "body_lost"],
  ["of a parsed body", REVNOXA(mac(bytes(SECRET), bytes("[object Object]"))), "body_lost"],
  [
    "two mistakes: printed again, with the decoded key",
    REVNOXA(mac(decoded, bytes(BODY.replaceAll('":', '": ').replaceAll(",", ", ")))),
    "key_decoded json_printed_again",
  ],
];

test("wrong headers, and signatures that were made wrongly, are recognised", () => {
  for (const [why, headers, expected] of HEADERS) {
    const found = diagnose(pasted(BODY, { headers }));
    assert.deepEqual([found.ok, kinds(found, "problem").join(" ")], [false, expected], why);
  }
});

/** What was pasted as the secret, and what is found to be wrong, and nothing else. */
const SECRETS = [
  ["white space", ` ${SECRET}\t`, "secret_white_space"],
  ["a line break in it", `${SECRET.slice(0, 20)}\n${SECRET.slice(20)}`, "secret_white_space"],
  ["invisible characters", `\u200b${SECRET}`, "secret_invisible"],
  ["quotes", `"${SECRET}"`, "secret_quoted"],
  ["a variable", `WEBHOOK_SECRET=${SECRET}`, "secret_assignment"],
  ["a variable in quotes", `export WEBHOOK_SECRET="${SECRET}"`, "secret_white_space secret_assignment secret_quoted"],
  ["base64 of it", Buffer.from(SECRET).toString("base64"), "secret_base64_twice"],
  ["as in a URL", encodeURIComponent(SECRET), "secret_percent_encoded"],
  ["upper case", SECRET.replace("whsec_", "WHSEC_"), "secret_prefix_case"],
  ["without whsec_", SECRET.slice(6), "secret_without_prefix"],
  ["URL-safe", SECRET.replaceAll("/", "_"), "secret_url_safe"],
  ["without its padding", SECRET.slice(0, -1), "secret_unpadded"],
  ["no prefix at all", "hunter2", "secret_prefix nothing_fits"],
  ["masked", "whsec_••••", "secret_not_base64 nothing_fits"],
  ["cut off", SECRET.slice(0, 38), "secret_length nothing_fits"],
  ["a token", "rvx_tenant_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "secret_is_token"],
  ["a signature", HEX, "secret_is_signature"],
  ["an id", "ep_0123", "secret_is_id"],
  ["a whole file", SECRET.repeat(20), "secret_too_long"],
  ["another's", OTHER, "nothing_fits"],
];

test("wrong secrets are recognised", () => {
  for (const [why, secret, expected] of SECRETS) {
    const found = diagnose(pasted(BODY, { secret }));
    assert.deepEqual([found.ok, kinds(found, "problem").join(" ")], [false, expected], why);
  }
});

test("a secret that only a wrong signature fits is none", () => {
  const secret = SECRET.slice(6);
  const found = diagnose(pasted(BODY, { secret, headers: REVNOXA(bodyMac(bytes(secret))) }));
  assert.deepEqual([found.ok, kinds(found, "problem")], [false, ["secret_without_prefix"]]);
});

test("while a secret is replaced, both are recognised", () => {
  const headers = replaced({ "webhook-signature": `${V1} ${signed(BODY, OTHER)["webhook-signature"]}` });
  const fresh = diagnose(pasted(BODY, { headers }));
  assert.deepEqual([fresh.ok, kinds(fresh, "note")], [true, ["one_of_several", "receiver_differs"]]);
  const old = diagnose(pasted(BODY, { headers, secret: OTHER }));
  assert.deepEqual([old.ok, kinds(old, "ok"), kinds(old, "problem")], [false, ["standard_fits"], ["old_secret"]]);
});

test("the time is told apart from the signature", () => {
  const at = (seconds) => diagnose(pasted(BODY, { now: new Date((SIGNED_S + seconds) * 1000) }));
  for (const [seconds, kind, words] of [
    [301, "timestamp_too_old", "5 min 1 s"],
    [93_700, "timestamp_too_old", "1 d 2 h"],
    [-301, "timestamp_too_new", "5 min 1 s"],
  ]) {
    const found = at(seconds);
    assert.deepEqual([found.ok, kinds(found, "note")[0]], [true, kind], kind);
    assert.match(found.findings.find((found) => found.kind === kind).text, new RegExp(` ${words} `));
  }
  for (const seconds of [300, -300]) assert.deepEqual(kinds(at(seconds), "note"), ["receiver_differs"], seconds);
});

test("what shows that the body is another is told when nothing fits", () => {
  const clues = (body, more = "") =>
    kinds(diagnose(pasted(BODY, { body, headers: `${lines(signed(BODY))}\n${more}` })), "note");
  assert.deepEqual(clues(`${ASCII} `.replace("7", "8"), `Content-Length: ${BODY.length}`), ["content_length"]);
  assert.deepEqual(clues(BODY.replace("é", "\ufffd")), ["characters_lost"]);
  assert.deepEqual(clues(BODY.slice(0, 60)), ["body_cut_off"]);
  assert.deepEqual(clues(ASCII.replace("evt_1", "evt_2")), ["id_differs"]);
});

test("no finding tells the secret, and each problem tells what to do", () => {
  const requests = [
    ...SECRETS.map(([, secret]) => ({ secret })),
    ...HEADERS.map(([, headers]) => ({ headers })),
    ...BODIES.map(([, , body]) => ({ body })),
  ];
  for (const changes of requests) {
    const request = pasted(BODY, changes);
    for (const { kind, level, text, fix } of diagnose(request).findings) {
      assert.ok(!`${text}${fix}`.includes(request.secret), kind);
      assert.equal(level === "problem" && !fix, false, kind);
    }
  }
});

test("no input makes it throw", () => {
  const texts = [
    "",
    "\0",
    "\ud800",
    "\ufeff",
    "{",
    '"',
    "null",
    "[]",
    "b''",
    "%",
    "%ff",
    "=",
    "&#999999;",
    "a".repeat(999),
  ];
  const odd = [...texts, "v1,", "v1, v1,", "whsec_", "webhook-signature: x", "webhook-id: .\nwebhook-signature: v1,"];
  const requests = odd.flatMap((body) => odd.flatMap((headers) => odd.map((secret) => ({ body, headers, secret }))));
  for (const request of requests) {
    assert.equal(typeof diagnose({ ...request, now: new Date(0) }).ok, "boolean", JSON.stringify(request));
  }
});

test("a signature by any key is the verifier's where the key is a secret", () => {
  for (const body of ["", BODY, piece + piece + piece]) {
    const parts = [body.slice(0, 70_000), body.slice(70_000)].map(bytes);
    assert.ok(new Verifier(SECRET).verify(body, mac(bytes(SECRET), ...parts)));
  }
});
