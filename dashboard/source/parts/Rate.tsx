// Requests a second, as a number with the line of the last minute.

import { number } from "../format";
import { now, rates, tick, untold } from "../history";
import { Spark } from "./Spark";

export function Rate({ keys }: { keys: string[] }) {
  tick.value;
  const told = now(keys);
  // Of many services only those with most requests are told of.
  const isUntold = !keys.length || !told || (told.rate === 0 && untold.value > 0);
  return (
    <span class="rate" title={untold.value > 0 && isUntold ? "not among the busiest services" : undefined}>
      <Spark values={rates(keys)} />
      <span>{isUntold ? "–" : number(told.rate)}</span>
    </span>
  );
}
