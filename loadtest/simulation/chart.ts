/** Draws curves over time as an SVG: panels in two columns, one legend for all panels. */

export interface Curve {
  readonly label: string;
  /** One value per second, from second 1. */
  readonly values: readonly number[];
}

export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly curves: readonly Curve[];
  /** A dashed line to compare the curves with. */
  readonly mark?: { readonly label: string; readonly value: number };
}

export interface Chart {
  readonly title: string;
  readonly subtitle: string;
  readonly panels: readonly Panel[];
}

const colours = ["#c0392b", "#e08e0b", "#1f77b4", "#2a8c4a", "#7d4bb0", "#5f6a6a", "#d35f9b", "#111111"];
const width = 1_080;
const panelWidth = 510;
const panelHeight = 290;
const plot = { left: 62, right: 14, top: 34, bottom: 46 };
const legendRow = 22;
const legendColumns = 2;
/** Points per curve; more would not be visible. */
const maxPoints = 400;

export function drawChart({ title, subtitle, panels }: Chart): string {
  const labels = panels[0]?.curves.map(({ label }) => label) ?? [];
  const headHeight = 66 + Math.ceil(labels.length / legendColumns) * legendRow;
  const height = headHeight + Math.ceil(panels.length / 2) * panelHeight;
  const legend = labels.map((label, i) => {
    const x = 20 + (i % legendColumns) * (width / legendColumns);
    const y = 68 + Math.floor(i / legendColumns) * legendRow;
    return `<line x1="${x}" y1="${y - 4}" x2="${x + 26}" y2="${y - 4}" stroke="${colour(i)}" stroke-width="3"/>${text(x + 34, y, label)}`;
  });
  const drawn = panels.map((panel, i) => {
    const at = `translate(${(i % 2) * (panelWidth + 30) + 10} ${headHeight + Math.floor(i / 2) * panelHeight})`;
    return `<g transform="${at}">${drawPanel(panel)}</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    text(20, 26, title, 'font-size="18" font-weight="bold"'),
    text(20, 46, subtitle, 'fill="#555555"'),
    ...legend,
    ...drawn,
    "</svg>",
    "",
  ].join("\n");
}

function drawPanel({ title, unit, curves, mark }: Panel): string {
  const seconds = Math.max(1, ...curves.map(({ values }) => values.length));
  const most = curves.reduce((max, { values }) => values.reduce((a, b) => Math.max(a, b), max), mark?.value ?? 0);
  const yStep = niceStep(Math.max(most, 1) / 4);
  const yTop = Math.max(yStep, Math.ceil(most / yStep) * yStep);
  const inMinutes = seconds > 300;
  const xStep = inMinutes ? 60 * niceStep(seconds / 60 / 7) : niceStep(seconds / 7);
  const plotWidth = panelWidth - plot.left - plot.right;
  const plotHeight = panelHeight - plot.top - plot.bottom;
  const x = (second: number): number => round(plot.left + (second / seconds) * plotWidth);
  const y = (value: number): number => round(plot.top + plotHeight - (value / yTop) * plotHeight);
  const parts = [text(plot.left, 18, title, 'font-weight="bold"')];
  for (let value = 0; value <= yTop + yStep / 2; value += yStep) {
    parts.push(line(plot.left, y(value), panelWidth - plot.right, y(value), value === 0 ? "#666666" : "#e4e4e4"));
    parts.push(text(plot.left - 8, y(value) + 4, short(value), 'text-anchor="end" fill="#444444"'));
  }
  for (let second = 0; second <= seconds; second += xStep) {
    parts.push(line(x(second), plot.top + plotHeight, x(second), plot.top + plotHeight + 4, "#666666"));
    const label = inMinutes ? short(second / 60) : short(second);
    parts.push(text(x(second), plot.top + plotHeight + 18, label, 'text-anchor="middle" fill="#444444"'));
  }
  parts.push(
    text(
      plot.left + plotWidth / 2,
      plot.top + plotHeight + 36,
      inMinutes ? "minutes" : "seconds",
      'text-anchor="middle" fill="#444444"',
    ),
    text(
      14,
      plot.top + plotHeight / 2,
      unit,
      `text-anchor="middle" fill="#444444" transform="rotate(-90 14 ${plot.top + plotHeight / 2})"`,
    ),
  );
  curves.forEach(({ values }, i) => {
    const points = thinned(values).map(([second, value]) => `${x(second)},${y(value)}`);
    parts.push(`<polyline fill="none" stroke="${colour(i)}" stroke-width="1.8" points="${points.join(" ")}"/>`);
  });
  if (mark) {
    const level = y(mark.value);
    parts.push(
      `<line x1="${plot.left}" y1="${level}" x2="${panelWidth - plot.right}" y2="${level}" stroke="#000000" stroke-dasharray="5 4"/>`,
      text(panelWidth - plot.right, level - 5, mark.label, 'text-anchor="end" font-size="12"'),
    );
  }
  return parts.join("\n");
}

/** Keeps the highest value of each stretch, so that peaks stay visible. */
function thinned(values: readonly number[]): [second: number, value: number][] {
  const stretch = Math.max(1, Math.ceil(values.length / maxPoints));
  const points: [number, number][] = [];
  for (let at = 0; at < values.length; at += stretch) {
    points.push([at + 1, values.slice(at, at + stretch).reduce((a, b) => Math.max(a, b), 0)]);
  }
  return points;
}

/** 1, 2 or 5 times a power of ten, not below `least`. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= least) ?? 10);
}

function short(value: number): string {
  if (value >= 1_000_000) return `${round(value / 1_000_000)}M`;
  return value >= 1_000 ? `${round(value / 1_000)}k` : String(round(value));
}

function colour(number: number): string {
  return colours[number % colours.length] ?? "#000000";
}

function line(x1: number, y1: number, x2: number, y2: number, stroke: string): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${stroke}"/>`;
}

function text(x: number, y: number, content: string, attributes = ""): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
