// What must not get through, and what must: every signature here is made by node:crypto, not by the package.
import assert from "node:assert/strict";
import { createCipheriv, createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import { runInNewContext } from "node:vm";

import { StandardVerifier, Verifier } from "@revnoxa/webhook-verifier";

const NOW = 1_767_225_600;
const KEY = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const SECRET = `whsec_${KEY.toString("base64")}`;
const OTHER = `whsec_${randomBytes(32).toString("base64")}`;
const BODY = '{"id":"evt_1","type":"incident.created","data":{"title":"Käse ☃ 𝄞","n":1.0}}';
const STATUS = {
  missing_header: 401,
  invalid_header: 401,
  invalid_timestamp: 401,
  timestamp_too_old: 401,
  timestamp_too_new: 401,
  no_match: 401,
  body_already_read: 500,
};

const hex = (body, secret = SECRET) => createHmac("sha256", secret).update(body).digest("hex");
const v1 = (body, { id = "evt_1", timestamp = NOW, key = KEY } = {}) =>
  `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64")}`;
const headersOf = (body, { id = "evt_1", timestamp = NOW, key = KEY } = {}) => ({
  "webhook-id": id,
  "webhook-timestamp": String(timestamp),
  "webhook-signature": v1(body, { id, timestamp, key }),
});
const GENUINE = headersOf(BODY);
const { "webhook-id": ID, "webhook-timestamp": TIMESTAMP, "webhook-signature": SIGNATURE } = GENUINE;
const HEX = hex(BODY);

const verifier = new Verifier(SECRET);
const standard = new StandardVerifier(SECRET);

/** What a call comes to: `ok`, `false`, or the code of the documented error; no other error is let through. */
function outcome(why, call) {
  try {
    const given = call();
    return given === undefined || given === true ? "ok" : String(given);
  } catch (error) {
    assert.equal(error.name, "WebhookVerificationError", `${why}: ${error.stack}`);
    assert.ok(error instanceof Error && error.message.length > 0, why);
    assert.equal(error.statusCode, STATUS[error.code], `${why}: ${error.code}`);
    return error.code;
  }
}
const judge = (why, body, headers, options = {}) => outcome(why, () => standard.verify(body, headers, { now: NOW, ...options }));
const judgeBody = (why, body, signature) => outcome(why, () => verifier.verify(body, signature));
const accepts = (why, body, headers = headersOf(body)) => assert.equal(judge(why, body, headers), "ok", why);
const acceptsBody = (why, body, signature = hex(body)) => assert.equal(judgeBody(why, body, signature), "ok", why);

/** Texts near to a genuine one, each once. */
function spoilt(text) {
  const all = new Set();
  for (let i = 0; i < text.length; i += 1) {
    all.add(text.slice(0, i));
    all.add(text.slice(0, i) + text.slice(i + 1));
    all.add(`${text.slice(0, i)} ${text.slice(i)}`);
    const flipped = String.fromCharCode(text.charCodeAt(i) ^ 1);
    all.add(text.slice(0, i) + flipped + text.slice(i + 1));
    all.add(text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) ^ 0x20) + text.slice(i + 1));
    // The same low byte: what cuts a character down to one would take it.
    all.add(text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) + 0x100) + text.slice(i + 1));
  }
  for (const more of ["\0", "0", "=", "\n", "\u00a0", "\ud800", "\udc00", "☃", "x".repeat(1024)]) {
    all.add(text + more);
    all.add(more + text);
  }
  for (const other of [text.toUpperCase(), [...text].reverse().join(""), text + text, encodeURIComponent(text)]) all.add(other);
  all.delete(text);
  return [...all];
}

