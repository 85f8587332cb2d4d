// The Swarm: its nodes with their tasks as a map, and its services.

import { useState } from "preact/hooks";
import { count, image } from "../format";
import { ofUrls } from "../history";
import { useFeatures, useSwarm } from "../live";
import { Cells, type Placed, toneOf } from "../parts/Cells";
import { AT_ONCE, Pages, Search } from "../parts/List";
import { NodeActs } from "../parts/Operate";
import { Head, useDrawn } from "../parts/Page";
import { Rate } from "../parts/Rate";
import { Table } from "../parts/Table";
import { Tag } from "../parts/Tag";
import { Usage, usageColumns } from "../parts/Usage";
import { to, useKept } from "../route";
import type { Swarm, SwarmNode, SwarmService } from "../told";
import { hasEnded, isUpdating, urlsEver } from "../updates";

export function SwarmPage() {
  const { told, error } = useSwarm();
  const { operations } = useFeatures();
  const [search, set] = useKept("search");
  const [at, go] = useState(1);
  useDrawn(Boolean(told || error));
  const word = search.toLowerCase();
  const isWanted = (service: SwarmService) =>
    !word || [service.name, service.image, ...service.tasks.map((task) => task.node)].some((one) => one.toLowerCase().includes(word));
  const wanted = told?.services.filter(isWanted) ?? [];
  return (
    <>
      <Head title="Swarm" about={told && told.nodes.length > 0 && `${count(told.nodes.length, "node")}, ${count(told.services.length, "service")}`} />
      {error && <p class="problem bad" role="alert">{error}</p>}
      {told && !told.nodes.length && <p class="empty">This gate looks at no Swarm.</p>}
      {told && told.nodes.length > 0 && (
        <>
          <div class="tools">
            <Search label="Search services, images, nodes" value={search} set={(value) => { go(1); set(value); }} />
            <Legend />
          </div>
          <h2>Nodes</h2>
          <Nodes swarm={told} services={wanted} operations={operations} />
          <h2>Services</h2>
          <Services services={wanted.slice((at - 1) * AT_ONCE, at * AT_ONCE)} />
          <Pages
            at={at} next={at * AT_ONCE < wanted.length ? at + 1 : 1} go={go}
            told={` of ${Math.ceil(wanted.length / AT_ONCE)}, ${count(wanted.length, "service")}`}
          />
        </>
      )}
    </>
  );
}

function Legend() {
  return (
    <p class="legend small soft">
      <span class="good">● runs</span><span class="warn">◐ old or draining</span><span>○ on its way</span><span class="bad">✕ failed</span>
    </p>
  );
}

function Nodes({ swarm, services, operations }: { swarm: Swarm; services: SwarmService[]; operations: boolean }) {
  const placed = new Map<string, Placed[]>();
  for (const service of services) {
    for (const task of service.tasks) {
      if (hasEnded(task)) continue;
      const of = placed.get(task.node) ?? [];
      of.push({ service, task });
      placed.set(task.node, of);
    }
  }
  const waiting = placed.get("") ?? [];
  return (
    <div class="nodes">
      {swarm.nodes.map((node) => <NodeCard key={node.id} node={node} placed={placed.get(node.hostname) ?? []} operations={operations} />)}
      {waiting.length > 0 && (
        <section class="card" aria-label="Tasks without a node">
          <h3>No node yet</h3>
          <Cells placed={waiting} />
        </section>
      )}
    </div>
  );
}

function NodeCard({ node, placed, operations }: { node: SwarmNode; placed: Placed[]; operations: boolean }) {
  return (
    <section class="card node" aria-label={`node ${node.hostname}`}>
      <div class="title">
        <h3>{node.hostname}</h3>
        <span class="tags">
          {node.role && <Tag word={node.leader ? "leader" : node.role} />}
          <Tag word={node.state} />
          <Tag word={node.availability} />
        </span>
      </div>
      <Usage usage={node.usage} />
      <p class="soft small">{count(placed.length, "task")}</p>
      <Cells placed={placed} />
      {operations && <NodeActs name={node.hostname} isActive={node.availability === "active"} />}
    </section>
  );
}

function Services({ services }: { services: SwarmService[] }) {
  return (
    <Table<SwarmService>
      label="Services of the Swarm"
      rows={services}
      id={(service) => service.id}
      about={(service) => ({ "data-service": service.name })}
      empty="Nothing of that kind."
      columns={[
        {
          head: "Service",
          cell: (service) => (
            <>
              <a class="name" href={to("swarm", service.name)} data-row>{service.name}</a>
              <div class="soft">{image(service.image)}</div>
            </>
          ),
        },
        { head: "Tasks", cell: (service) => <Running service={service} /> },
        { head: "Requests/s", number: true, cell: (service) => <Rate keys={ofUrls(urlsEver(service.id))} /> },
        ...usageColumns(services),
        {
          head: "Problems",
          cell: (service) => {
            const failed = service.tasks.filter((task) => task.error).length;
            if (!service.problems.length && !failed) return <span class="soft">no problem</span>;
            return (
              <>
                {service.problems.length > 0 && <div class="bad">{count(service.problems.length, "problem")}</div>}
                {failed > 0 && <div class="warn">{count(failed, "task")} failed</div>}
              </>
            );
          },
        },
      ]}
    />
  );
}

export function Running({ service }: { service: SwarmService }) {
  const running = service.tasks.filter((task) => task.state === "running").length;
  const draining = service.tasks.filter((task) => task.state === "draining").length;
  const all = service.replicas === null || running === service.replicas;
  const alive = service.tasks.filter((task) => !hasEnded(task));
  return (
    <div class="running">
      <span class={all ? "good" : "warn"}>
        {alive.length <= 20 && <span class="cells" aria-hidden="true">{alive.map((task) => <i key={task.id} class={toneOf(task)} />)}</span>}
        {service.replicas === null ? `${running} running` : `${running} of ${service.replicas} running`}
      </span>
      {draining > 0 && <span class="warn">{draining} draining</span>}
      {isUpdating(service) && <Tag word="updating" />}
    </div>
  );
}
