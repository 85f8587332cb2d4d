// Which page is shown, by the fragment of its address: #PAGE, #PAGE/NAME, #PAGE/NAME/PART, each with a ?query.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";

export interface Route {
  page: string;
  name: string;
  part: string;
  query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.slice(1).split("?", 2);
  const [page = "", name = "", part = ""] = path.split("/").map(decode);
  return { page: page || "overview", name, part, query: new URLSearchParams(query) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // Written by hand.
  }
}

// Names have an @ in them, which is to be read as one.
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll("%40", "@");
}

export const route = signal(read());
addEventListener("hashchange", () => { route.value = read(); });

export function to(page: string, name = "", part = "", query: Record<string, string> = {}): string {
  const path = [page, name, part].filter(Boolean).map(encode).join("/");
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#${path}${text && `?${text}`}`;
}

// A value that is kept in the query of the page's address, so that the address can be given to somebody else.
export function useKept(key: string, otherwise = ""): [string, (value: string) => void] {
  const [value, set] = useState(route.peek().query.get(key) ?? otherwise);
  const keep = (text: string) => {
    set(text);
    const { page, name, part, query } = route.peek();
    if (text && text !== otherwise) query.set(key, text);
    else query.delete(key);
    history.replaceState(null, "", to(page, name, part, Object.fromEntries(query)));
  };
  return [value, keep];
}
