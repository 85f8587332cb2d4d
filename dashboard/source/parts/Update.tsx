// A rolling update as it happens: how far it is, and the traffic of old tasks beside that of new ones.

import { duration, number, percent, span } from "../format";
import { lines, now, ofUrls, tick } from "../history";
import { seconds } from "../live";
import type { SwarmService, Task } from "../told";
import { hasEnded, isUpdating, type Replacement } from "../updates";
import { Plot } from "./Plot";
import { Table } from "./Table";

const BEFORE = 20; // Seconds of before it that plots show.
const AFTER = 15; // Seconds of after it.

// How far an update is, and the engine's words.
export function Progress({ service, replacement }: { service: SwarmService; replacement: Replacement | undefined }) {
  const of = replacement?.of ?? service.replicas ?? 0;
  const done = Math.min(replacement?.done ?? 0, of);
  const update = service.update;
  const began = update?.started || replacement?.began || 0;
  return (
    <div class="progress">
      <progress max={of || 1} value={done} aria-label={`Tasks of ${service.name} replaced`} />
      <p>
        <strong>{done} of {of} replaced</strong>
        {update && isUpdating(service) && <> · the engine: {update.message || update.state}</>}
        {began > 0 && !replacement?.ended && <span class="soft"> · for {span(seconds.value - began)}</span>}
      </p>
    </div>
  );
}

interface Group {
  name: string;
  tasks: Task[];
  keys: string[];
}

export function Rolling({ service, replacement }: { service: SwarmService; replacement: Replacement }) {
  tick.value;
  const isUpdate = replacement.kind === "update";
  const tasks = service.tasks.filter((task) => task.url && !hasEnded(task));
  const goes = (task: Task) => task.outdated || task.state === "draining";
  const groups: [Group, Group] = [
    { name: isUpdate ? "old tasks" : "leaving", tasks: tasks.filter(goes), keys: ofUrls(replacement.old) },
    { name: isUpdate ? "new tasks" : "staying", tasks: tasks.filter((task) => !goes(task)), keys: ofUrls(replacement.fresh) },
  ];
  const title = replacement.ended ? "Last update" : isUpdate ? "Rolling update" : "Tasks that leave";
  return (
    <section class="card update" aria-label={title} data-update={replacement.ended ? "ended" : "going"}>
      <h2>{title}</h2>
      {isUpdate && !replacement.ended && <Progress service={service} replacement={replacement} />}
      {replacement.ended > 0 && (
        <p class="soft">
          {service.update?.message && <>The engine: {service.update.message} · </>}
          it took {span(replacement.ended - replacement.began)}, and ended {span(seconds.value - replacement.ended)} ago
        </p>
      )}
      {!replacement.ended && <Groups groups={groups} />}
      <Plots groups={groups} replacement={replacement} name={service.id} />
    </section>
  );
}

function Groups({ groups }: { groups: Group[] }) {
  return (
    <Table<Group>
      label="Old and new tasks"
      rows={groups}
      id={(group) => group.name}
      empty=""
      columns={[
        { head: "Tasks", cell: (group) => group.name },
        { head: "How many", number: true, cell: (group) => String(group.tasks.length) },
        { head: "Answering", number: true, cell: (group) => String(group.tasks.reduce((sum, task) => sum + task.inFlight, 0)) },
        { head: "Requests/s", number: true, cell: (group) => number(now(group.keys)?.rate ?? 0) },
        { head: "5xx", number: true, cell: (group) => percent(now(group.keys)?.errors ?? 0) },
        { head: "99 % within", number: true, cell: (group) => duration(now(group.keys)?.p99) },
      ]}
    />
  );
}

function Plots({ groups, replacement, name }: { groups: [Group, Group]; replacement: Replacement; name: string }) {
  const from = replacement.began - BEFORE;
  const until = replacement.ended ? replacement.ended + AFTER : Math.max(seconds.value, from + 60);
  const [old, fresh] = groups.map((group) => lines(group.keys, from)) as [ReturnType<typeof lines>, ReturnType<typeof lines>];
  const end = replacement.ended ? old.times.findLastIndex((time) => time <= until) + 1 : old.times.length;
  const both = (key: "rate" | "errors" | "p95") => [
    { name: groups[0].name, color: "--line-2", values: old[key].slice(0, end), dash: [6, 3] },
    { name: groups[1].name, color: "--line-1", values: fresh[key].slice(0, end) },
  ];
  const shared = { times: old.times.slice(0, end), from, until, together: `update of ${name}`, height: 116 };
  return (
    <div class="plots">
      <div><h3>Requests a second</h3><Plot {...shared} title="Requests a second" text={number} lines={both("rate")} /></div>
      <div><h3>Answered with 5xx</h3><Plot {...shared} title="Share answered with 5xx" text={percent} least={0.01} lines={both("errors")} /></div>
      <div><h3>95 % answered within</h3><Plot {...shared} title="95 % answered within" text={duration} least={0.005} lines={both("p95")} /></div>
    </div>
  );
}