test("no forged header is accepted", () => {
  let forgeries = 0;
  const refused = (why, headers, codes, body = BODY, options) => {
    forgeries += 1;
    const code = judge(why, body, headers, options);
    assert.ok([codes].flat().includes(code), `${why}: ${code}, not ${codes}`);
  };
  const anyHeader = ["invalid_header", "missing_header", "no_match"];
  // A space parts two signatures: what stands beside a genuine one takes nothing from it.
  for (const text of spoilt(SIGNATURE).filter((text) => !text.split(" ").includes(SIGNATURE))) {
    refused(`signature ${text}`, { ...GENUINE, "webhook-signature": text }, anyHeader);
  }
  for (const text of spoilt(ID)) refused(`id ${text}`, { ...GENUINE, "webhook-id": text }, anyHeader);
  for (const text of spoilt(TIMESTAMP)) {
    const codes = ["invalid_timestamp", "missing_header", "timestamp_too_old", "timestamp_too_new", "no_match"];
    refused(`timestamp ${text}`, { ...GENUINE, "webhook-timestamp": text }, codes);
  }
  for (const version of ["V1,", "v1", "v1=", "v2,", "v1a,", "v1,,", "", ",", "v1;", "sha256=", "v01,"]) {
    refused(`scheme ${version}`, { ...GENUINE, "webhook-signature": SIGNATURE.replace("v1,", version) }, "no_match");
  }
  for (const joint of [",", "\t", "\n", "\u00a0", "\u2003", "\u3000", ";"]) {
    const text = `v1,${"A".repeat(43)}=${joint}${SIGNATURE}`;
    refused(`joined by ${JSON.stringify(joint)}`, { ...GENUINE, "webhook-signature": text }, "no_match");
  }
  for (const made of [HEX, `v1,${HEX}`, v1(BODY, { key: SECRET }), v1(BODY, { key: "" }), v1(BODY, { key: OTHER })]) {
    refused(`made of something else: ${made}`, { ...GENUINE, "webhook-signature": made }, "no_match");
  }

  // Each bound between id, timestamp and body, moved under the signature of the genuine message.
  const signed = (id, timestamp, body) => ({ "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": SIGNATURE });
  refused("the timestamp in the id", signed(`${ID}.${TIMESTAMP}`, TIMESTAMP), "invalid_header");
  refused("the body in the timestamp", signed(ID, `${TIMESTAMP}.${BODY}`), "invalid_timestamp", "");
  refused("a swapped id", { ...GENUINE, "webhook-id": "evt_2" }, "no_match");
  refused("id and timestamp swapped", signed(TIMESTAMP, ID), "invalid_timestamp");

  for (const far of [301, 302, 3_600, 86_400, 1e9, NOW]) {
    refused(`${far} s old`, headersOf(BODY, { timestamp: NOW - far }), "timestamp_too_old");
    refused(`${far} s ahead`, headersOf(BODY, { timestamp: NOW + far }), "timestamp_too_new");
    refused(`a clock ${far} s ahead`, GENUINE, "timestamp_too_old", BODY, { now: NOW + far });
    refused(`a clock ${far} s behind`, GENUINE, "timestamp_too_new", BODY, { now: new Date((NOW - far) * 1000) });
    refused(`a narrow window, ${far} s`, headersOf(BODY, { timestamp: NOW - far }), "timestamp_too_old", BODY, { toleranceSeconds: far - 1 });
  }
  for (const timestamp of [
    "1767225600000", "1767225600.0", "1.7672256e9", "0x6955b900", "+1767225600", "-1767225600", "01767225600", " 1767225600", "1767225600 ",
    "１７６７２２５６００", "١٧٦٧٢٢٥٦٠٠", "NaN", "Infinity", "null", "true", "1767225600n", "1_767_225_600", "2026-01-01T00:00:00Z", "9".repeat(400),
  ]) {
    refused(`stamp ${timestamp}`, headersOf(BODY, { timestamp }), "invalid_timestamp");
  }
  for (const id of ["a.b", ".", "a b", "a\tb", "ä", "\u0000", "\u007f", "\ud800", "𝄞", "x".repeat(257), "x".repeat(264), "é".repeat(132), "x".repeat(1e6)]) {
    refused(`id ${id.slice(0, 20)}`, headersOf(BODY, { id }), "invalid_header");
  }

  const wrong = `v1,${"A".repeat(43)}=`;
  for (const count of [1, 2, 5, 20, 21]) {
    refused(`${count} wrong signatures`, { ...GENUINE, "webhook-signature": Array(count).fill(wrong).join(" ") }, "no_match");
  }
  for (const count of [22, 23, 100, 10_000]) {
    const text = [SIGNATURE, ...Array(count - 1).fill(wrong)].join(" ");
    refused(`the genuine one and ${count - 1} others`, { ...GENUINE, "webhook-signature": text }, "invalid_header");
  }
  // 10 MB: read no further than its limit.
  const huge = "v1,".padEnd(10_000_000, "A");
  for (const name of Object.keys(GENUINE)) {
    for (const text of [huge, `${GENUINE[name]} ${huge}`, "☃".repeat(3_000_000), " ".repeat(10_000_000)]) {
      refused(`${name} of 10 MB`, { ...GENUINE, [name]: text }, ["invalid_header", "invalid_timestamp"]);
    }
  }

  for (const name of Object.keys(GENUINE)) {
    const { [name]: value, ...rest } = GENUINE;
    const missing = (why, headers) => refused(`${name}: ${why}`, headers, "missing_header");
    missing("left out", rest);
    missing("empty", { ...rest, [name]: "" });
    missing("undefined", { ...rest, [name]: undefined });
    missing("null", { ...rest, [name]: null });
    missing("in a list, but undefined", { ...rest, [name]: [undefined] });
    missing("inherited", Object.assign(Object.create({ [name]: value }), rest));
    missing("inherited by __proto__", { ...rest, __proto__: { [name]: value } });
    missing("under an own __proto__", { ...rest, ...JSON.parse(`{"__proto__":${JSON.stringify({ [name]: value })}}`) });
    missing("not enumerable", Object.defineProperty({ ...rest }, name, { value, enumerable: false }));
    missing("underscores", { ...rest, [name.replaceAll("-", "_")]: value });
    missing("a space behind the name", { ...rest, [`${name} `]: value });
    missing("a symbol", { ...rest, [Symbol(name)]: value });
    missing("a prefix", { ...rest, [`x-${name}`]: value });
    missing("left out of Headers", new Headers(rest));
    missing("left out of a Map", new Map(Object.entries(rest)));
    missing("a Map with an object as the name", new Map([...Object.entries(rest), [{ toString: () => name }, value]]));

    const malformed = (why, headers) => refused(`${name}: ${why}`, headers, "invalid_header");
    const twice = [
      [value, value],
      [value, "x"],
      [],
      [[value]],
    ];
    for (const list of twice) malformed(`the list ${JSON.stringify(list)}`, { ...rest, [name]: list });
    malformed("two spellings", { ...GENUINE, [name.toUpperCase()]: value });
    malformed("two spellings, the first empty", { ...rest, [name.toUpperCase()]: "", [name]: value });
    malformed("two spellings, as a Map", new Map([...Object.entries(GENUINE), [name.toUpperCase(), value]]));
    for (const other of [0, 1, Number(value), true, false, 1n, Symbol("v"), {}, () => value, new String(value), Buffer.from(value)]) {
      malformed(`a ${typeof other}`, { ...rest, [name]: other });
      malformed(`a ${typeof other} in a list`, { ...rest, [name]: [other] });
      malformed(`a ${typeof other} of get`, { get: (asked) => (asked === name ? other : rest[asked]) });
    }
    const willing = { toString: () => value, valueOf: () => value, [Symbol.toPrimitive]: () => value };
    malformed("an object that would turn into it", { ...rest, [name]: willing });
    malformed("an object with a length", { ...rest, [name]: { length: 1, 0: value } });

    const appended = new Headers(GENUINE);
    appended.append(name, value);
    const joined = { "webhook-id": "invalid_header", "webhook-timestamp": "invalid_timestamp", "webhook-signature": "ok" };
    assert.equal(judge(`${name} appended`, BODY, appended), joined[name], `${name} appended`);
  }
  for (const headers of [{}, [], new Map(), new Headers(), Object.create(null), Object.entries(GENUINE), new Date(), /x/, Object.create(GENUINE), { ID, TIMESTAMP, SIGNATURE }]) {
    refused(`headers ${String(Object.prototype.toString.call(headers))}`, headers, "missing_header");
  }

  for (const text of [...spoilt(HEX), SIGNATURE, "", `sha256=${HEX}`, hex(BODY, OTHER), hex(BODY, KEY), hex(`${BODY} `), " ".repeat(64), "☃".repeat(64), "\ud800".repeat(64), huge]) {
    forgeries += 1;
    assert.equal(judgeBody(`signature ${text.slice(0, 80)}`, BODY, text), "false");
  }
  for (const other of [undefined, null, 0, 1, true, {}, [], [HEX], [HEX, HEX], new String(HEX), Buffer.from(HEX), Buffer.from(HEX, "hex"), { toString: () => HEX, length: 64 }, () => HEX, Symbol(HEX)]) {
    forgeries += 1;
    assert.equal(judgeBody(`a signature that is ${typeof other}`, BODY, other), "false");
  }
  assert.ok(forgeries > 1_000, `${forgeries} forgeries`);
});

