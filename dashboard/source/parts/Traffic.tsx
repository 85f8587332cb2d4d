// Three plots of the same traffic: how much, how much of it failed, how long it took.

import { duration, number, percent } from "../format";
import { known, lines, SECONDS, tick } from "../history";
import { Plot } from "./Plot";

const SHORTEST = 120; // Seconds that a plot shows at least: a line of a few points says nothing.

export function Traffic({ keys, name }: { keys: string[]; name: string }) {
  tick.value;
  const { first, last } = known();
  const until = last || Date.now() / 1000;
  const from = Math.max(until - SECONDS, Math.min(first || until, until - SHORTEST));
  const told = lines(keys, from);
  const shared = { times: told.times, from, until, together: name, figures: true };
  return (
    <div class="plots">
      <section class="card">
        <h3>Requests a second</h3>
        <Plot {...shared} title="Requests a second" text={number} lines={[{ name: "requests/s", color: "--line-1", values: told.rate, area: true }]} />
      </section>
      <section class="card">
        <h3>Answered with 5xx</h3>
        <Plot {...shared} title="Share answered with 5xx" text={percent} least={0.01}
          lines={[{ name: "5xx", color: "--line-bad", values: told.errors, area: true }]} />
      </section>
      <section class="card">
        <h3>Answered within</h3>
        <Plot {...shared} title="Answered within" text={duration} least={0.005} lines={[
          { name: "50 %", color: "--line-1", values: told.p50 },
          { name: "95 %", color: "--line-2", values: told.p95, dash: [6, 3] },
          { name: "99 %", color: "--line-3", values: told.p99, dash: [2, 2] },
        ]} />
      </section>
    </div>
  );
}
