// npm install @revnoxa/webhook-verifier
import { createServer } from "node:http";
import { verifyRequest } from "@revnoxa/webhook-verifier/node";

createServer(async (request, response) => {
  try {
    const webhook = await verifyRequest(request, process.env.WEBHOOK_SECRET);
    console.log(webhook.id, webhook.json());
    response.end();
  } catch ({ code, statusCode = 500 }) {
    response.writeHead(statusCode).end(code);
  }
}).listen(3000);
