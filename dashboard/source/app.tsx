// The frame: navigation, whether what is shown is live, and the page that the address names.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, heard } from "./api";
import { clock, span } from "./format";
import { enable, enabled, telling } from "./keyboard";
import { listen, seconds, state } from "./live";
import { FIRST, PAGES } from "./navigation";
import { Certificates } from "./pages/certificates";
import { Changes } from "./pages/changes";
import { Deployment } from "./pages/deployment";
import { Logs } from "./pages/logs";
import { Middlewares } from "./pages/middlewares";
import { Overview } from "./pages/overview";
import { RouterPage, Routers } from "./pages/routers";
import { ServicePage, Services } from "./pages/services";
import { SwarmPage } from "./pages/swarm";
import { WhyPage } from "./pages/why";
import { Dialog } from "./parts/Dialog";
import { type Route, route, to } from "./route";
import { turn } from "./theme";

function page({ page, name, part }: Route) {
  if (page === "routers") return name ? <RouterPage name={name} /> : <Routers />;
  if (page === "services") return name ? <ServicePage name={name} /> : <Services />;
  if (page === "swarm") return !name ? <SwarmPage /> : part === "logs" ? <Logs name={name} /> : <Deployment name={name} />;
  if (page === "middlewares") return <Middlewares />;
  if (page === "certificates") return <Certificates />;
  if (page === "changes") return <Changes />;
  if (page === "why") return <WhyPage />;
  return <Overview />;
}

function App() {
  const main = useRef<HTMLElement>(null);
  const visit = useRef(0);
  const shown = useRef(route.value);
  if (shown.current !== route.value) {
    // Each address is a page of its own, also where it differs in its query alone.
    shown.current = route.value;
    visit.current += 1;
    delete document.getElementById("main")?.dataset.page;
  }
  useEffect(() => {
    if (!visit.current) return;
    scrollTo(0, 0);
    main.current!.focus({ preventScroll: true });
  }, [visit.current]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current!.focus(); }}>Skip to the content</a>
      <div class="frame">
        <Side />
        <main id="main" tabIndex={-1} ref={main}>
          <Stale />
          <div key={visit.current}>{page(route.value)}</div>
        </main>
      </div>
      {telling.value && <Keys />}
    </>
  );
}

function Side() {
  const [version, tell] = useState("");
  useEffect(() => { ask<{ Version: string }>("version").then(({ told }) => tell(told.Version)).catch(() => {}); }, []);
  return (
    <header class="side">
      <p class="brand"><img src="icon.svg" alt="" width="26" height="26" /> <span><strong>swarmgate</strong> <small>{version}</small></span></p>
      <Navigation />
      <div class="foot">
        <p id="state" role="status" class={state.value}>
          {{ connecting: "connecting", live: "live", old: "the gate does not answer" }[state.value]}
        </p>
        <button id="theme" type="button" class="icon" aria-label="Dark or light" title="Dark or light" onClick={turn}>◐</button>
        <button type="button" class="icon keys" aria-label="Keys" title="Keys (?)" onClick={() => { telling.value = true; }}>?</button>
      </div>
    </header>
  );
}

function Navigation() {
  const [open, set] = useState(false);
  const current = PAGES.some((one) => one.name === route.value.page) ? route.value.page : "overview";
  useEffect(() => set(false), [route.value]);
  return (
    <nav aria-label="Pages">
      <ul class={open ? "open" : ""}>
        {PAGES.map(({ name, title, icon }, at) => (
          <li key={name} class={at < FIRST ? "" : "rest"}>
            <a href={to(name)} aria-current={name === current ? "page" : undefined}>
              <Icon path={icon} /> <span>{title}</span>
            </a>
          </li>
        ))}
      </ul>
      <button type="button" class="more" aria-expanded={open} onClick={() => set(!open)}>
        <Icon path="M5 12h.01M12 12h.01M19 12h.01" /> <span>More</span>
      </button>
    </nav>
  );
}

function Icon({ path }: { path: string }) {
  return <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d={path} /></svg>;
}

// Says how old what is shown is, where it is old. The line of the state has told it aloud already.
function Stale() {
  if (state.value !== "old") return null;
  const since = heard.value / 1000;
  return (
    <p class="stale" aria-hidden="true">
      What you see is of {clock(since)}, {span(seconds.value - since)} ago: the gate does not answer. This page tries again by itself.
    </p>
  );
}

const KEYS = [
  ["/", "to the search of a page"],
  ["Esc", "empties the search, closes a question"],
  ["j k ↓ ↑", "from row to row"],
  ["Enter", "opens what has the focus"],
  [`1–${PAGES.length}`, "to a page, in the order of the navigation"],
  ["?", "this list"],
];

function Keys() {
  return (
    <Dialog title="Keys" close={() => { telling.value = false; }}>
      <dl class="facts keys">
        {KEYS.map(([key, text]) => <><dt key={key}><kbd>{key}</kbd></dt><dd>{text}</dd></>)}
      </dl>
      <label class="check">
        <input type="checkbox" checked={enabled.value} onChange={(event) => enable(event.currentTarget.checked)} /> Single keys do this
      </label>
    </Dialog>
  );
}

listen();
render(<App />, document.getElementById("app")!);
