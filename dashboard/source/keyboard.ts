// Keys: / searches, j and k or the arrows go from row to row, digits to pages, ? tells of them.

import { signal } from "@preact/signals";
import { PAGES } from "./navigation";
import { to } from "./route";

const KEY = "swarmgate.keys";
// Who speaks to a computer may say single letters by accident, and can switch them off (WCAG 2.1.4).
export const enabled = signal(localStorage.getItem(KEY) !== "off");
export const telling = signal(false);

export function enable(on: boolean): void {
  enabled.value = on;
  localStorage.setItem(KEY, on ? "on" : "off");
}

function rows(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>("main [data-row]")];
}

function move(by: number): boolean {
  const all = rows();
  if (!all.length) return false;
  const at = all.indexOf(document.activeElement as HTMLElement);
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)]!;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function press(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target as HTMLElement;
  const search = document.querySelector<HTMLInputElement>("main input[type=search]");
  if (event.key === "Escape" && target === search) {
    if (search.value) {
      search.value = "";
      search.dispatchEvent(new Event("input", { bubbles: true }));
    } else search.blur();
    return event.preventDefault();
  }
  if (event.key === "ArrowDown" && target === search && move(1)) return event.preventDefault();
  if (target.closest("input, select, textarea")) return;
  if (target.dataset.row !== undefined && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    move(event.key === "ArrowDown" ? 1 : -1);
    return event.preventDefault();
  }
  if (!enabled.value) return;
  const page = PAGES[Number(event.key) - 1];
  if (event.key === "/" && search) search.focus();
  else if (event.key === "?") telling.value = true;
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (page) location.hash = to(page.name);
  else return;
  event.preventDefault();
}

addEventListener("keydown", press);
