// What is wrong, how much traffic there is, and how much there is of everything.

import type { ComponentChildren } from "preact";
import { ask } from "../api";
import { capital, count, day, duration, fault, number, percent, span } from "../format";
import { busiest, entryPoints, now, ofService, tick } from "../history";
import { seconds, useAsked, useSwarm } from "../live";
import { Head, useDrawn } from "../parts/Page";
import { Rate } from "../parts/Rate";
import { Traffic } from "../parts/Traffic";
import { to } from "../route";
import type { Certificate, Count, Middleware, Overview as Told, Router, Service, Swarm } from "../told";
import { hasEnded, isUpdating, nameOf, replacement } from "../updates";
import { Progress } from "../parts/Update";
import { useEffect, useState } from "preact/hooks";

const MOST = 20; // Problems that are listed.
const RARELY = 60; // Seconds between two questions for what changes by time alone.

interface Problem {
  key: string;
  tone: "bad" | "warn";
  kind: string;
  name: string;
  href: string;
  text: string;
}

export function Overview() {
  const overview = useAsked<Told>("overview");
  const swarm = useSwarm();
  const problems = useProblems(overview.told, swarm.told);
  useDrawn(Boolean(overview.told && swarm.told && problems));
  return (
    <>
      <Head title="Overview" about={<Replicas />} />
      <h2>Problems</h2>
      <Problems problems={problems} />
      {swarm.told && <Updates swarm={swarm.told} />}
      <h2>Traffic</h2>
      <All />
      <Busiest />
      <h2>What there is</h2>
      {overview.error && <p class="problem" role="alert">{overview.error}</p>}
      {overview.told && <Counts told={overview.told} swarm={swarm.told} />}
    </>
  );
}

function All() {
  tick.value;
  return <Traffic keys={entryPoints()} name="overview" />;
}

function Problems({ problems }: { problems: Problem[] | null }) {
  if (!problems) return <p class="soft">Looking for them</p>;
  if (!problems.length) return <p class="well"><span aria-hidden="true">✓</span> None. Everything that is configured is in force.</p>;
  return (
    <>
      <ul class="problems">
        {problems.slice(0, MOST).map((one) => (
          <li key={one.key} class={`problem ${one.tone}`}>
            <span class="kind">{one.kind}</span>
            <a href={one.href} data-row>{one.name}</a>
            <span class="text">{one.text}</span>
          </li>
        ))}
      </ul>
      {problems.length > MOST && <p class="soft">and {problems.length - MOST} more</p>}
    </>
  );
}

function useProblems(overview: Told | undefined, swarm: Swarm | undefined): Problem[] | null {
  const { routers, services, middlewares } = overview?.http ?? {};
  const lists = [
    useList<Router>("http/routers", "disabled", routers?.errors),
    useList<Router>("http/routers", "warning", routers?.warnings),
    useList<Service>("http/services", "disabled", services?.errors),
    useList<Service>("http/services", "warning", services?.warnings),
    useList<Middleware>("http/middlewares", "disabled", middlewares?.errors),
    useList<Middleware>("http/middlewares", "warning", middlewares?.warnings),
    useList<Certificate>("certificates", "disabled", 1, RARELY),
    useList<Certificate>("certificates", "warning", 1, RARELY),
  ];
  if (!overview || !swarm || lists.some((one) => !one)) return null;
  const said = new Set(lists.flatMap((items) => items!.flatMap((item) => item.error ?? [])));
  return [...ofServices(swarm, said), ...lists.flatMap((items, at) => items!.map((item) => ofItem(item, KINDS[at >> 1]!))), ...ofNodes(swarm), ...ofTasks(swarm)]
    .sort((a, b) => Number(a.tone === "warn") - Number(b.tone === "warn"));
}

const KINDS = [
  { kind: "router", page: "routers", none: "no entry point has it" },
  { kind: "service", page: "services", none: "it is off" },
  { kind: "middleware", page: "middlewares", none: "it is off" },
  { kind: "certificate for", page: "certificates", none: "it is not valid" },
];

// The first of a kind that are not in force; not asked for where there are none.
function useList<T>(where: string, status: string, amount = 1, again?: number): T[] | undefined {
  const { told } = useAsked<T[]>(amount ? where : "", { status, per_page: MOST }, again);
  return amount ? told : [];
}

function ofItem(item: Router | Service | Middleware | Certificate, { kind, page, none }: (typeof KINDS)[number]): Problem {
  const detail = page === "routers" || page === "services";
  return {
    key: `${kind} ${item.name}`,
    tone: item.status === "warning" ? "warn" : "bad",
    kind,
    name: item.name,
    href: detail ? to(page, item.name) : to(page, "", "", { search: item.name }),
    text: item.error?.map(fault).join("; ") || none,
  };
}

function* ofServices(swarm: Swarm, said: Set<string>): Iterable<Problem> {
  for (const service of swarm.services) {
    const unsaid = service.problems.filter((one) => !said.has(one));
    if (!unsaid.length) continue;
    yield { key: `swarm ${service.id}`, tone: "bad", kind: "Swarm service", name: service.name, href: to("swarm", service.name), text: unsaid.join("; ") };
  }
}

