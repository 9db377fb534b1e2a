/** What arrived, byte for byte: a string stands for its UTF-8 bytes. */
export type Body = string | ArrayBuffer | ArrayBufferView;

/** A request's headers, whatever the case of their names. */
export type HeadersLike =
  | { get(name: string): string | null | undefined }
  | ReadonlyMap<string, string | readonly string[] | undefined>
  | { readonly [name: string]: string | readonly string[] | undefined };

/** Why a request was refused; stable. */
export type WebhookVerificationErrorCode =
  | "missing_header"
  | "invalid_header"
  | "invalid_timestamp"
  | "timestamp_too_old"
  | "timestamp_too_new"
  | "no_match"
  | "body_already_read"
  | "body_too_large";

/**
 * A request was refused. Look at `code`, not at the class: an application may hold two copies of it, one from `import`
 * and one from `require`.
 */
export class WebhookVerificationError extends Error {
  readonly code: WebhookVerificationErrorCode;
  /** What to answer: 401, but 413 for `body_too_large`, and 500 for `body_already_read`, where the receiver is at fault. */
  readonly statusCode: 401 | 413 | 500;

  constructor(code: WebhookVerificationErrorCode, message: string) {
    super(message);
    this.name = "WebhookVerificationError";
    this.code = code;
    this.statusCode = code === "body_too_large" ? 413 : code === "body_already_read" ? 500 : 401;
  }
}

export interface StandardOptions {
  /** How many seconds the timestamp may differ from `now`, to either side; 300 unless given. */
  toleranceSeconds?: number;
  /** The receiver's clock, as a date or in Unix seconds; the real one unless given. */
  now?: Date | number;
}

/** The headers of a signed request; not an interface, which neither `fetch` nor `HeadersLike` would take. */
export type SignedHeaders = {
  "x-revnoxa-signature": string;
  "webhook-id": string;
  "webhook-timestamp": string;
  "webhook-signature": string;
};

/** What the wasm module exports: src/wasm.rs. @internal */
export interface Exports {
  readonly memory: WebAssembly.Memory;
  input(): number;
  prepare(slot: number, length: number): number;
  prepare_standard(slot: number, length: number): number;
  begin(slot: number): void;
  begin_standard(slot: number, id: number, timestamp: number): void;
  update(length: number): void;
  verify(signature: number): number;
  check_standard(id: number, timestamp: number, signature: number, nowS: number, toleranceS: number): number;
  verify_standard(signature: number): number;
  sign(): number;
  sign_standard(): number;
}

// The places in the module's input, and how many keys it keeps: src/wasm.rs.
const PIECE_BYTES = 65_536;
const ID_BYTES = 264;
const TIMESTAMP_BYTES = 16;
const SIGNATURE_BYTES = 1_032;
const SLOTS = 32;

const INVALID_SECRETS = [
  "is empty",
  "does not start with whsec_",
  "is not base64 after whsec_",
  "does not decode to 24 to 64 bytes",
];
const REFUSALS: readonly (readonly [WebhookVerificationErrorCode, string])[] = [
  ["missing_header", "webhook-id, webhook-timestamp or webhook-signature is missing"],
  ["invalid_header", "webhook-id, webhook-timestamp or webhook-signature is malformed, too long or given twice"],
  ["invalid_timestamp", "webhook-timestamp is not in Unix seconds"],
  ["timestamp_too_old", "webhook-timestamp is too old: a replay, or this machine's clock is ahead"],
  ["timestamp_too_new", "webhook-timestamp is in the future: this machine's clock may be behind"],
  ["no_match", "no signature fits: it is for another secret, or for other bytes than this body"],
];

const encoder = new TextEncoder();
const decoder = new TextDecoder();
let wasm: Exports;
let piece: Uint8Array;
let idArea: Uint8Array;
let timestampArea: Uint8Array;
let signatureArea: Uint8Array;

/** @internal */
export function use(module: WebAssembly.Module): void {
  wasm = new WebAssembly.Instance(module).exports as unknown as Exports;
  // The module never grows its memory, so its buffer stays.
  let at = wasm.input();
  const area = (length: number) => new Uint8Array(wasm.memory.buffer, (at += length) - length, length);
  piece = area(PIECE_BYTES);
  idArea = area(ID_BYTES);
  timestampArea = area(TIMESTAMP_BYTES);
  signatureArea = area(SIGNATURE_BYTES);
}

