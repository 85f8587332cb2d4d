// What a service, or one of its tasks, logs; searched by the gate.

import { useEffect, useRef, useState } from "preact/hooks";
import { ask } from "../api";
import { count } from "../format";
import { useSwarm } from "../live";
import { Search } from "../parts/List";
import { Head, useDrawn } from "../parts/Page";
import { to, useKept } from "../route";
import type { Log } from "../told";
import { nameOf } from "../updates";

const LINES = 500;
const PAUSE = 300; // Milliseconds after a key: each reading asks the engine.
const AGAIN = 5000; // Milliseconds between two readings of who follows.

export function Logs({ name }: { name: string }) {
  const { told } = useSwarm();
  const [search, setSearch] = useKept("search");
  const [task, setTask] = useKept("task");
  const [follows, follow] = useState(false);
  const [log, setLog] = useState<Log | null>(null);
  const [note, setNote] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const asked = useRef(0);
  const service = told?.services.find((one) => one.name === name);
  const tasks = service?.tasks.filter((one) => one.state !== "draining") ?? [];
  useDrawn(Boolean(log || note));

  const read = async () => {
    const mine = ++asked.current;
    setNote("asking the engine");
    try {
      const answer = await ask<Log>(`swarm/services/${encodeURIComponent(name)}/logs`, { tail: LINES, search, task });
      if (mine !== asked.current) return;
      setLog(answer.told);
      setNote("");
    } catch (error) {
      if (mine !== asked.current) return;
      setLog(null);
      setNote((error as Error).message);
    }
  };
  useEffect(() => {
    const timer = setTimeout(read, log ? PAUSE : 0);
    return () => clearTimeout(timer);
  }, [search, task]);
  useEffect(() => {
    if (!follows) return;
    const timer = setInterval(read, AGAIN);
    return () => clearInterval(timer);
  }, [follows, search, task]);
  useEffect(() => { if (box.current) box.current.scrollTop = box.current.scrollHeight; }, [log]);

  const missing = log && !log.complete ? "; some are missing: a node did not answer in time, or there was too much" : "";
  return (
    <>
      <Head title={`What ${name} logs`} up={{ text: name, href: to("swarm", name) }} />
      <div class="tools">
        <Search label="Search the lines" value={search} set={setSearch} />
        <select aria-label="Task" value={task} onChange={(event) => setTask(event.currentTarget.value)}>
          <option value="">all tasks</option>
          {task && !tasks.some((one) => one.id === task) && <option value={task}>{task}</option>}
          {service && tasks.map((one) => <option key={one.id} value={one.id}>{`${nameOf(service, one)} ${one.state}, ${one.node || "no node"}`}</option>)}
        </select>
        <label class="check"><input type="checkbox" checked={follows} onChange={(event) => follow(event.currentTarget.checked)} /> Follow</label>
        <button type="button" onClick={read}>Read again</button>
      </div>
      <p class="soft small" role="status">{note || (log && count(log.lines.length, "line") + missing)}</p>
      <div class="lines" tabIndex={0} role="region" aria-label="Lines" ref={box}>
        {log?.lines.map((line, at) => (
          <div key={at} class={line.stream === "stderr" ? "line stderr" : "line"}>
            <span class="soft">{line.time.slice(0, 10)} {line.time.slice(11, 23)} {line.node}{line.stream === "stderr" ? " stderr" : ""}</span>
            <Marked text={line.text} word={search} />
          </div>
        ))}
      </div>
    </>
  );
}

// A line in which what was searched for is marked.
function Marked({ text, word }: { text: string; word: string }) {
  const at = word ? text.toLowerCase().indexOf(word.toLowerCase()) : -1;
  if (at < 0) return <span>{text}</span>;
  return <span>{text.slice(0, at)}<mark>{text.slice(at, at + word.length)}</mark>{text.slice(at + word.length)}</span>;
}
