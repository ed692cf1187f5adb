// Submits a job from Node, and follows it to its end: `npm install && node submit.mjs`, with `sickbay up` running.
// The contract is read from proto/ as it is; there is no code to generate.

import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const contract = fileURLToPath(new URL("../../proto", import.meta.url));
const { sickbay } = grpc.loadPackageDefinition(
  loadSync("sickbay/jobs/v1/job_service.proto", {
    includeDirs: [contract],
    keepCase: true, // names as in proto/: job_type, payload_json
    enums: String,
    longs: String,
  }),
);
const address = process.env.SICKBAY_JOBAPI ?? "localhost:50051";
const jobs = new sickbay.jobs.v1.JobService(address, grpc.credentials.createInsecure());

function submit(request) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 10_000);
    jobs.SubmitJob(request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
  });
}

function follow(jobId) {
  return new Promise((resolve, reject) => {
    const changes = jobs.WatchJob({ job_id: jobId });
    changes.on("data", ({ job }) => console.log(`${job.job_id} ${job.state}`));
    changes.on("error", reject);
    changes.on("end", resolve);
  });
}

// The payload is JSON text. A plain object as `payload`, which is a google.protobuf.Struct, arrives as {}: see docs/clients.md.
const request = {
  job_type: "email",
  payload_json: JSON.stringify({ to: "user@example.com" }),
  request_id: randomUUID(), // a repeat with the same key is the same job, so a submit that failed can be sent again
};
try {
  const { job } = await submit(request);
  await follow(job.job_id);
} catch (error) {
  console.error(`${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
} finally {
  jobs.close();
}
