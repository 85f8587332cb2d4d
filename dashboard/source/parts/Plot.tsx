// A plot over time, of uPlot: axes, and under the pointer what the lines say at that moment.

import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import uPlot from "uplot";
import { clock, span } from "../format";
import { theme } from "../theme";

export interface Line {
  name: string;
  color: string; // Of a variable in style/colors.css.
  values: (number | null)[];
  dash?: number[];
  area?: boolean;
}

interface Props {
  title: string;
  times: number[];
  lines: Line[];
  text: (value: number) => string;
  from: number; // What is shown, in seconds since 1970.
  until: number;
  together?: string; // Plots of the same name have one pointer.
  least?: number; // The end of the axis is this at least.
  height?: number;
  figures?: boolean; // What the lines say is written large.
}

export function Plot({ title, times, lines, text, from, until, together, least = 1, height = 132, figures = false }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const range = useRef<[number, number]>([from, until]);
  const format = useRef(text);
  const at = useSignal<number | null>(null);
  range.current = [from, until];
  format.current = text;
  const kind = lines.map((line) => `${line.name} ${line.color}`).join();

  useEffect(() => {
    const holder = box.current!;
    const color = (name: string) => {
      holder.style.color = `var(${name})`; // A canvas wants the colour itself, which this theme makes of the variable.
      return getComputedStyle(holder).color;
    };
    const axis = { stroke: color("--soft"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const made = new uPlot(
      {
        width: holder.clientWidth || 300,
        height,
        legend: { show: false },
        padding: [6, 4, 0, 0],
        cursor: {
          y: false,
          points: { size: 7 },
          drag: { x: false, y: false },
          ...(together ? { sync: { key: together, setSeries: false } } : {}),
        },
        scales: {
          x: { time: true, range: () => range.current },
          y: { range: (_, __, highest) => [0, Math.max(least, (highest ?? 0) * 1.12)] },
        },
        axes: [
          { ...axis, size: 20, gap: 5, space: 90, grid: { show: false }, values: (_, marks) => marks.map((one) => clockOf(one)) },
          {
            ...axis, size: 52, gap: 6, space: 34,
            grid: { stroke: color("--grid"), width: 1 },
            values: (_, marks) => marks.map((one) => format.current(one)),
          },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.name,
            stroke: color(line.color),
            width: 1.75,
            dash: line.dash ?? [],
            points: { show: false },
            ...(line.area ? { fill: color(`${line.color}-area`) } : {}),
          })),
        ],
        hooks: { setCursor: [(self) => { at.value = self.cursor.left! >= 0 ? (self.cursor.idx ?? null) : null; }] },
      },
      data(),
      holder,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: holder.clientWidth, height }));
    watch.observe(holder);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [theme.value, kind, height]);

  function data(): uPlot.AlignedData {
    return [times, ...lines.map((line) => line.values)] as uPlot.AlignedData;
  }
  useEffect(() => { plot.current?.setData(data(), true); });

  const shown = at.value === null || at.value >= times.length ? times.length - 1 : at.value;
  const value = (line: Line) => {
    const one = line.values[shown];
    return one === null || one === undefined ? "–" : text(one);
  };
  const highest = Math.max(0, ...lines.flatMap((line) => line.values.filter((one) => one !== null)));
  const told = times.length ? lines.map((line) => `${line.name} ${value(line)}`).join(", ") : "no numbers yet";
  const label = `${title}, last ${span(until - from)}: ${told}; highest ${text(highest)}`;
  return (
    <div class="plot">
      <div class={figures ? "readout large" : "readout"}>
        {lines.map((line) => (
          <span key={line.name} class="reading">
            {(lines.length > 1 || !figures) && (
              <svg class="key" viewBox="0 0 16 6" width="16" height="6" aria-hidden="true">
                <line x1="1" y1="3" x2="15" y2="3" class={`ink${line.color}`} stroke-dasharray={line.dash?.join(" ")} />
              </svg>
            )}
            {(lines.length > 1 || !figures) && <small>{line.name}</small>}
            <b>{value(line)}</b>
          </span>
        ))}
        <small class="moment">{at.value !== null && times[shown] ? clock(times[shown]) : ""}</small>
      </div>
      <div class="canvas" ref={box} role="img" aria-label={label} />
    </div>
  );
}

function clockOf(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return date.getSeconds() ? `${minutes}:${two(date.getSeconds())}` : minutes;
}
