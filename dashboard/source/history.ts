// Traffic of the last ten minutes, second by second, for entry points, services and servers.

import { signal } from "@preact/signals";
import type { Tally, Traffic } from "./told";

export const SECONDS = 600;
const MOST = 4000; // Rings; whoever was silent longest goes first.
const GAP = 3; // Seconds without a word, after which a line is broken.

class Ring {
  readonly requests = new Float32Array(SECONDS);
  readonly errors = new Float32Array(SECONDS);
  readonly p50 = new Float32Array(SECONDS);
  readonly p95 = new Float32Array(SECONDS);
  readonly p99 = new Float32Array(SECONDS);
  heard = 0;

  put(at: number, tally: Tally | null): void {
    this.requests[at] = tally?.requests ?? 0;
    this.errors[at] = tally?.errors ?? 0;
    this.p50[at] = tally?.p50 ?? 0;
    this.p95[at] = tally?.p95 ?? 0;
    this.p99[at] = tally?.p99 ?? 0;
  }
}

const times = new Float64Array(SECONDS);
const lengths = new Float32Array(SECONDS); // Of each second; 0 where nothing is known.
const rings = new Map<string, Ring>();
const keysByUrl = new Map<string, Set<string>>();
let next = 0;
let kept = 0;

// Rises with each second that is told: who reads it is drawn anew.
export const tick = signal(0);
// How many services had traffic in the last second and were not told of, being less busy.
export const untold = signal(0);

export const ofEntryPoint = (name: string) => `entry point ${name}`;
export const ofService = (name: string) => `service ${name}`;
const ofServer = (service: string, url: string) => `server ${service} ${url}`;

// What is known of a server, of whichever service it is one.
export function ofUrls(urls: Iterable<string>): string[] {
  return [...urls].flatMap((url) => [...(keysByUrl.get(url) ?? [])]);
}

export function entryPoints(): string[] {
  return [...rings.keys()].filter((key) => key.startsWith("entry point "));
}

// The services with most requests of the last seconds, by name.
export function busiest(most: number): string[] {
  const names = [...rings.keys()].filter((key) => key.startsWith("service "));
  const rated = names.map((key) => ({ name: key.slice("service ".length), rate: now([key])?.rate ?? 0 }));
  return rated.filter((one) => one.rate > 0).sort((a, b) => b.rate - a.rate).slice(0, most).map((one) => one.name);
}

export function put(told: Traffic): void {
  const last = times[(next + SECONDS - 1) % SECONDS]!;
  if (kept && told.at - last > GAP) step(last + 1, 0); // A break.
  const at = step(told.at, told.seconds);
  for (const [name, tally] of Object.entries(told.entryPoints)) keep(ofEntryPoint(name), at, tally);
  for (const [name, tally] of Object.entries(told.services)) keep(ofService(name), at, tally);
  for (const [service, servers] of Object.entries(told.servers)) {
    for (const [url, tally] of Object.entries(servers)) {
      const key = ofServer(service, url);
      keep(key, at, tally);
      keysByUrl.set(url, (keysByUrl.get(url) ?? new Set()).add(key));
    }
  }
  if (rings.size > MOST) forget();
  untold.value = told.others;
  tick.value += 1;
}

function step(time: number, seconds: number): number {
  const at = next;
  times[at] = time;
  lengths[at] = seconds;
  for (const ring of rings.values()) ring.put(at, null);
  next = (next + 1) % SECONDS;
  kept = Math.min(kept + 1, SECONDS);
  return at;
}

function keep(key: string, at: number, tally: Tally): void {
  let ring = rings.get(key);
  if (!ring) rings.set(key, (ring = new Ring()));
  ring.put(at, tally);
  ring.heard = times[at]!;
}

