// Runs jobs in Node: `npm install && node worker.mjs`, with `sickbay up --programs` running. docs/any-language.md describes the protocol.
// The contract is read from proto/ as it is; there is no code to generate.
//
//   curl localhost:3000/jobs -H 'Content-Type: application/json' -d '{"jobType": "resize", "payload": {"image": "cat.png", "width": 200}}'

import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const contract = fileURLToPath(new URL("../../proto", import.meta.url));
const { sickbay } = grpc.loadPackageDefinition(
  loadSync("sickbay/jobs/v1/worker_service.proto", {
    includeDirs: [contract],
    keepCase: true, // names as in proto/: run_id, payload_json
    enums: String,
    longs: Number,
    defaults: true, // fields that are 0 or empty are there, too
    oneofs: true, // `said.message` names the field that is set
  }),
);
const address = process.env.SICKBAY_WORKER ?? "localhost:50052";
const slots = Number(process.env.SLOTS ?? 4);
const stopMs = 30_000; // how long running jobs may take after SIGTERM
const [firstPauseMs, longestPauseMs] = [500, 30_000]; // between two attempts to connect

// Thrown by a handler to say what went wrong, and whose fault it is: SYSTEMIC, TRANSIENT, DATA or UNKNOWN.
class Failure extends Error {
  constructor(code, message, { kind = "UNSPECIFIED", retryAfter } = {}) {
    super(message);
    Object.assign(this, { code, kind, retryAfter });
  }
}

// One handler for each job type: it gets the job, its payload, a function that reports progress, and a signal that is aborted when the
// run is to stop. What it returns is the job's result.
const handlers = {
  async resize(job, payload, progress, signal) {
    if (typeof payload.width !== "number") throw new Failure("VALIDATION_ERROR", "the payload has no width", { kind: "DATA" });
    for (let step = 1; step <= 4; step++) {
      await sleep((payload.seconds ?? 0.2) * 250, undefined, { signal });
      progress(step / 4, `${step} of 4`);
    }
    return { image: `${payload.image}@${payload.width}`, attempt: job.attempt, process: process.pid };
  },
};

// Serves one stream; resolves with the status of its end.
function serve(client, stopping) {
  return new Promise((resolve) => {
    const stream = client.Work();
    const running = new Map(); // the abort controllers of the runs, by run_id
    let beating;
    let draining = false;

    function say(message) {
      if (stream.writable) stream.write(message);
    }

    function finishIfIdle() {
      if (draining && running.size === 0) stream.end();
    }

    async function run({ run_id, job, payload_json }) {
      console.log(`running ${job.job_id}`);
      const controller = new AbortController();
      running.set(run_id, controller);
      const progress = (fraction, message = "") => say({ progress: { run_id, fraction, message } });
      let answer;
      try {
        const result = await handlers[job.job_type](job, JSON.parse(payload_json), progress, controller.signal);
        answer = { succeeded: { run_id, result_json: result === undefined ? "" : JSON.stringify(result) } };
      } catch (error) {
        answer = { failed: { run_id, ...describe(error) } };
      }
      running.delete(run_id);
      say(answer); // in any case: until then its slot stays taken
      finishIfIdle();
    }

    function stop() {
      draining = true;
      say({ drain: {} });
      finishIfIdle();
      setTimeout(() => stream.end(), stopMs).unref();
    }

    stream.on("data", (said) => {
      if (said.message === "registered") {
        const { seconds, nanos } = said.registered.heartbeat_interval;
        clearInterval(beating);
        beating = setInterval(() => say({ heartbeat: {} }), seconds * 1000 + nanos / 1e6);
        console.log(`connected to ${address}`);
      } else if (said.message === "run") {
        run(said.run);
      } else if (said.message === "cancel") {
        running.get(said.cancel.run_id)?.abort();
      }
    });
    stream.on("error", () => {}); // `status` follows
    stream.on("status", (status) => {
      clearInterval(beating);
      stopping.removeEventListener("abort", stop);
      for (const controller of running.values()) controller.abort(); // the worker gives these jobs to somebody else
      resolve(status);
    });
    const types = Object.keys(handlers).map((job_type) => ({ job_type, timeout: { seconds: 60 } }));
    say({ register: { name: "resizer", version: "1.0", language: "node", slots, types } });
    stopping.addEventListener("abort", stop, { once: true });
  });
}

function describe(error) {
  if (error.name === "AbortError") return { code: "CANCELLED" };
  if (!(error instanceof Failure)) return { code: "ERROR", message: String(error), traceback: error.stack ?? "" };
  const retry_after = error.retryAfter === undefined ? undefined : { seconds: error.retryAfter };
  return { code: error.code, message: error.message, kind: `KIND_${error.kind}`, retry_after };
}

const stopping = new AbortController();
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => stopping.abort());
let pause = firstPauseMs;
while (!stopping.signal.aborted) {
  const began = Date.now();
  const client = new sickbay.jobs.v1.WorkerService(address, grpc.credentials.createInsecure());
  const status = await serve(client, stopping.signal);
  client.close();
  if (status.code !== grpc.status.OK) console.log(`the stream has ended: ${grpc.status[status.code]}: ${status.details}`);
  pause = Date.now() - began > longestPauseMs ? firstPauseMs : Math.min(2 * pause, longestPauseMs);
  await sleep(pause * (0.8 + 0.4 * Math.random()), undefined, { signal: stopping.signal }).catch(() => {}); // not all at once
}