test("no other body is accepted", () => {
  const parsed = JSON.parse(BODY);
  const bytes = Buffer.from(BODY);
  const others = [
    ["", "nothing"],
    [JSON.stringify(parsed), "JSON printed again"],
    [JSON.stringify(parsed, null, 2), "JSON printed again, indented"],
    [BODY.replace("Käse", "K\\u00e4se"), "JSON with an escape"],
    [`\ufeff${BODY}`, "a byte order mark"],
    [`${BODY}\n`, "a line feed behind"],
    [` ${BODY}`, "a space before"],
    [`${BODY}\0`, "a zero behind"],
    [BODY.normalize("NFD"), "decomposed characters"],
    [BODY.replace("𝄞", "\ud834"), "half of a pair"],
    [Buffer.from(BODY, "utf16le"), "UTF-16"],
    [Buffer.from(`\ufeff${BODY}`, "utf16le"), "UTF-16 with its mark"],
    [Uint16Array.from(BODY, (character) => character.charCodeAt(0)), "an array of code units"],
    [Buffer.from(BODY, "latin1"), "Latin-1"],
    [Buffer.from(bytes).reverse(), "backwards"],
    [Buffer.concat([bytes, bytes]), "twice"],
    [bytes.toString("base64"), "base64"],
    [encodeURIComponent(BODY), "percent-encoded"],
    [Uint32Array.from(bytes), "each byte as four"],
    [new DataView(new Uint8Array([...bytes, 0]).buffer), "a view of one byte more"],
    [bytes.subarray(1), "without its first byte"],
    ...Array.from(bytes, (_, at) => [bytes.subarray(0, at), `its first ${at} bytes`]),
    ...Array.from(bytes, (_, at) => [Buffer.from(bytes.map((byte, i) => (i === at ? byte ^ 0x80 : byte))), `a bit of byte ${at}`]),
  ];
  for (const [body, why] of others) {
    assert.equal(judge(why, body, GENUINE), "no_match", why);
    assert.equal(judgeBody(why, body, HEX), "false", why);
  }

  const detached = () => {
    const buffer = new ArrayBuffer(8);
    const views = [new Uint8Array(buffer), new DataView(buffer), new Uint16Array(buffer, 2), Buffer.from(buffer), new Uint8Array(buffer, 0, 0)];
    structuredClone(buffer, { transfer: [buffer] });
    return [buffer, ...views];
  };
  const shrunk = () => {
    const buffer = new ArrayBuffer(8, { maxByteLength: 16 });
    const views = [new Uint8Array(buffer, 0, 8), new DataView(buffer, 4), new Uint32Array(buffer, 4, 1), new Uint8Array(buffer, 4)];
    buffer.resize(2);
    return views;
  };
  const unread = [
    ...[parsed, [], [123, 125], {}, null, undefined, 0, 1, true, 1n, Symbol("body"), () => BODY, new String(BODY), new Blob([BODY])],
    ...[{ length: 0 }, { byteLength: 0, length: 0 }, { buffer: bytes.buffer, byteOffset: 0, byteLength: 0 }, new Map(), Promise.resolve(BODY)],
    ...[{ [Symbol.toStringTag]: "ArrayBuffer" }, { [Symbol.toStringTag]: "Uint8Array", length: 0 }, { toString: () => BODY }],
    ...[Object.create(Uint8Array.prototype), Object.create(ArrayBuffer.prototype), Object.create(DataView.prototype)],
    ...detached(),
    ...shrunk(),
  ];
  // The signatures of an empty body: what cannot be read must not count as one.
  for (const [index, body] of unread.entries()) {
    const why = `body ${index}, ${Object.prototype.toString.call(body)}`;
    assert.equal(judge(why, body, headersOf("")), "body_already_read", why);
    assert.equal(judgeBody(why, body, hex("")), "body_already_read", why);
  }
});

