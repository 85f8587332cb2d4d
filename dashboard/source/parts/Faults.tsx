// What is wrong with an item.

import { fault } from "../format";
import type { Status } from "../told";
import { Tag } from "./Tag";

interface Props {
  item: { status: Status; error?: string[] };
}

export function Faults({ item }: Props) {
  return (
    <>
      <Tag word={item.status} />
      <Reasons item={item} />
    </>
  );
}

export function Reasons({ item }: Props) {
  if (!item.error?.length) return null;
  const tone = item.status === "warning" ? "warn" : "bad";
  return <div class={`faults ${tone}`}>{item.error.map((one) => <p key={one}>{fault(one)}</p>)}</div>;
}
