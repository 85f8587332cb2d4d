// A line of the last minute, as small as a word.

interface Props {
  values: number[];
  most?: number;
}

export function Spark({ values, most = 60 }: Props) {
  const highest = Math.max(...values, 0);
  const x = (at: number) => most - values.length + at + 0.5;
  const y = (value: number) => (highest ? 17 - (15 * value) / highest : 17);
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  return (
    <svg class="spark" viewBox={`0 0 ${most} 18`} preserveAspectRatio="none" aria-hidden="true">
      <line class="base" x1="0" x2={most} y1="17.5" y2="17.5" />
      {highest > 0 && points.length > 1 && (
        <>
          <polygon points={`${x(0)},18 ${points.join(" ")} ${x(values.length - 1)},18`} />
          <polyline points={points.join(" ")} />
        </>
      )}
    </svg>
  );
}
