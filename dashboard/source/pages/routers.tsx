// Routers, each with the way of a request.

import { useAsked } from "../live";
import { Faults, Reasons } from "../parts/Faults";
import { List } from "../parts/List";
import { Head, useDrawn } from "../parts/Page";
import { Tag } from "../parts/Tag";
import { Way } from "../parts/Way";
import { to } from "../route";
import type { Router, Service } from "../told";

const priority = (item: Router) => (item.priority > Number.MAX_SAFE_INTEGER ? "highest" : String(item.priority));

export function Routers() {
  return (
    <>
      <Head title="Routers" about="Which requests go where: the longest rule, or the highest priority, is asked first." />
      <List<Router>
        kind="routers"
        where="http/routers"
        columns={[
          {
            head: "Router",
            wide: true,
            cell: (item) => (
              <>
                <a class="name" href={to("routers", item.name)} data-row>{item.name}</a>
                <code class="rule">{item.rule}</code>
              </>
            ),
          },
          {
            head: "Way of a request",
            widest: true,
            cell: (item) => (
              <>
                <Way router={item} />
                <Reasons item={item} />
              </>
            ),
          },
          { head: "Priority", number: true, cell: priority },
          { head: "Status", cell: (item) => <Tag word={item.status} /> },
        ]}
      />
    </>
  );
}

export function RouterPage({ name }: { name: string }) {
  const { told, error } = useAsked<Router>(`http/routers/${encodeURIComponent(name)}`);
  useDrawn(Boolean(told || error));
  return (
    <>
      <Head title={name} up={{ text: "Routers", href: to("routers") }} />
      {error && <p class="problem bad" role="alert">{error}</p>}
      {told && <Details router={told} />}
    </>
  );
}

function Details({ router }: { router: Router }) {
  const service = router.service.includes("@") ? router.service : `${router.service}@${router.provider}`;
  const { told } = useAsked<Service>(`http/services/${encodeURIComponent(service)}`);
  const states = Object.values(told?.serverStatus ?? {});
  return (
    <>
      <section class="card">
        <h2>The way of a request</h2>
        <Way router={router} up={states.filter((one) => one === "UP").length} servers={told?.serverStatus ? states.length : undefined} />
      </section>
      <section class="card">
        <dl class="facts">
          <dt>Rule</dt><dd><code>{router.rule}</code></dd>
          <dt>Status</dt><dd><Faults item={router} /></dd>
          <dt>Priority</dt><dd>{priority(router)}</dd>
          <dt>Provider</dt><dd>{router.provider}</dd>
          <dt>TLS</dt><dd>{router.tls ? "yes" : "as the entry point has it"}</dd>
        </dl>
      </section>
      <p class="after"><a href={to("why", "", "", { url: example(router.rule, Boolean(router.tls)) })}>What becomes of a request that it should take?</a></p>
    </>
  );
}

// A URL that the rule takes, if the first host and path of it are enough.
function example(rule: string, isSecure: boolean): string {
  const host = /Host\(`([^`]+)`/.exec(rule)?.[1];
  const path = /Path(?:Prefix)?\(`([^`]+)`/.exec(rule)?.[1] ?? "/";
  return host ? `${isSecure ? "https" : "http"}://${host}${path}` : "";
}
