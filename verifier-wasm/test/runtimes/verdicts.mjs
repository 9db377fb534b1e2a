// The same small receiver for every runtime.
import { sign, StandardVerifier, Verifier, WebhookVerificationError } from "@revnoxa/webhook-verifier";
import { verifyRequest } from "@revnoxa/webhook-verifier/fetch";

const secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const other = "whsec_HhwaGBYUEhAODAoIBgQCAAECAwQFBgcICQoLDA0ODxA=";
const body = '{"id":"evt_01","type":"incident.created","timestamp":"2026-01-01T00:00:00.000Z","data":{"number":7}}';
// The first case of tests/vectors/signature.json.
const signature = "144fbb85b15c8ed632a86c6827b960dc4244b9c7441571a88d68ce438aa04a77";

/** What this runtime makes of genuine and of forged requests. */
export async function verdicts() {
  const verifier = new Verifier(secret);
  const standard = new StandardVerifier([other, secret]);
  const headers = sign(secret, body, { id: "evt_01" });
  const request = (sent, more) => new Request("https://receiver.example/", { method: "POST", body: sent, headers: { ...headers, ...more } });
  const large = "ž".repeat(100_000);
  const read = request(body);
  await read.text();
  const held = request(body);
  held.body.getReader();
  return {
    signature: verifier.verify(body, signature),
    "signature of bytes": verifier.verify(new TextEncoder().encode(body), signature),
    "signature of other bytes": verifier.verify(body.replace("7", "8"), signature),
    "no signature": verifier.verify(body, null),
    "signature of a large body": verifier.verify(large, sign(secret, large)["x-revnoxa-signature"]),
    standard: await code(() => standard.verify(body, headers)),
    "standard, for other bytes": await code(() => standard.verify(body.replace("7", "8"), headers)),
    "standard, too old": await code(() => standard.verify(body, headers, { now: Number(headers["webhook-timestamp"]) + 301 })),
    "standard, too new": await code(() => standard.verify(body, headers, { now: Number(headers["webhook-timestamp"]) - 301 })),
    "standard, no headers": await code(() => standard.verify(body, {})),
    "standard, parsed": await code(() => standard.verify(JSON.parse(body), headers)),
    request: await code(async () => {
      const verified = await verifyRequest(request(body), standard);
      return `${verified.id} ${verified.json().data.number}`;
    }),
    "request, for other bytes": await code(() => verifyRequest(request(body.replace("7", "8")), secret)),
    "request, already read": await code(() => verifyRequest(read, secret)),
    "request, being read": await code(() => verifyRequest(held, secret)),
    "request, too large": await code(() => verifyRequest(request(large), secret, { maxBodyBytes: 199_999 })),
    "not a secret": await code(() => new StandardVerifier("hunter2")),
  };
}

async function code(run) {
  try {
    return (await run()) ?? "verified";
  } catch (error) {
    return error instanceof WebhookVerificationError ? error.code : `${error.name}: ${error.message}`;
  }
}