test("what is genuine is accepted, in whatever it is kept", () => {
  const bytes = Buffer.from(BODY);
  const padded = Buffer.concat([Buffer.from("before"), bytes, Buffer.from("after")]);
  const at = (buffer, offset = 6) => new Uint8Array(buffer, offset, bytes.length);
  const copyInto = (buffer, offset = 0) => (new Uint8Array(buffer).set(bytes, offset), buffer);
  const even = Buffer.concat([bytes, Buffer.alloc(-bytes.length & 7)]);
  const aligned = new ArrayBuffer(even.length + 16);
  new Uint8Array(aligned).set(even, 8);
  const resizable = copyInto(new ArrayBuffer(bytes.length, { maxByteLength: 4096 }));
  const grown = new ArrayBuffer(1, { maxByteLength: bytes.length });
  grown.resize(bytes.length);
  const growable = new SharedArrayBuffer(1, { maxByteLength: 4096 });
  growable.grow(bytes.length);
  const kept = {
    string: BODY,
    Buffer: bytes,
    Uint8Array: new Uint8Array(bytes),
    "a view with an offset": padded.subarray(6, 6 + bytes.length),
    "a view with an offset, not of Buffer": at(padded.buffer.slice(padded.byteOffset, padded.byteOffset + padded.length)),
    ArrayBuffer: copyInto(new ArrayBuffer(bytes.length)),
    SharedArrayBuffer: copyInto(new SharedArrayBuffer(bytes.length)),
    "a view of a SharedArrayBuffer": at(copyInto(new SharedArrayBuffer(bytes.length + 9), 6)),
    DataView: new DataView(copyInto(new ArrayBuffer(bytes.length + 9), 6), 6, bytes.length),
    "a resizable ArrayBuffer": resizable,
    "a view of a resizable ArrayBuffer": new Uint8Array(resizable),
    "a resized ArrayBuffer": copyInto(grown),
    "a grown SharedArrayBuffer": copyInto(growable),
    Int8Array: new Int8Array(bytes),
    Uint8ClampedArray: new Uint8ClampedArray(bytes),
    "Uint8Array of another realm": runInNewContext("Uint8Array.from(bytes)", { bytes }),
    "ArrayBuffer of another realm": runInNewContext("Uint8Array.from(bytes).buffer", { bytes }),
    "DataView of another realm": runInNewContext("new DataView(Uint8Array.from(bytes).buffer)", { bytes }),
  };
  for (const [why, body] of Object.entries(kept)) {
    accepts(why, body, GENUINE);
    acceptsBody(why, body, HEX);
  }
  for (const View of [Uint16Array, Int32Array, Float64Array, BigUint64Array]) {
    const view = new View(aligned, 8, even.length / View.BYTES_PER_ELEMENT);
    accepts(View.name, view, headersOf(even));
    acceptsBody(View.name, view, hex(even));
  }
  for (const empty of ["", new Uint8Array(), new ArrayBuffer(0), Buffer.alloc(0), new DataView(new ArrayBuffer(0)), new Uint16Array()]) {
    accepts("empty", empty, headersOf(""));
    acceptsBody("empty", empty, hex(""));
  }
  // UTF-8 has no lone surrogates: each is sent as U+FFFD, by fetch as by this.
  for (const lone of ["\ud800", "a\udc00b", "\udc00\ud800", "\ud83d\ud83d\ude00"]) {
    accepts("a lone surrogate", lone, headersOf(Buffer.from(lone)));
    acceptsBody("a lone surrogate", lone, hex(Buffer.from(lone)));
  }
  assert.deepEqual(bytes, Buffer.from(BODY), "a body is only read");

  const upper = Object.fromEntries(Object.entries(GENUINE).map(([name, value]) => [name.toUpperCase(), value]));
  const others = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`x-header-${i}`.padEnd(i % 2 ? 10 : 17, "x"), "x"]));
  const given = {
    object: GENUINE,
    "upper case": upper,
    "without a prototype": Object.assign(Object.create(null), GENUINE),
    "lists of one": Object.fromEntries(Object.entries(GENUINE).map(([name, value]) => [name, [value]])),
    frozen: Object.freeze({ ...GENUINE }),
    Headers: new Headers(upper),
    Map: new Map(Object.entries(upper)),
    "Map of another realm": runInNewContext("new Map(entries)", { entries: Object.entries(GENUINE) }),
    get: { get: (name) => GENUINE[name] },
    "get, of lists of one": { get: (name) => [GENUINE[name]] },
    "500 others": { ...others, ...GENUINE },
    "a header named get, and one __proto__": { get: "x", ...JSON.parse('{"__proto__":{"webhook-id":"evt_2"}}'), ...GENUINE },
    "an undefined second spelling": { ...GENUINE, "Webhook-Id": undefined },
    "a prototype with other values": Object.assign(Object.create({ "Webhook-Id": "evt_2" }), GENUINE),
    "an accessor": Object.defineProperty({ ...GENUINE }, "webhook-id", { get: () => ID, enumerable: true }),
    "20 others before it": { ...GENUINE, "webhook-signature": [...Array(20).fill(v1("")), SIGNATURE].join(" ") },
    "another scheme beside it": { ...GENUINE, "webhook-signature": `v1a,x  ${SIGNATURE} v2,y` },
  };
  for (const [why, headers] of Object.entries(given)) accepts(why, BODY, headers);
  const ids = ["x", "!", "~", "x".repeat(256)];
  for (const id of ids) accepts(`id ${id}`, BODY, headersOf(BODY, { id }));
  for (const timestamp of [NOW - 300, NOW + 300]) accepts(`${timestamp}`, BODY, headersOf(BODY, { timestamp }));
  for (const now of [0, 253_402_300_799, 999_999_999_999]) {
    assert.equal(judge(`at ${now}`, BODY, headersOf(BODY, { timestamp: now }), { now, toleranceSeconds: 0 }), "ok");
  }
  const clock = Math.floor(Date.now() / 1000);
  new StandardVerifier(SECRET).verify(BODY, headersOf(BODY, { timestamp: clock }));
});