function forget(): void {
  const oldest = [...rings].sort(([, a], [, b]) => a.heard - b.heard).slice(0, MOST / 4);
  for (const [key] of oldest) {
    rings.delete(key);
    for (const [url, keys] of keysByUrl) if (keys.delete(key) && !keys.size) keysByUrl.delete(url);
  }
}

export interface Numbers {
  rate: number; // Requests a second.
  errors: number; // The share of them that was answered with 5xx.
  p50: number | null; // Seconds; null without requests.
  p95: number | null;
  p99: number | null;
}

// One second of several rings. How long the requests of all of them took is the mean of what each tells, by requests.
function sum(of: Ring[], at: number): { requests: number; errors: number; p50: number; p95: number; p99: number } {
  const total = { requests: 0, errors: 0, p50: 0, p95: 0, p99: 0 };
  for (const ring of of) {
    const requests = ring.requests[at]!;
    total.requests += requests;
    total.errors += ring.errors[at]!;
    total.p50 += requests * ring.p50[at]!;
    total.p95 += requests * ring.p95[at]!;
    total.p99 += requests * ring.p99[at]!;
  }
  return total;
}

function found(keys: Iterable<string>): Ring[] {
  return [...keys].map((key) => rings.get(key)).filter((ring) => ring !== undefined);
}

// The numbers of the last *seconds* together; null before there are any.
export function now(keys: Iterable<string>, seconds = 5): Numbers | null {
  const of = found(keys);
  const all = { requests: 0, errors: 0, p50: 0, p95: 0, p99: 0, seconds: 0 };
  for (let back = 1; back <= Math.min(seconds, kept); back++) {
    const at = (next + SECONDS - back) % SECONDS;
    if (!lengths[at]) break;
    const one = sum(of, at);
    all.seconds += lengths[at];
    all.requests += one.requests;
    all.errors += one.errors;
    all.p50 += one.p50;
    all.p95 += one.p95;
    all.p99 += one.p99;
  }
  if (!all.seconds) return null;
  const share = (value: number) => (all.requests ? value / all.requests : null);
  return {
    rate: all.requests / all.seconds, errors: share(all.errors) ?? 0,
    p50: share(all.p50), p95: share(all.p95), p99: share(all.p99),
  };
}

export interface Lines {
  times: number[];
  rate: (number | null)[];
  errors: (number | null)[];
  p50: (number | null)[];
  p95: (number | null)[];
  p99: (number | null)[];
}

// The numbers of each second from *since* on, oldest first; null where there is nothing to tell.
export function lines(keys: Iterable<string>, since = 0): Lines {
  const of = found(keys);
  const told: Lines = { times: [], rate: [], errors: [], p50: [], p95: [], p99: [] };
  for (let back = kept; back >= 1; back--) {
    const at = (next + SECONDS - back) % SECONDS;
    if (times[at]! < since) continue;
    const one = sum(of, at);
    const known = lengths[at]! > 0;
    const share = (value: number) => (one.requests ? value / one.requests : null);
    told.times.push(times[at]!);
    told.rate.push(known ? one.requests / lengths[at]! : null);
    told.errors.push(known ? (share(one.errors) ?? 0) : null);
    told.p50.push(share(one.p50));
    told.p95.push(share(one.p95));
    told.p99.push(share(one.p99));
  }
  return told;
}

// Requests a second of the last *seconds*, for a small plot.
export function rates(keys: Iterable<string>, seconds = 60): number[] {
  const of = found(keys);
  const told: number[] = [];
  for (let back = Math.min(seconds, kept); back >= 1; back--) {
    const at = (next + SECONDS - back) % SECONDS;
    told.push(lengths[at] ? sum(of, at).requests / lengths[at] : 0);
  }
  return told;
}

// When the last told second was, and the first that is still known; 0 before there is any.
export function known(): { first: number; last: number } {
  if (!kept) return { first: 0, last: 0 };
  return { first: times[(next + SECONDS - kept) % SECONDS]!, last: times[(next + SECONDS - 1) % SECONDS]! };
}
