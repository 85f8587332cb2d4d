// Numbers, times and names as people read them.

const LOCALE = "en-GB";

export function number(value: number): string {
  return value.toLocaleString(LOCALE, { maximumFractionDigits: value < 10 ? 1 : 0 });
}

export function percent(share: number): string {
  return `${(100 * share).toLocaleString(LOCALE, { maximumFractionDigits: share < 0.1 ? 2 : 0 })} %`;
}

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 1 ? `${number(seconds * 1000)} ms` : `${number(seconds)} s`;
}

// "just now", "40 s", "3 min", "2 h", "5 days": how long something is ago, or lasts.
export function span(seconds: number): string {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${value.toFixed(value < 10 && at > 0 ? 1 : 0)} ${units[at]}`;
}

export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function day(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10);
}

export function count(amount: number, one: string, many = `${one}s`): string {
  return `${amount.toLocaleString(LOCALE)} ${amount === 1 ? one : many}`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// An image without its digest, which says nothing to people.
export function image(name: string): string {
  return name.replace(/@sha256:[0-9a-f]+$/, "");
}

// What is wrong, without the name that stands beside it.
export function fault(text: string): string {
  return text.replace(/^(router|service|middleware) [^ ]+: /, "");
}
