// A state as a word with a mark: never by its colour alone.

export type Tone = "good" | "warn" | "bad" | "calm";

const TONES: Record<string, Tone> = {
  enabled: "good", running: "good", ready: "good", active: "good", complete: "calm", completed: "good",
  warning: "warn", draining: "warn", drain: "warn", pause: "warn", old: "warn", updating: "warn",
  new: "calm", pending: "calm", assigned: "calm", accepted: "calm", preparing: "calm", starting: "calm",
  manager: "calm", leader: "calm", worker: "calm",
};
const MARKS: Record<Tone, string> = { good: "●", warn: "◐", bad: "✕", calm: "○" };

export const toneOf = (word: string): Tone => TONES[word] ?? "bad";
export const markOf = (tone: Tone): string => MARKS[tone];

export function Tag({ word, tone = toneOf(word) }: { word: string; tone?: Tone }) {
  return (
    <span class={`tag ${tone}`}>
      <span class="mark" aria-hidden="true">{markOf(tone)}</span>
      <span class="word">{word}</span>
    </span>
  );
}
