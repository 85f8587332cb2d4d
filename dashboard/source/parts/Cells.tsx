// Tasks as cells: one each, with a mark and a colour for its state, and the way to its service.

import { to } from "../route";
import type { SwarmService, Task } from "../told";
import { nameOf } from "../updates";
import { markOf, type Tone } from "./Tag";

const NAMED = 24; // Up to so many tasks of a node are shown with their names.
const MOST = 400;

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
  return (
    <>
      <ul class={named ? "tasks named" : "tasks"}>
        {placed.slice(0, MOST).map((one) => {
          const tone = toneOf(one.task);
          return (
            <li key={one.task.id}>
              <a class={`cell ${tone}`} href={to("swarm", one.service.name)} title={about(one)} aria-label={about(one)}>
                <span class="mark" aria-hidden="true">{markOf(tone)}</span>
                {named && <span>{nameOf(one.service, one.task).replace(/ on .*/, "")}</span>}
              </a>
            </li>
          );
        })}
      </ul>
      {placed.length > MOST && <p class="soft small">and {(placed.length - MOST).toLocaleString("en-GB")} more</p>}
    </>
  );
}