/** A secret that the module keeps prepared, until others need its slot. */
class Key {
  static readonly #owners: Key[] = [];
  static #next = 0;
  readonly #secret: string;
  readonly #standard: boolean;
  #slot = -1;

  constructor(secret: string, standard: boolean) {
    if (typeof secret !== "string") throw new TypeError("webhook secret is not a string");
    this.#secret = secret;
    this.#standard = standard;
    this.slot();
  }

  slot(): number {
    if (Key.#owners[this.#slot] === this) return this.#slot;
    const slot = Key.#next;
    const { read, written } = encoder.encodeInto(this.#secret, piece);
    if (read < this.#secret.length) throw new TypeError("webhook secret is too long");
    const refused = this.#standard ? wasm.prepare_standard(slot, written) : wasm.prepare(slot, written);
    piece.fill(0, 0, written);
    if (refused) throw new TypeError(`webhook secret ${INVALID_SECRETS[refused - 1]}`);
    Key.#owners[slot] = this;
    Key.#next = (slot + 1) % SLOTS;
    return (this.#slot = slot);
  }

  begin(): void {
    wasm.begin(this.slot());
  }

  beginStandard(id: number, timestamp: number): void {
    wasm.begin_standard(this.slot(), id, timestamp);
  }
}

function keys(secrets: string | readonly string[], standard: boolean): Key[] {
  const all = typeof secrets === "string" ? [secrets] : Array.from(secrets);
  if (all.length === 0) throw new TypeError("no webhook secret is given");
  return all.map((secret) => new Key(secret, standard));
}

/** Verifies `X-Revnoxa-Signature`, which covers the body alone. `StandardVerifier` protects against replays as well. */
export class Verifier {
  readonly #keys: readonly Key[];

  /**
   * With one secret as shown, or several of which any will do, as while it is replaced.
   *
   * @throws TypeError when a secret is empty or there is none.
   */
  constructor(secret: string | readonly string[]) {
    this.#keys = keys(secret, false);
  }

  /**
   * Whether `signature`, the header's value, is for exactly this body; one that is missing never is.
   *
   * @throws WebhookVerificationError with the code `body_already_read` when the body is a parsed object.
   */
  verify(body: Body, signature: string | null | undefined): boolean {
    const bytes = raw(body);
    if (typeof signature !== "string" || signature.length !== 64) return false;
    for (const key of this.#keys) {
      key.begin();
      update(bytes);
      if (wasm.verify(put(signature, signatureArea))) return true;
    }
    return false;
  }
}

/** Verifies the Standard Webhooks headers, which cover the body, the event's id and the time of the attempt. */
export class StandardVerifier {
  readonly #keys: readonly Key[];

  /**
   * With one secret as shown, or several of which any will do, as while it is replaced.
   *
   * @throws TypeError when a secret is not `whsec_` and the base64 of 24 to 64 bytes, or there is none.
   */
  constructor(secret: string | readonly string[]) {
    this.#keys = keys(secret, true);
  }

  /**
   * Returns when exactly this body was signed with one of the secrets within `toleranceSeconds` of `now`.
   *
   * @throws WebhookVerificationError when it was not; its `code` tells why.
   */
  verify(body: Body, headers: HeadersLike, { toleranceSeconds = 300, now }: StandardOptions = {}): void {
    if (!Number.isInteger(toleranceSeconds) || toleranceSeconds < 0 || toleranceSeconds > 0xffff_ffff) {
      throw new TypeError("toleranceSeconds is not a whole number from 0 to 4294967295");
    }
    const nowS = unixSeconds(now, "now");
    const bytes = raw(body);
    const given = standardHeaders(headers);
    const id = put(given[0], idArea);
    const timestamp = put(given[1], timestampArea);
    const signature = put(given[2], signatureArea);
    const refused = wasm.check_standard(id, timestamp, signature, nowS, toleranceSeconds);
    if (refused) throw refusal(refused);
    for (const key of this.#keys) {
      key.beginStandard(id, timestamp);
      update(bytes);
      if (wasm.verify_standard(signature)) return;
    }
    throw refusal(6);
  }
}

/**
 * The headers of a request that the host would send with this body, for tests of a receiver. `id` is `evt_test` and
 * `timestamp` (a date or Unix seconds) now, unless given.
 *
 * @throws TypeError when the secret, the id or the timestamp is not one that the host would use.
 */
export function sign(
  secret: string,
  body: Body,
  { id = "evt_test", timestamp }: { id?: string; timestamp?: Date | number } = {},
): SignedHeaders {
  const bytes = raw(body);
  const time = String(unixSeconds(timestamp, "timestamp"));
  if (!/^[!-~]{1,256}$/.test(id) || id.includes(".")) {
    throw new TypeError("id is not 1 to 256 visible ASCII characters without a full stop");
  }
  if (!/^\d{1,12}$/.test(time)) throw new TypeError("timestamp is not between 1970 and 33658");
  const standard = new Key(secret, true);
  new Key(secret, false).begin();
  update(bytes);
  const hex = take(wasm.sign());
  standard.beginStandard(put(id, idArea), put(time, timestampArea));
  update(bytes);
  return {
    "x-revnoxa-signature": hex,
    "webhook-id": id,
    "webhook-timestamp": time,
    "webhook-signature": take(wasm.sign_standard()),
  };
}

/** The body as it arrived. */
function raw(body: Body): string | Uint8Array {
  if (typeof body === "string") return body;
  try {
    // These look at what it is, not at what it says: it may be from another realm, as in Jest, or only be named so.
    const view = ArrayBuffer.isView(body) ? body : new DataView(body);
    const bytes = view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    // A view whose buffer was transferred or has shrunk seems to be empty, but throws here.
    if (bytes.length === 0) (view as Uint8Array).keys?.();
    return bytes;
  } catch {
    throw new WebhookVerificationError(
      "body_already_read",
      "the body is neither a string nor bytes that are still there: something has parsed or taken it. Verify what arrived, then parse",
    );
  }
}

/** Gives the body to the module, piece by piece. */
function update(body: string | Uint8Array): void {
  if (typeof body === "string") {
    for (let rest = body; rest; ) {
      const { read, written } = encoder.encodeInto(rest, piece);
      wasm.update(written);
      rest = rest.slice(read);
    }
  } else if (body.length <= PIECE_BYTES) {
    piece.set(body);
    wasm.update(body.length);
  } else {
    for (let at = 0; at < body.length; at += PIECE_BYTES) {
      const part = body.subarray(at, at + PIECE_BYTES);
      piece.set(part);
      wasm.update(part.length);
    }
  }
}

/** Writes a header for the module; what is cut off was too long, and still is. */
function put(header: string, area: Uint8Array): number {
  // For what is as short as a header, quicker than a call of encodeInto.
  const length = Math.min(header.length, area.length);
  for (let i = 0; i < length; i++) {
    const code = header.charCodeAt(i);
    if (code > 127) return encoder.encodeInto(header, area).written;
    area[i] = code;
  }
  return length;
}

function take(length: number): string {
  return decoder.decode(signatureArea.subarray(0, length));
}

const NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature"];

type Found = [id: unknown, timestamp: unknown, signature: unknown];

/** The three headers; one that is missing is the empty string. */
function standardHeaders(headers: HeadersLike): [id: string, timestamp: string, signature: string] {
  if (typeof headers !== "object" || headers === null) throw new TypeError("headers is not an object");
  const found: Found = [undefined, undefined, undefined];
  if (headers instanceof Map) {
    headers.forEach((value, name) => see(found, name, value));
  } else if (typeof headers.get === "function") {
    for (const name of NAMES) see(found, name, headers.get(name));
  } else {
    for (const name of Object.keys(headers)) {
      if (isAsLong(name)) see(found, name, (headers as Record<string, unknown>)[name]);
    }
  }
  return [text(found[0]), text(found[1]), text(found[2])];
}

function see(found: Found, name: unknown, value: unknown): void {
  if (typeof name !== "string" || !isAsLong(name)) return;
  const place = NAMES.indexOf(name.toLowerCase());
  if (place < 0 || value === undefined || value === null) return;
  if (found[place] !== undefined) throw refusal(2);
  found[place] = Array.isArray(value) && value.length === 1 ? value[0] : value;
}

/** Whether a name is as long as one of those that count: looks up and folds few of a request's headers. */
function isAsLong(name: string): boolean {
  return name.length === 10 || name.length === 17;
}

function text(value: unknown): string {
  if (value === undefined) return "";
  if (typeof value !== "string") throw refusal(2);
  return value;
}

function refusal(number: number): WebhookVerificationError {
  return new WebhookVerificationError(...REFUSALS[number - 1]!);
}

function unixSeconds(time: Date | number | undefined, name: string): number {
  const s = time === undefined ? Date.now() / 1000 : time instanceof Date ? time.getTime() / 1000 : time;
  if (!Number.isFinite(s)) throw new TypeError(`${name} is neither a valid date nor a number of Unix seconds`);
  return Math.floor(s);
}
