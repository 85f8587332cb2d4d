// A service of the Swarm: its tasks with their traffic, its update as it happens, what can be done with it.

import { image, span } from "../format";
import { ofUrls, tick } from "../history";
import { seconds, useAsked, useFeatures, useSwarm } from "../live";
import { ServiceActs } from "../parts/Operate";
import { Head, useDrawn } from "../parts/Page";
import { Rate } from "../parts/Rate";
import { type Column, Table } from "../parts/Table";
import { Tag } from "../parts/Tag";
import { Traffic } from "../parts/Traffic";
import { Rolling } from "../parts/Update";
import { usageColumns } from "../parts/Usage";
import { to } from "../route";
import type { Service, SwarmService, Task } from "../told";
import { inOrder, nameOf, replacement, urlsEver } from "../updates";
import { Failed, Within } from "./services";
import { Running } from "./swarm";

export function Deployment({ name }: { name: string }) {
  const { told, error } = useSwarm();
  const features = useFeatures();
  const service = told?.services.find((one) => one.name === name || one.id === name);
  useDrawn(Boolean(told || error));
  const acts = service && (
    <div class="acts">
      {features.logs && <a class="button" href={to("swarm", service.name, "logs")}>Logs</a>}
      {features.operations && <ServiceActs name={service.name} replicas={service.replicas} />}
    </div>
  );
  return (
    <>
      <Head title={service?.name ?? name} up={{ text: "Swarm", href: to("swarm") }} acts={acts} about={service && image(service.image)} />
      {error && <p class="problem bad" role="alert">{error}</p>}
      {told && !service && <p class="empty">The Swarm has no service {name}.</p>}
      {service && <Details service={service} logs={features.logs} />}
    </>
  );
}

function Details({ service, logs }: { service: SwarmService; logs: boolean }) {
  const going = replacement(service.id);
  return (
    <>
      {service.problems.map((one) => <p key={one} class="problem bad">{one}</p>)}
      {service.problems.length > 0 && <p><a href={to("why", "", "", { service: service.name })}>Why is it not routed?</a></p>}
      {going && <Rolling service={service} replacement={going} />}
      {!going && service.update && <LastUpdate service={service} />}
      <h2>Tasks</h2>
      <div class="tools"><Running service={service} /><ReachedBy service={service} /></div>
      <Tasks service={service} logs={logs} />
      <h2>Traffic</h2>
      <Reached service={service} />
    </>
  );
}

function LastUpdate({ service }: { service: SwarmService }) {
  const { state, message, completed } = service.update!;
  const tone = state.endsWith("completed") ? "soft" : "warn";
  return <p class={tone}>Last update: {message || state}{completed > 0 && `, ${span(seconds.value - completed)} ago`}</p>;
}

function Reached({ service }: { service: SwarmService }) {
  tick.value;
  return <Traffic keys={ofUrls(urlsEver(service.id))} name={service.id} />;
}

// Services as routers know them, whose servers its tasks are.
function ReachedBy({ service }: { service: SwarmService }) {
  const urls = new Set(service.tasks.map((task) => task.url).filter(Boolean));
  const { told } = useAsked<Service[]>(urls.size ? "http/services" : "", { search: service.name });
  const mine = told?.filter((one) => one.loadBalancer?.servers.some((server) => urls.has(server.url))) ?? [];
  if (!mine.length) return null;
  return (
    <span class="soft">
      reached as {mine.map((one, at) => <span key={one.name}>{at > 0 && ", "}<a href={to("services", one.name)}>{one.name}</a></span>)}
    </span>
  );
}

function Tasks({ service, logs }: { service: SwarmService; logs: boolean }) {
  const keys = (task: Task) => (task.url ? ofUrls([task.url]) : []);
  const columns: Column<Task>[] = [
    {
      head: "Task",
      cell: (task) => (
        <>
          <strong class="name" data-row tabIndex={-1}>{nameOf(service, task)}</strong>
          {task.outdated && !task.error && <> <Tag word="old" /></>}
          <div class="soft">{task.url.replace("http://", "")}</div>
        </>
      ),
    },
    { head: "Node", cell: (task) => task.node || "–" },
    {
      head: "State",
      cell: (task) => (
        <>
          <Tag word={task.state} tone={task.state === "running" && task.reason ? "warn" : undefined} />
          <div class={task.error ? "bad small" : "soft small"}>
            {task.error || task.reason}{task.exitCode ? ` (exit code ${task.exitCode})` : ""}
          </div>
        </>
      ),
    },
    { head: "Answering", number: true, cell: (task) => String(task.inFlight) },
    { head: "Requests/s", number: true, cell: (task) => <Rate keys={keys(task)} /> },
    { head: "5xx", number: true, cell: (task) => <Failed keys={keys(task)} /> },
    { head: "99 % within", number: true, cell: (task) => <Within keys={keys(task)} /> },
    ...usageColumns(service.tasks),
  ];
  if (logs) {
    columns.push({
      head: "Logs",
      cell: (task) => (task.state === "draining" ? null : (
        <a href={to("swarm", service.name, "logs", { task: task.id })} aria-label={`Logs of ${nameOf(service, task)}`}>Logs</a>
      )),
    });
  }
  return (
    <Table<Task>
      label={`Tasks of ${service.name}`}
      rows={inOrder(service.tasks)}
      id={(task) => task.id}
      about={(task) => ({ "data-task": nameOf(service, task), "data-state": task.state, "data-old": task.outdated || task.state === "draining" ? "old" : undefined })}
      columns={columns}
      empty="No task."
    />
  );
}