test("a caller's mistake is a TypeError", () => {
  const short = (length) => `whsec_${Buffer.alloc(length).toString("base64")}`;
  const long = "x".repeat(65_537);
  for (const secret of [undefined, null, 0, true, {}, [], "", [""], [SECRET, ""], [SECRET, undefined], [[SECRET]], Symbol("s"), Buffer.from(SECRET), long]) {
    assert.throws(() => new Verifier(secret), TypeError, String(secret?.length));
    assert.throws(() => new StandardVerifier(secret), TypeError, String(secret?.length));
  }
  for (const secret of ["whsec_", SECRET.slice(6), SECRET.toUpperCase(), ` ${SECRET}`, `${SECRET}\n`, short(23), short(65), `${SECRET}=`, `whsec_${"é".repeat(40)}`]) {
    assert.throws(() => new StandardVerifier(secret), TypeError, secret);
  }
  for (const headers of [undefined, null, 0, "webhook-id: x", true, Symbol("h"), () => GENUINE]) {
    assert.throws(() => standard.verify(BODY, headers, { now: NOW }), TypeError, typeof headers);
  }
  for (const toleranceSeconds of [-1, 0.5, NaN, Infinity, 2 ** 32, "300", null, 300n]) {
    assert.throws(() => standard.verify(BODY, GENUINE, { now: NOW, toleranceSeconds }), TypeError, String(toleranceSeconds));
  }
  for (const now of [NaN, Infinity, new Date(NaN), "now", null, {}, 1n]) {
    assert.throws(() => standard.verify(BODY, GENUINE, { now }), TypeError, String(now));
  }
  accepts("after all of them", BODY, GENUINE);
  acceptsBody("after all of them", BODY, HEX);
});

