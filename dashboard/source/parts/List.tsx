// What lists have: a search, a choice of status, and pages.

import type { ComponentChildren } from "preact";
import { useAsked } from "../live";
import { useKept } from "../route";
import { useDrawn } from "./Page";
import { type Column, Table } from "./Table";

export const AT_ONCE = 50; // Items of a list that are shown.

export function Search({ label, value, set }: { label: string; value: string; set: (value: string) => void }) {
  return (
    <input
      type="search" class="search" aria-label={label} placeholder={label} title="The key / leads here" value={value}
      onInput={(event) => set(event.currentTarget.value)}
    />
  );
}

export function Pages({ at, next, go, told }: { at: number; next: number; go: (page: number) => void; told?: string }) {
  if (at === 1 && next === 1) return null;
  return (
    <div class="pages" role="group" aria-label="Pages">
      <button type="button" disabled={at === 1} onClick={() => go(at - 1)}>Back</button>
      <span role="status">Page {at}{told}</span>
      <button type="button" disabled={next === 1} onClick={() => go(next)}>More</button>
    </div>
  );
}

interface Props<T> {
  kind: string;
  where: string;
  columns: Column<T>[];
  children?: ComponentChildren;
}

// A list that the gate searches and cuts into pages: as quick with thousands of items as with ten.
export function List<T extends { name: string }>({ kind, where, columns, children }: Props<T>) {
  const [search, setSearch] = useKept("search");
  const [status, setStatus] = useKept("status");
  const [page, setPage] = useKept("page", "1");
  const at = Number(page) || 1;
  const { told, next = 1, error } = useAsked<T[]>(where, { search, status, page: at, per_page: AT_ONCE });
  useDrawn(told !== undefined);
  const anew = (set: (value: string) => void) => (value: string) => {
    setPage("1");
    set(value);
  };
  return (
    <>
      <div class="tools">
        <Search label={`Search ${kind}`} value={search} set={anew(setSearch)} />
        <select aria-label="Status" value={status} onChange={(event) => anew(setStatus)(event.currentTarget.value)}>
          {["", "enabled", "warning", "disabled"].map((one) => <option key={one} value={one}>{one || "any status"}</option>)}
        </select>
        {children}
      </div>
      {error && <p class="problem" role="alert">{error}</p>}
      {told && <Table label={kind} columns={columns} rows={told} id={(item) => item.name} empty="Nothing of that kind." />}
      <Pages at={at} next={next} go={(to) => setPage(String(to))} />
    </>
  );
}
