// Middlewares, their settings and who uses them.

import { Faults } from "../parts/Faults";
import { List } from "../parts/List";
import { Head } from "../parts/Page";
import { to } from "../route";
import type { Middleware } from "../told";

export function Middlewares() {
  return (
    <>
      <Head title="Middlewares" about="Steps between router and service. Secrets in their settings are left out." />
      <List<Middleware>
        kind="middlewares"
        where="http/middlewares"
        columns={[
          { head: "Middleware", cell: (item) => <a class="name" href={to("middlewares", "", "", { search: item.name })} data-row>{item.name}</a> },
          { head: "Kind", cell: (item) => item.type },
          { head: "Settings", wide: true, cell: (item) => <Settings told={item[item.type]} /> },
          { head: "Used by", cell: (item) => (item.usedBy?.length ? item.usedBy.map((one) => <div key={one}><a href={to("routers", one)}>{one}</a></div>) : <span class="soft">none</span>) },
          { head: "Status", cell: (item) => <Faults item={item} /> },
        ]}
      />
    </>
  );
}

function Settings({ told }: { told: unknown }) {
  const settings = Object.entries((told as Record<string, unknown> | undefined) ?? {});
  if (!settings.length) return <span class="soft">none</span>;
  return (
    <dl class="settings">
      {settings.map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd><code>{typeof value === "string" ? value : JSON.stringify(value)}</code></dd></div>
      ))}
    </dl>
  );
}
