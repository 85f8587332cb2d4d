// A table; on a phone each row is a block, so that nobody has to scroll sideways to read.

import type { ComponentChildren } from "preact";

export interface Column<T> {
  head: string;
  cell: (row: T) => ComponentChildren;
  number?: boolean;
  wide?: boolean;
  widest?: boolean;
}

interface Props<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  id: (row: T) => string;
  about?: (row: T) => Record<string, string | undefined>; // Attributes of the row.
  empty: string;
}

export function Table<T>({ label, columns, rows, id, about, empty }: Props<T>) {
  if (!rows.length) return <p class="empty">{empty}</p>;
  const kind = (column: Column<T>) => [column.number && "number", column.wide && "wide", column.widest && "widest"].filter(Boolean).join(" ") || undefined;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table>
        <thead>
          <tr>{columns.map((column) => <th key={column.head} scope="col" class={kind(column)}>{column.head}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)} {...about?.(row)}>
              {columns.map((column) => (
                <td key={column.head} class={kind(column)} data-head={column.number ? column.head : undefined}>{column.cell(row)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
