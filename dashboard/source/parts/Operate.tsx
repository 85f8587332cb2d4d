// Buttons that change the Swarm. Each asks once, and shows the engine's answer as it is.

import { useState } from "preact/hooks";
import { operate, type Operation } from "../api";
import { Dialog } from "./Dialog";

interface Act {
  text: string;
  question: string;
  operation: Operation;
  replicas?: number; // How many there are, where that is what is asked for.
}

export function ServiceActs({ name, replicas }: { name: string; replicas: number | null }) {
  const acts: Act[] = [
    { text: "Restart", question: `Restart all tasks of ${name}?`, operation: { operation: "restart", service: name } },
    { text: "Roll back", question: `Roll ${name} back to what it was before?`, operation: { operation: "rollback", service: name } },
  ];
  if (replicas !== null) acts.unshift({ text: "Scale", question: `Scale ${name}?`, operation: { operation: "scale", service: name }, replicas });
  return <Acts acts={acts} />;
}

export function NodeActs({ name, isActive }: { name: string; isActive: boolean }) {
  const act: Act = isActive
    ? { text: "Drain", question: `Drain ${name}? Its tasks move to other nodes.`, operation: { operation: "drain", node: name } }
    : { text: "Activate", question: `Activate ${name}?`, operation: { operation: "activate", node: name } };
  return <Acts acts={[act]} />;
}

function Acts({ acts }: { acts: Act[] }) {
  const [asked, ask] = useState<Act | null>(null);
  return (
    <span class="acts">
      {acts.map((act) => <button key={act.text} type="button" onClick={() => ask(act)}>{act.text}</button>)}
      {asked && <Question act={asked} close={() => ask(null)} />}
    </span>
  );
}

function Question({ act, close }: { act: Act; close: () => void }) {
  const [told, tell] = useState<{ tone: string; text: string }>({ tone: "soft", text: "" });
  const [stage, go] = useState<"asking" | "waiting" | "done">("asking");
  const [replicas, set] = useState(act.replicas ?? 0);
  const run = async (event: Event) => {
    event.preventDefault();
    go("waiting");
    tell({ tone: "soft", text: "asking the engine" });
    try {
      const answer = await operate(act.replicas === undefined ? act.operation : { ...act.operation, replicas });
      tell({ tone: answer.done ? "good" : "bad", text: answer.message });
      go(answer.done ? "done" : "asking");
    } catch (error) {
      tell({ tone: "bad", text: (error as Error).message });
      go("asking");
    }
  };
  return (
    <Dialog title={act.question} close={close}>
      <form onSubmit={run}>
        {act.replicas !== undefined && (
          <label>
            Replicas
            <input
              type="number" min="0" max="10000" required data-first value={replicas}
              onInput={(event) => set(event.currentTarget.valueAsNumber)}
            />
          </label>
        )}
        {stage !== "done" && (
          <div><button class="main" disabled={stage === "waiting"} data-first={act.replicas === undefined || undefined}>{act.text}</button></div>
        )}
        <p role="status" class={told.tone}>{told.text}</p>
      </form>
    </Dialog>
  );
}
