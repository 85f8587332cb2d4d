// Dark or light: what the system has, until somebody chooses.

import { signal } from "@preact/signals";

const KEY = "swarmgate.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function current(): "dark" | "light" {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "dark" || chosen === "light" ? chosen : system.matches ? "dark" : "light";
}

const chosen = localStorage.getItem(KEY);
if (chosen) document.documentElement.dataset.theme = chosen;
export const theme = signal(current());
// Plots are drawn in its colours; tests, too, set it where it is seen.
const seen = () => { theme.value = current(); };
system.addEventListener("change", seen);
new MutationObserver(seen).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });

export function turn(): void {
  const other = current() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = other;
  localStorage.setItem(KEY, other);
}
