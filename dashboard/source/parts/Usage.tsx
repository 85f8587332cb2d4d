// How much of a node is used, as its agent tells.

import { bytes, number, percent } from "../format";
import type { NodeUsage } from "../told";

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
  if (usage.error) return <p class="warn small">The agent: {usage.error}</p>;
  const { total, used } = usage.memory;
  return (
    <div class="usages">
      <Bar name="CPU" share={usage.cpu} text={`${percent(usage.cpu)} of ${number(usage.cpus)}`} />
      <Bar name="Memory" share={total ? used / total : 0} text={`${bytes(used)} of ${bytes(total)}`} />
    </div>
  );
}
