import { verifyRequest } from "@revnoxa/webhook-verifier/fetch";

import { verdicts } from "./verdicts.mjs";

export default {
  async fetch(request) {
    if (request.method === "GET") return Response.json(await verdicts());
    try {
      const webhook = await verifyRequest(request, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
      return Response.json({ id: webhook.id, number: webhook.json().number });
    } catch (error) {
      return Response.json({ code: error.code }, { status: error.statusCode });
    }
  },
};