test("a body may end, and a character lie, anywhere about a piece's bound", () => {
  const pieces = [65_536, 131_072, 196_608];
  const around = pieces.flatMap((bound) => [-4, -3, -2, -1, 0, 1, 2, 3].map((offset) => bound + offset));
  const check = (why, body) => {
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    accepts(why, body, headersOf(bytes));
    acceptsBody(why, body, hex(bytes));
    const changed = Buffer.concat([bytes]);
    changed[changed.length - 1] ^= 1;
    assert.equal(judge(why, changed, headersOf(bytes)), "no_match", why);
    assert.equal(judgeBody(why, changed, hex(bytes)), "false", why);
  };
  for (const length of around) {
    check(`${length} bytes`, randomBytes(length));
    check(`${length} characters`, "a".repeat(length));
    for (const character of ["é", "☃", "𝄞", "\ud834", "\udd1e", "\ud834\ud834\udd1e"]) {
      check(`${length} and ${character}`, `${"a".repeat(length)}${character}b`);
    }
  }
  for (const character of ["é", "☃", "𝄞", "\ud834"]) {
    for (const before of ["", "a", "aa", "aaa"]) check(`many of ${character}`, before + character.repeat(70_000));
  }
});

test("verifiers beyond the 32 that the module keeps prepared take turns", () => {
  const tenants = Array.from({ length: 100 }, (_, i) => {
    const key = randomBytes(24 + (i % 41));
    const secret = `whsec_${key.toString("base64")}`;
    const body = randomBytes(i * 10);
    return { secret, body, headers: headersOf(body, { key }), hex: hex(body, secret), both: new StandardVerifier([secret, OTHER]) };
  });
  for (const tenant of tenants) {
    tenant.verifier = new Verifier(tenant.secret);
    tenant.standard = new StandardVerifier(tenant.secret);
  }
  // Steps that share no factor with 100: each order meets every tenant.
  for (const step of [1, 3, 37, 99]) {
    for (let i = 0, at = 0; i < tenants.length; i += 1, at = (at + step) % tenants.length) {
      const [one, other] = [tenants[at], tenants[(at + step) % tenants.length]];
      const why = `tenant ${at}, step ${step}`;
      const judged = [
        outcome(why, () => one.standard.verify(one.body, one.headers, { now: NOW })),
        outcome(why, () => other.standard.verify(one.body, one.headers, { now: NOW })),
        outcome(why, () => one.verifier.verify(one.body, one.hex)),
        outcome(why, () => other.verifier.verify(one.body, one.hex)),
        outcome(why, () => one.both.verify(one.body, one.headers, { now: NOW })),
        outcome(why, () => other.both.verify(one.body, one.headers, { now: NOW })),
      ];
      assert.deepEqual(judged, ["ok", "no_match", "ok", "false", "ok", "no_match"], why);
    }
  }
  const all = tenants.map(({ secret }) => secret);
  for (const tenant of tenants) {
    assert.equal(new Verifier(all).verify(tenant.body, tenant.hex), true);
    new StandardVerifier(all).verify(tenant.body, tenant.headers, { now: NOW });
  }
});

