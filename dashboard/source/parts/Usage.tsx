// How much of a node, and of its tasks, is in use, as its agent tells.

import { bytes, number, percent } from "../format";
import type { NodeUsage, TaskUsage } from "../told";

export function Bar({ name, share, text }: { name: string; share: number; text: string }) {
  const tone = share > 0.9 ? "bad" : share > 0.75 ? "warn" : "good";
  return (
    <div class="usage">
      <span>{name}</span>
      <div class="bar" role="meter" aria-label={name} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * share)} aria-valuetext={text}>
        <div class={tone} style={{ width: `${Math.min(100, 100 * share)}%` }} />
      </div>
      <span class="figure">{text}</span>
    </div>
  );
}

export function Usage({ usage }: { usage: NodeUsage | null | undefined }) {
  if (!usage) return <p class="soft small">No agent tells its CPU and memory.</p>;
  const { cpu, cpus, memory, disk, error } = usage;
  return (
    <div class="usages">
      {cpu !== null && <Bar name="CPU" share={cpu} text={cpus ? `${percent(cpu)} of ${number(cpus)}` : percent(cpu)} />}
      {memory && <Bar name="Memory" share={used(memory)} text={`${bytes(memory.used)} of ${bytes(memory.total)}`} />}
      {disk && <Bar name="Disk" share={used(disk)} text={`${bytes(disk.used)} of ${bytes(disk.total)}`} />}
      {error && <p class="warn small">The agent: {error}</p>}
    </div>
  );
}

const used = (of: { total: number; used: number }) => (of.total ? of.used / of.total : 0);

// Columns of tables whose rows have a usage; none where no row has.
export function usageColumns<T extends { usage?: TaskUsage | null }>(rows: T[]) {
  if (!rows.some((row) => row.usage)) return [];
  return [
    { head: "CPU", number: true, cell: ({ usage }: T) => (usage ? percent(usage.cpu) : "–") },
    {
      head: "Memory",
      number: true,
      cell: ({ usage }: T) => {
        if (!usage) return "–";
        return <>{bytes(usage.memory)}{usage.memoryLimit ? <div class="soft">of {bytes(usage.memoryLimit)}</div> : null}</>;
      },
    },
  ];
}
