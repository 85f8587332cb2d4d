// What comes by itself: changes and traffic as events; and answers that are asked for anew when something has changed.

import { computed, effect, signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { address, type Answer, ask, heard, type Query } from "./api";
import { put } from "./history";
import type { Overview, Swarm, Traffic } from "./told";
import { follow } from "./updates";

const AGAIN = 5; // Seconds until what is shown is asked for anew: numbers change, and checks fail, without an event.
const DEAR = 5; // An answer is asked for anew after so many times what it took, if that is later,
const SELDOM = 30; // but after so many seconds at the latest.
const OLD = 5; // Seconds without a word after which what is shown is called old.
const KEPT = 1000; // Changes.
const SOON = 100; // Milliseconds in which many changes are taken for one,
const SPREAD = 200; // and more, by chance: all open pages are told at the same moment.

export interface Change {
  at: number;
  text: string;
}

export const changes = signal<Change[]>([]); // The newest first.
export const seconds = signal(Date.now() / 1000); // Of now, each second.
const changed = signal(0); // Rises when what is shown may not be so any more.
const shown = signal(!document.hidden);

export type State = "connecting" | "live" | "old";
export const state = computed<State>(() => {
  if (!heard.value) return "connecting";
  return seconds.value - heard.value / 1000 > OLD ? "old" : "live";
});

setInterval(() => { seconds.value = Date.now() / 1000; }, 1000);
document.addEventListener("visibilitychange", () => { shown.value = !document.hidden; });

let due = 0;
function soon(): void {
  due ||= setTimeout(() => {
    due = 0;
    changed.value += 1;
  }, SOON + Math.random() * SPREAD);
}

export function listen(past = true): void {
  const events = new EventSource(address("events", { swarm: "true", traffic: "true", ...(past ? { past: "true" } : {}) }));
  let waiting: Change[] = [];
  const take = () => {
    changes.value = [...waiting.reverse(), ...changes.peek()].slice(0, KEPT);
    waiting = [];
  };
  events.addEventListener("change", (event) => {
    heard.value = Date.now();
    const { change, at } = JSON.parse(event.data);
    if (!waiting.length) queueMicrotask(() => setTimeout(take));
    waiting.push({ at, text: change });
    soon();
  });
  events.addEventListener("traffic", (event) => {
    heard.value = Date.now();
    put(JSON.parse(event.data) as Traffic);
  });
  events.addEventListener("swarm", soon);
  events.addEventListener("reset", soon);
  events.addEventListener("open", soon);
  events.addEventListener("error", () => {
    // An answer that is no stream ends it for good, unlike a connection that is lost.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => listen(false), 3000);
  });
}

export interface Asked<T> extends Partial<Answer<T>> {
  error: string;
}

// Asks, and asks again when something has changed, and every few seconds; what was last told stays while it does.
// Without a path nothing is asked.
export function useAsked<T>(path: string, query: Query = {}, again = AGAIN): Asked<T> {
  const [asked, set] = useState<Asked<T>>({ error: "" });
  const question = JSON.stringify([path, query]);
  const latest = useRef("");
  latest.current = question;
  useEffect(() => {
    if (!path) return;
    let timer = 0;
    let ended = false;
    let asking = false;
    let anew = false;
    const run = async () => {
      if (asking) {
        anew = true;
        return;
      }
      clearTimeout(timer);
      asking = true;
      const began = performance.now();
      try {
        const answer = await ask<T>(path, query);
        if (!ended && latest.current === question) set({ ...answer, error: "" });
      } catch (error) {
        if (!ended && latest.current === question) set((before) => ({ ...before, error: (error as Error).message }));
      }
      asking = false;
      if (ended) return;
      if (anew) {
        anew = false;
        run();
      } else {
        const pause = Math.max(again * 1000, Math.min(SELDOM * 1000, DEAR * (performance.now() - began)));
        timer = setTimeout(run, pause);
      }
    };
    const stop = effect(() => {
      changed.value;
      if (shown.value) run();
      else clearTimeout(timer);
    });
    return () => {
      ended = true;
      clearTimeout(timer);
      stop();
    };
  }, [question]);
  return asked;
}

export function useSwarm(): Asked<Swarm> {
  const asked = useAsked<Swarm>("swarm");
  if (asked.told) follow(asked.told);
  return asked;
}

// What the gate lets do; nothing before it is known.
export function useFeatures(): Overview["features"] {
  return useAsked<Overview>("overview").told?.features ?? { operations: false, logs: false };
}
