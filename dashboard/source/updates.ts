// Rolling updates as they are seen: which servers were of before one, and which of after it. A task that has gone is
// told of no more, but its traffic belongs to the picture.

import type { Swarm, SwarmService, Task } from "./told";

const REMEMBERED = 600; // Seconds after its end.

export interface Replacement {
  kind: "update" | "leaving"; // Of an update's tasks, or of those that leave for another reason.
  began: number; // Seconds since 1970.
  ended: number; // 0 while it goes on.
  old: Set<string>; // URLs of servers.
  fresh: Set<string>;
  of: number; // How many tasks there are to be.
  done: number; // How many of them are new and run.
}

const replacements = new Map<string, Replacement>();
const urlsOf = new Map<string, Set<string>>();
let seen: Swarm | null = null;

// What is or was lately going on with a service, by its id.
export const replacement = (id: string): Replacement | undefined => replacements.get(id);

// All servers that a service has had while the page was open.
export const urlsEver = (id: string): Set<string> => urlsOf.get(id) ?? new Set();

const ENDED = new Set(["failed", "rejected", "shutdown", "complete", "orphaned", "remove"]);
export const hasEnded = (task: Task): boolean => ENDED.has(task.state);
const leaves = (task: Task): boolean => task.outdated || task.state === "draining";

export function isUpdating(service: SwarmService): boolean {
  const state = service.update?.state ?? "";
  return ["updating", "rollback_started"].includes(state) || service.tasks.some((task) => task.outdated && !hasEnded(task));
}

export function follow(swarm: Swarm): void {
  if (swarm === seen) return;
  seen = swarm;
  const now = Date.now() / 1000;
  for (const service of swarm.services) see(service, now);
  for (const [id, one] of replacements) if (one.ended && now - one.ended > REMEMBERED) replacements.delete(id);
}

function see(service: SwarmService, now: number): void {
  const urls = urlsOf.get(service.id) ?? new Set<string>();
  for (const task of service.tasks) if (task.url) urls.add(task.url);
  urlsOf.set(service.id, urls);
  const updating = isUpdating(service);
  const going = updating || service.tasks.some(leaves);
  let one = replacements.get(service.id);
  if (!going) {
    if (one && !one.ended) {
      one.ended = now;
      one.done = count(service);
    }
    return;
  }
  if (!one || one.ended) {
    const began = updating && service.update?.started ? Math.max(service.update.started, now - REMEMBERED) : now;
    one = { kind: "leaving", began, ended: 0, old: new Set(), fresh: new Set(), of: 0, done: 0 };
    replacements.set(service.id, one);
  }
  if (updating) one.kind = "update";
  for (const task of service.tasks) {
    if (!task.url) continue;
    if (leaves(task)) {
      one.old.add(task.url);
      one.fresh.delete(task.url);
    } else if (!one.old.has(task.url)) {
      one.fresh.add(task.url);
    }
  }
  one.done = count(service);
  const slots = service.tasks.filter((task) => !hasEnded(task) && task.state !== "draining");
  one.of = service.replicas ?? new Set(slots.map((task) => task.node)).size;
}

function count(service: SwarmService): number {
  return service.tasks.filter((task) => task.state === "running" && !task.outdated).length;
}

// By slot, the old one before the one that takes its place; what has ended comes last.
export function inOrder(tasks: Task[]): Task[] {
  return [...tasks].sort(
    (a, b) =>
      Number(hasEnded(a)) - Number(hasEnded(b)) ||
      slotOf(a) - slotOf(b) ||
      Number(leaves(b)) - Number(leaves(a)) ||
      a.id.localeCompare(b.id),
  );
}

// A draining task has no slot any more, but its name has: shop.2.
function slotOf(task: Task): number {
  if (task.slot || task.state !== "draining") return task.slot;
  const number = Number(task.id.slice(task.id.lastIndexOf(".") + 1));
  return Number.isInteger(number) ? number : 0;
}

export function nameOf(service: SwarmService, task: Task): string {
  if (task.state === "draining") return task.id;
  return task.slot ? `${service.name}.${task.slot}` : `${service.name} on ${task.node || "no node"}`;
}
