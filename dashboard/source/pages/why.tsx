// Why a request does not get there, and why a service is not routed.

import { useEffect, useState } from "preact/hooks";
import { ask, type Query } from "../api";
import { Head, useDrawn } from "../parts/Page";
import { useKept } from "../route";
import type { Why as Told } from "../told";

interface Answer {
  title: string;
  lines: string[];
  tone: string;
}

export function WhyPage() {
  const [url, setUrl] = useKept("url");
  const [method, setMethod] = useKept("method", "GET");
  const [header, setHeader] = useKept("header");
  const [service, setService] = useKept("service");
  const [answers, tell] = useState<Answer[] | null>(null);
  const [note, setNote] = useState("Ask one of the two.");
  useDrawn(true);

  const put = async (question: Query) => {
    setNote("asking");
    try {
      const { told } = await ask<Told>("why", question);
      tell(read(told));
      setNote("");
    } catch (error) {
      tell(null);
      setNote((error as Error).message);
    }
  };
  const ofRequest = () => put({ url, method, header });
  const ofService = () => put({ service });
  useEffect(() => {
    if (url) ofRequest();
    else if (service) ofService();
  }, []);

  const asked = (run: () => void) => (event: Event) => {
    event.preventDefault();
    run();
  };
  return (
    <>
      <Head title="Why?" about="What becomes of a request, or what keeps a service from being routed." />
      <div class="questions">
        <section class="card">
          <h2>Why does a request not get there?</h2>
          <form onSubmit={asked(ofRequest)}>
            <label>URL<Field name="url" value={url} set={setUrl} hint="https://shop.example/path" required /></label>
            <label>Method<Field name="method" value={method} set={setMethod} /></label>
            <label>A header field, if one matters<Field name="header" value={header} set={setHeader} hint="X-Tenant: golf" /></label>
            <div><button class="main">Ask about the request</button></div>
          </form>
        </section>
        <section class="card">
          <h2>Why is a service not routed?</h2>
          <form onSubmit={asked(ofService)}>
            <label>Name of the Swarm service<Field name="service" value={service} set={setService} hint="shop_web" required /></label>
            <div><button class="main">Ask about the service</button></div>
          </form>
        </section>
      </div>
      <h2>Answer</h2>
      <div aria-live="polite">
        {note && <p class="soft">{note}</p>}
        {answers?.map((one) => (
          <section key={one.title} class={`card answer ${one.tone}`}>
            <h3>{one.title}</h3>
            {one.lines.map((line) => <p key={line} class={line.startsWith(" ") ? "under" : undefined}>{line.trim()}</p>)}
          </section>
        ))}
      </div>
    </>
  );
}

function Field({ name, value, set, hint, required }: { name: string; value: string; set: (value: string) => void; hint?: string; required?: boolean }) {
  return <input name={name} value={value} placeholder={hint} required={required} autocomplete="off" onInput={(event) => set(event.currentTarget.value)} />;
}

function read(told: Told): Answer[] {
  if (told.answers) {
    if (!told.answers.length) return [{ title: "No entry point", lines: ["No entry point listens there."], tone: "warn" }];
    const answers = told.answers.map((one) => ({ title: `On the entry point ${one.entry_point}`, lines: one.sentences, tone: one.is_routed ? "good" : "warn" }));
    const disabled = (told.disabled ?? []).map((one) => ({ title: `Of this host: ${one.name}`, lines: [one.sentence], tone: "bad" }));
    return [...answers, ...disabled];
  }
  if (!told.findings?.length) return [{ title: "All is well", lines: ["It is routed, and nothing is wrong with it."], tone: "good" }];
  return told.findings.map((one, at) => ({ title: one.is_hint ? "Hint" : `Finding ${at + 1}`, lines: [one.sentence], tone: one.is_hint ? "" : "bad" }));
}
