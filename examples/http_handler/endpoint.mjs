// The same endpoint as endpoint.py in Node, without packages: node endpoint.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const TOLERANCE_S = 300;

/** Whether whoever has the secret sent this, within the last five minutes (Standard Webhooks; libraries do the same). */
export function isSigned(headers, body, secret) {
  const { "webhook-id": message = "", "webhook-timestamp": timestamp = "", "webhook-signature": signatures = "" } = headers;
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = Buffer.from("v1," + createHmac("sha256", key).update(`${message}.${timestamp}.`).update(body).digest("base64"));
  return signatures.split(" ").map((one) => Buffer.from(one)).some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

const invoices = new Map(); // in place of a database with a unique key

function run(headers, body) {
  if (!isSigned(headers, body, process.env.BILLING_SECRET)) return [401, { title: "not signed with BILLING_SECRET" }];
  const job = JSON.parse(body);
  if (!(job.cents > 0)) return [422, { title: "no invoice without an amount", code: "NO_AMOUNT", kind: "data" }];
  // A job may come twice; its key is the same, and so is what was made of it.
  const key = headers["idempotency-key"];
  if (!invoices.has(key)) invoices.set(key, invoices.size + 1);
  console.log(`invoice ${invoices.get(key)} for ${job.customer}, run ${headers["sickbay-attempt"]}`);
  return [200, { number: invoices.get(key) }];
}

const server = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const [status, content] = run(request.headers, body);
  response.writeHead(status, { "Content-Type": status < 400 ? "application/json" : "application/problem+json" });
  response.end(JSON.stringify(content));
});
server.listen(Number(process.env.PORT ?? 8000), "127.0.0.1", () => console.log(`listening on port ${server.address().port}`));
