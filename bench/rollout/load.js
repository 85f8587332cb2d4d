// Requests at a constant rate, half of them over new connections, half over kept ones; see load.py for what is given
// by the environment and for what becomes of the results.
import http from "k6/http";
import exec from "k6/execution";
import { Trend } from "k6/metrics";

const REFUSED = 1212; // k6's error code
const places = __ENV.PLACES.split(",");
const rate = Number(__ENV.RATE);
const tries = __ENV.TURN === "yes" ? places.length : 1;
const answer = new Trend("answer", true);

function arrivals(kept) {
  return {
    executor: "constant-arrival-rate",
    exec: kept ? "kept" : "fresh",
    rate: rate / 2,
    timeUnit: "1s",
    duration: "1h", // it is stopped earlier
    gracefulStop: "0s",
    preAllocatedVUs: Number(__ENV.USERS) / 2,
    maxVUs: Number(__ENV.MOST_USERS) / 2,
  };
}

export const options = {
  scenarios: { fresh: arrivals(false), kept: arrivals(true) },
  discardResponseBodies: true,
  maxRedirects: 0,
  systemTags: ["scenario"],
  summaryTrendStats: [],
};

function ask(kept) {
  const number = exec.scenario.iterationInTest;
  const post = __ENV.POSTS === "yes" && number % 3 === 2;
  const method = post ? "POST" : "GET";
  const id = `${kept ? "k" : "f"}${number}`;
  const headers = { Host: __ENV.HOST };
  if (post) headers["X-Id"] = id;
  // k6 closes each connection with its request only for a whole run; this asks for the same, for a user of its own.
  if (!kept) headers.Connection = "close";
  const body = post ? "x".repeat(100) : null;
  const began = Date.now();
  let got;
  for (let turn = 0; turn < tries; turn++) {
    const place = places[(number + turn) % places.length];
    got = http.request(method, `http://${place}${__ENV.ASKED_PATH}`, body, { headers, timeout: "10s" });
    if (got.error_code !== REFUSED) break;
  }
  exec.vu.metrics.metadata.id = id;
  answer.add(Date.now() - began, { method, code: String(got.status), error: String(got.error_code) });
}

export function fresh() {
  ask(false);
}

export function kept() {
  ask(true);
}
