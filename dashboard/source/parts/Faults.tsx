// What is wrong with an item.

import { fault } from "../format";
import type { Status } from "../told";
import { Tag } from "./Tag";

export function Faults({ item }: { item: { status: Status; error?: string[] } }) {
  return (
    <div class="faults">
      <Tag word={item.status} />
      {item.error?.map((one) => <p key={one} class={item.status === "warning" ? "warn" : "bad"}>{fault(one)}</p>)}
    </div>
  );
}