test("a verification within another does not disturb it", () => {
  const within = new Proxy(GENUINE, {
    get(headers, name) {
      const inner = { id: "evt_2", timestamp: NOW + 1 };
      assert.equal(judge("within", "x".repeat(200_000), headersOf("other", inner)), "no_match");
      assert.equal(judge("within", "other", headersOf("other", inner)), "ok");
      acceptsBody("within", "other");
      return headers[name];
    },
  });
  accepts("around it", BODY, within);
  assert.equal(judge("around it", `${BODY} `, within), "no_match");
});

test("10,000 random bodies and secrets: as node:crypto says", () => {
  const seed = process.env.SEED ?? randomBytes(16).toString("hex");
  const pool = createCipheriv("aes-128-ctr", Buffer.from(seed, "hex"), Buffer.alloc(16)).update(Buffer.alloc(1 << 20));
  const numbers = new Uint32Array(pool.buffer, pool.byteOffset, pool.length >> 2);
  let drawn = 0;
  const below = (bound) => numbers[drawn++ % numbers.length] % bound;
  const bytes = (length) => pool.subarray((drawn = below(pool.length - 3_100)), drawn + length);
  const texts = [
    (length) => bytes(length).toString("latin1"),
    (length) => bytes(length).toString("utf8"),
    (length) => Buffer.from(bytes(length * 2)).toString("utf16le"),
    (length) => bytes(length).toString("base64").slice(0, length),
  ];
  const text = (length) => texts[below(texts.length)](length);
  const flip = (data) => {
    const flipped = Buffer.from(data);
    const bit = below(flipped.length * 8);
    flipped[bit >> 3] ^= 1 << (bit & 7);
    return flipped;
  };
  // Within a text: bits of its characters, which stay ASCII.
  const flipText = (data) => {
    const at = below(data.length);
    return data.slice(0, at) + String.fromCharCode(data.charCodeAt(at) ^ (1 << below(7))) + data.slice(at + 1);
  };
  for (let round = 0; round < 10_000; round += 1) {
    const why = `SEED=${seed}, round ${round}`;
    const length = below(3_001);
    const body = below(2) ? text(length) : bytes(length);
    const secret = text(1 + below(3_000)) || "x";
    const key = bytes(24 + below(41));
    const id = `evt_${below(2 ** 32)}`;
    const timestamp = below(2 ** 32);
    const raw = Buffer.from(body);

    const plain = new Verifier(secret);
    const signature = hex(raw, secret);
    assert.equal(plain.verify(body, signature), true, why);
    assert.equal(plain.verify(body, flipText(signature)), false, why);
    const dated = new StandardVerifier(`whsec_${key.toString("base64")}`);
    const headers = headersOf(raw, { id, timestamp, key });
    const judged = (given, changes = {}) =>
      outcome(why, () => dated.verify(given, { ...headers, ...changes }, { now: timestamp, toleranceSeconds: 0xffff_ffff }));
    assert.equal(judged(body), "ok", why);
    const name = Object.keys(headers)[round % 3];
    assert.notEqual(judged(body, { [name]: flipText(headers[name]) }), "ok", `${why}: ${name}`);
    if (raw.length === 0) continue;
    const flipped = flip(raw);
    assert.equal(plain.verify(flipped, signature), false, why);
    assert.equal(judged(flipped), "no_match", why);
  }
});
