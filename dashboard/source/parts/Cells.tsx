// Tasks as cells: one each, with a mark and a colour for its state, and the way to its service.

import { useMemo } from "preact/hooks";
import { to } from "../route";
import type { SwarmService, Task } from "../told";
import { nameOf } from "../updates";
import { markOf, type Tone } from "./Tag";

const NAMED = 24; // Up to so many tasks of a node are shown with their names.
const MOST = 200;

export interface Placed {
  service: SwarmService;
  task: Task;
}

export function toneOf(task: Task): Tone {
  if (task.state === "running") return task.outdated || task.reason ? "warn" : "good";
  if (task.state === "draining") return "warn";
  return task.error || ["failed", "rejected", "orphaned"].includes(task.state) ? "bad" : "calm";
}

function about({ service, task }: Placed): string {
  const notes = [task.state, task.outdated && "old", task.error || task.reason].filter(Boolean).join(", ");
  return `${nameOf(service, task)}: ${notes}`;
}

export function Cells({ placed }: { placed: Placed[] }) {
  const named = placed.length <= NAMED;
  const shown = placed.slice(0, MOST);
  const seen = shown.map((one) => `${one.task.id} ${about(one)}`).join();
  // Thousands of cells are drawn anew only when one of them has changed.
  return useMemo(() => (
    <>
      <ul class={named ? "tasks named" : "tasks"}>
        {shown.map((one) => <Cell key={one.task.id} placed={one} named={named} />)}
      </ul>
      {placed.length > MOST && <p class="soft small">and {(placed.length - MOST).toLocaleString("en-GB")} more</p>}
    </>
  ), [seen, placed.length]);
}

function Cell({ placed, named }: { placed: Placed; named: boolean }) {
  const tone = toneOf(placed.task);
  const text = about(placed);
  return (
    <li>
      <a class={`cell ${tone}`} href={to("swarm", placed.service.name)} title={text} aria-label={text}>
        <span class="mark" aria-hidden="true">{markOf(tone)}</span>
        {named && <span>{nameOf(placed.service, placed.task).replace(/ on .*/, "")}</span>}
      </a>
    </li>
  );
}
