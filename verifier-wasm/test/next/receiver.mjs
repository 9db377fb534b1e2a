import { verifyRequest } from "@revnoxa/webhook-verifier/fetch";

import { verdicts } from "../runtimes/verdicts.mjs";

/** The route handlers of both runtimes: `?read` reads the body first, `?clone` mends that. */
export const GET = async () => Response.json({ verdicts: await verdicts(), edge: typeof EdgeRuntime === "string" });

export async function POST(request) {
  const { searchParams } = new URL(request.url);
  const unread = searchParams.has("clone") ? request.clone() : request;
  if (searchParams.has("read") || searchParams.has("clone")) await request.json();
  try {
    const webhook = await verifyRequest(unread, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    return Response.json({ id: webhook.id, number: webhook.json().data.number });
  } catch (error) {
    return Response.json({ code: error.code, message: error.message }, { status: error.statusCode });
  }
}
