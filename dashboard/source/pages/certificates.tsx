// Certificates, the next to end first.

import { day, span } from "../format";
import { seconds } from "../live";
import { Faults } from "../parts/Faults";
import { List } from "../parts/List";
import { Head } from "../parts/Page";
import type { Certificate } from "../told";

export function Certificates() {
  return (
    <>
      <Head title="Certificates" about="Those that TLS clients may get, the next to end first." />
      <List<Certificate>
        kind="certificates"
        where="certificates"
        columns={[
          {
            head: "For",
            cell: (item) => (
              <>
                <strong class="name" tabIndex={-1} data-row>{item.name}</strong>{item.isDefault && " (default)"}
                <div class="soft">{item.names.slice(1).join(", ")}</div>
              </>
            ),
          },
          { head: "Ends", cell: (item) => <Ends certificate={item} /> },
          { head: "Issuer", cell: (item) => item.issuer },
          { head: "Key", cell: (item) => item.kind },
          { head: "Where from", wide: true, cell: (item) => <code>{item.origin}</code> },
          { head: "Status", cell: (item) => <Faults item={item} /> },
        ]}
      />
    </>
  );
}

function Ends({ certificate }: { certificate: Certificate }) {
  const left = certificate.notAfter - seconds.value;
  const share = Math.max(0, Math.min(1, left / (certificate.notAfter - certificate.notBefore)));
  const tone = certificate.status === "enabled" ? "good" : certificate.status === "warning" ? "warn" : "bad";
  const days = Math.floor(left / 86400);
  return (
    <div class="ends">
      <time dateTime={new Date(certificate.notAfter * 1000).toISOString()}>{day(certificate.notAfter)}</time>
      <div class="bar" aria-hidden="true"><div class={tone} style={{ width: `${100 * share}%` }} /></div>
      <small class={tone === "good" ? "soft" : tone}>{left < 0 ? "expired" : days === 1 ? "1 day left" : days ? `${days} days left` : `${span(left)} left`}</small>
    </div>
  );
}