function* ofNodes(swarm: Swarm): Iterable<Problem> {
  for (const node of swarm.nodes) {
    if (node.state === "ready") continue;
    yield { key: `node ${node.id}`, tone: "bad", kind: "node", name: node.hostname, href: to("swarm"), text: `it is ${node.state}` };
  }
}

function* ofTasks(swarm: Swarm): Iterable<Problem> {
  for (const service of swarm.services) {
    for (const task of service.tasks) {
      if (!task.error) continue;
      yield {
        key: `task ${task.id}`, tone: "warn", kind: "task", name: nameOf(service, task), href: to("swarm", service.name),
        text: `${task.state} on ${task.node || "no node"}: ${task.error}`,
      };
    }
  }
}

function Updates({ swarm }: { swarm: Swarm }) {
  const going = swarm.services.filter((one) => isUpdating(one));
  if (!going.length) return null;
  return (
    <>
      <h2>Rolling updates</h2>
      <div class="cards">
        {going.map((service) => (
          <a key={service.id} class="card plain" href={to("swarm", service.name)}>
            <h3>{service.name}</h3>
            <Progress service={service} replacement={replacement(service.id)} />
          </a>
        ))}
      </div>
    </>
  );
}

function Busiest() {
  tick.value;
  const names = busiest(8);
  if (!names.length) return null;
  return (
    <section class="card" aria-label="Services with most requests">
      <h3>Services with most requests</h3>
      <ol class="busiest">
        {names.map((name) => {
          const told = now([ofService(name)]);
          return (
            <li key={name}>
              <a href={to("services", name)} data-row>{name}</a>
              <Rate keys={[ofService(name)]} />
              <span class={`number ${told?.errors ? "bad" : "soft"}`}>{told ? percent(told.errors) : "–"} 5xx</span>
              <span class="number soft">{duration(told?.p99)}</span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

function Counts({ told, swarm }: { told: Told; swarm: Swarm | undefined }) {
  const certificates = useAsked<Certificate[]>("certificates", { per_page: 1 }, RARELY);
  const first = certificates.told?.[0];
  return (
    <div class="cards counts">
      {Object.entries(told.http).map(([name, one]) => <Amount key={name} title={capital(name)} href={to(name)} figure={number(one.total)}><State told={one} /></Amount>)}
      {swarm && swarm.nodes.length > 0 && <OfSwarm swarm={swarm} />}
      {first && (
        <Amount title="Next certificate to end" href={to("certificates")} figure={day(first.notAfter)}>
          <span class={first.status === "enabled" ? "soft" : first.status === "warning" ? "warn" : "bad"}>
            {first.notAfter > seconds.value ? `${span(first.notAfter - seconds.value)} left` : "expired"}: {first.name}
          </span>
        </Amount>
      )}
      <Amount title="Providers" href={to("changes")} figure={told.providers.join(", ") || "none"}>
        <span class="soft">where routes come from</span>
      </Amount>
    </div>
  );
}

function OfSwarm({ swarm }: { swarm: Swarm }) {
  const ready = swarm.nodes.filter((one) => one.state === "ready" && one.availability === "active").length;
  const tasks = swarm.services.flatMap((one) => one.tasks);
  const running = tasks.filter((one) => one.state === "running").length;
  const coming = tasks.filter((one) => !hasEnded(one) && !["running", "draining"].includes(one.state)).length;
  return (
    <>
      <Amount title="Nodes" href={to("swarm")} figure={number(swarm.nodes.length)}>
        <span class={ready === swarm.nodes.length ? "soft" : "warn"}>{ready} ready and active</span>
      </Amount>
      <Amount title="Tasks running" href={to("swarm")} figure={number(running)}>
        <span class={coming ? "warn" : "soft"}>{coming} on their way</span>
      </Amount>
    </>
  );
}

function State({ told }: { told: Count }) {
  if (!told.errors && !told.warnings) return <span class="soft">all in force</span>;
  return (
    <>
      <span class={told.errors ? "bad" : "soft"}>{told.errors} off</span>, <span class={told.warnings ? "warn" : "soft"}>{told.warnings} with warnings</span>
    </>
  );
}

function Amount({ title, href, figure, children }: { title: string; href: string; figure: string; children: ComponentChildren }) {
  return (
    <a class="card plain" href={href}>
      <h3>{title}</h3>
      <p class="large">{figure}</p>
      <p class="small">{children}</p>
    </a>
  );
}

interface Replica {
  task: string;
  answered: boolean;
}

// Whose numbers these are, where the gate runs as a service of the Swarm.
function Replicas() {
  const [told, tell] = useState<Replica[] | null>(null);
  useEffect(() => {
    let timer = 0;
    let ended = false;
    const run = async () => {
      try {
        tell((await ask<{ replicas: Replica[] }>("replicas")).told.replicas);
      } catch {
        // Whether the gate answers at all is told elsewhere.
      }
      if (!ended) timer = setTimeout(run, 10_000);
    };
    run();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, []);
  if (!told?.length) return null;
  const silent = told.filter((one) => !one.answered).map((one) => one.task);
  return (
    <span class={silent.length ? "warn" : "soft"}>
      Numbers of {count(told.length, "replica")}{silent.length ? `; ${silent.join(", ")} did not answer` : ""}
    </span>
  );
}
