// Questions to the API of the gate that the page is from.

import { signal } from "@preact/signals";

const API = new URL("../api/", document.baseURI);
API.username = API.password = ""; // Whoever opens the page as http://user:password@host is known to the browser by now.

// When the gate has last answered, in milliseconds since 1970; 0 before it has.
export const heard = signal(0);

export type Query = Record<string, string | number | string[]>;

export function address(path: string, query: Query = {}): URL {
  const url = new URL(path, API);
  for (const [key, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== "") url.searchParams.append(key, String(one));
  }
  return url;
}

export class Refusal extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

export interface Answer<T> {
  told: T;
  next: number; // The number of the next page, 1 if there is none.
}

export async function ask<T>(path: string, query: Query = {}): Promise<Answer<T>> {
  const answer = await fetch(address(path, query), { cache: "no-store" });
  const told = await read(answer);
  if (!answer.ok) throw new Refusal(answer.status, told.message);
  heard.value = Date.now();
  return { told, next: Number(answer.headers.get("X-Next-Page") ?? 1) };
}

export interface Operation {
  operation: "scale" | "restart" | "rollback" | "drain" | "activate";
  service?: string;
  node?: string;
  replicas?: number;
}

// Changes the Swarm; gives what the engine says of it, refusals too.
export async function operate(operation: Operation): Promise<{ done: boolean; message: string }> {
  const answer = await fetch(address("operations"), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Swarmgate-Operation": "dashboard" },
    body: JSON.stringify(operation),
  });
  const { message } = await read(answer);
  return { done: answer.ok, message };
}

async function read(answer: Response): Promise<any> {
  return answer.json().catch(() => ({ message: `${answer.status} ${answer.statusText}` }));
}
