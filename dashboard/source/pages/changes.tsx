// What has changed: as much of it as the gate still knows, and what happens while the page is open.

import { clock, count } from "../format";
import { changes } from "../live";
import { AT_ONCE, Pages, Search } from "../parts/List";
import { Head, useDrawn } from "../parts/Page";
import { useKept } from "../route";
import { useState } from "preact/hooks";

const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long" });

export function Changes() {
  const [search, set] = useKept("search");
  const [at, go] = useState(1);
  useDrawn(true);
  const word = search.toLowerCase();
  const found = changes.value.filter((one) => one.text.toLowerCase().includes(word));
  const shown = found.slice((at - 1) * AT_ONCE, at * AT_ONCE);
  const days = Map.groupBy(shown, (one) => DAY.format(one.at * 1000));
  return (
    <>
      <Head title="Changes" about="What has changed of routes, services and certificates, the newest first: the last 1,000 that the gate knows." />
      <div class="tools">
        <Search label="Search changes" value={search} set={(value) => { go(1); set(value); }} />
        <span class="soft">{count(found.length, "change")}</span>
      </div>
      {!found.length && <p class="empty">{word ? "Nothing of that kind." : "Nothing has changed yet."}</p>}
      {[...days].map(([title, of]) => (
        <section key={title}>
          <h2>{title}</h2>
          <ol class="changes">
            {of.map((one, place) => (
              <li key={`${one.at} ${one.text} ${place}`} class={kind(one.text)}>
                <time dateTime={new Date(one.at * 1000).toISOString()}>{clock(one.at)}</time>
                <span class="mark" aria-hidden="true">{MARKS[kind(one.text)]}</span>
                <span>{one.text}</span>
              </li>
            ))}
          </ol>
        </section>
      ))}
      <Pages at={at} next={at * AT_ONCE < found.length ? at + 1 : 1} go={go} />
    </>
  );
}

const MARKS = { added: "+", removed: "−", problem: "✕", other: "·" };

function kind(text: string): keyof typeof MARKS {
  if (/problem|mean |unknown|expected/.test(text)) return "problem";
  if (/ added\b/.test(text)) return "added";
  if (/ removed\b/.test(text)) return "removed";
  return "other";
}
