// Services as routers know them, with their servers and traffic.

import { duration, percent } from "../format";
import { now, ofService, ofUrls, tick } from "../history";
import { useAsked } from "../live";
import { Faults } from "../parts/Faults";
import { List } from "../parts/List";
import { Head, useDrawn } from "../parts/Page";
import { Rate } from "../parts/Rate";
import { Table } from "../parts/Table";
import { Tag } from "../parts/Tag";
import { Traffic } from "../parts/Traffic";
import { to } from "../route";
import type { Server, Service } from "../told";

export function Services() {
  return (
    <>
      <Head title="Services" about="What requests are sent to: servers that answer alike, in a Swarm the tasks of a service." />
      <List<Service>
        kind="services"
        where="http/services"
        columns={[
          {
            head: "Service",
            cell: (item) => (
              <>
                <a class="name" href={to("services", item.name)} data-row>{item.name}</a>
                <div class="soft">for {item.usedBy?.join(", ") || "no router"}</div>
              </>
            ),
          },
          { head: "Servers", cell: (item) => <Servers service={item} /> },
          { head: "Requests/s", number: true, cell: (item) => <Rate keys={[ofService(item.name)]} /> },
          { head: "5xx", number: true, cell: (item) => <Failed keys={[ofService(item.name)]} /> },
          { head: "99 % within", number: true, cell: (item) => <Within keys={[ofService(item.name)]} /> },
          { head: "Status", cell: (item) => <Faults item={item} /> },
        ]}
      />
    </>
  );
}

function Servers({ service }: { service: Service }) {
  const states = Object.values(service.serverStatus ?? {});
  if (!states.length) return <span class="soft">{service.type === "internal" ? "the gate itself" : "none"}</span>;
  const up = states.filter((one) => one === "UP").length;
  return (
    <span class={up === states.length ? "good" : "warn"}>
      {states.length <= 20 && <span class="cells" aria-hidden="true">{states.map((one, at) => <i key={at} class={one === "UP" ? "good" : "bad"} />)}</span>}
      {up} of {states.length} up
    </span>
  );
}

export function Failed({ keys }: { keys: string[] }) {
  tick.value;
  const told = now(keys);
  return <span class={told?.errors ? "bad" : ""}>{told && keys.length ? percent(told.errors) : "–"}</span>;
}

export function Within({ keys }: { keys: string[] }) {
  tick.value;
  return <>{duration(now(keys)?.p99)}</>;
}

export function ServicePage({ name }: { name: string }) {
  const { told, error } = useAsked<Service>(`http/services/${encodeURIComponent(name)}`);
  useDrawn(Boolean(told || error));
  return (
    <>
      <Head title={name} up={{ text: "Services", href: to("services") }} about={told && <>for {told.usedBy?.length ? told.usedBy.map((one, at) => <span key={one}>{at > 0 && ", "}<a href={to("routers", one)}>{one}</a></span>) : "no router"}</>} />
      {error && <p class="problem bad" role="alert">{error}</p>}
      {told && (
        <>
          {told.error && <Faults item={told} />}
          {isMadeOfOthers(told) ? <ChildrenTable service={told} /> : <Traffic keys={[ofService(name)]} name={name} />}
          {told.loadBalancer && <ServersTable service={told} servers={told.loadBalancer.servers} />}
        </>
      )}
    </>
  );
}

/** Whether it leads to other services, and not to servers of its own. */
function isMadeOfOthers(service: Service): boolean {
  return !service.loadBalancer && service.type !== "internal";
}

function ChildrenTable({ service }: { service: Service }) {
  return (
    <>
      <h2>Made of</h2>
      <Table<string>
        label="Services"
        rows={Object.keys(service.serverStatus ?? {})}
        id={(child) => child}
        empty="It is made of no service that there is."
        columns={[
          { head: "Service", cell: (child) => <a class="name" data-row href={to("services", child)}>{child}</a> },
          { head: "State", cell: (child) => <Tag word={service.serverStatus?.[child] === "UP" ? "up" : "down"} tone={service.serverStatus?.[child] === "UP" ? "good" : "bad"} /> },
          { head: "Requests/s", number: true, cell: (child) => <Rate keys={[ofService(child)]} /> },
          { head: "5xx", number: true, cell: (child) => <Failed keys={[ofService(child)]} /> },
          { head: "99 % within", number: true, cell: (child) => <Within keys={[ofService(child)]} /> },
        ]}
      />
    </>
  );
}

function ServersTable({ service, servers }: { service: Service; servers: Server[] }) {
  return (
    <>
      <h2>Servers</h2>
      <Table<Server>
        label="Servers"
        rows={servers}
        id={(server) => server.url}
        empty="It has no servers: no task runs, or none is reached."
        columns={[
          {
            head: "Server",
            cell: (server) => (
              <>
                {server.task ? <a class="name" data-row href={to("swarm", server.task.replace(/\.[^.]*$/, ""))}>{server.task}</a> : <strong>{server.url}</strong>}
                {server.task && <div class="soft">{server.url}</div>}
              </>
            ),
          },
          { head: "Node", cell: (server) => server.node || "–" },
          { head: "State", cell: (server) => <Tag word={service.serverStatus?.[server.url] === "UP" ? "up" : "down"} tone={service.serverStatus?.[server.url] === "UP" ? "good" : "bad"} /> },
          { head: "Requests/s", number: true, cell: (server) => <Rate keys={ofUrls([server.url])} /> },
          { head: "5xx", number: true, cell: (server) => <Failed keys={ofUrls([server.url])} /> },
          { head: "99 % within", number: true, cell: (server) => <Within keys={ofUrls([server.url])} /> },
        ]}
      />
    </>
  );
}
