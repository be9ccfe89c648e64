/** What a scenario reports: figures, tables, verdicts, and their text. */

export interface Verdict {
  readonly title: string;
  readonly pass: boolean;
  readonly value: string | number;
}

/** Figures to compare with each other. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

export interface ScenarioReport {
  readonly scenario: string;
  readonly parameters: Readonly<Record<string, number>>;
  /** By a title that names the unit. */
  readonly figures: Readonly<Record<string, string | number>>;
  readonly tables?: readonly Table[];
  readonly verdicts: readonly Verdict[];
}

export function reportText(report: ScenarioReport & { cores: number; pass: boolean }): string {
  const parameters = Object.entries(report.parameters).map(([name, value]) => `${name}=${value}`);
  const width = Math.max(0, ...Object.keys(report.figures).map((name) => name.length));
  return [
    `${report.scenario}: ${parameters.join(" ")}, ${report.cores} cores`,
    "",
    ...Object.entries(report.figures).map(([name, value]) => `  ${name.padEnd(width)}  ${value}`),
    "",
    ...(report.tables ?? []).flatMap((table) => [...tableLines(table), ""]),
    ...report.verdicts.map(({ title, pass, value }) => `  ${pass ? "PASS" : "FAIL"}  ${title} (${value})`),
    "",
    report.pass ? "PASS" : "FAIL",
    "",
  ].join("\n");
}

/** Columns padded to the same width; numbers are aligned right. */
function tableLines({ columns, rows }: Table): string[] {
  const widths = columns.map((column, i) => Math.max(column.length, ...rows.map((row) => String(row[i] ?? "").length)));
  const cell = (value: string | number, i: number): string =>
    typeof value === "number" ? String(value).padStart(widths[i] ?? 0) : value.padEnd(widths[i] ?? 0);
  return [columns, ...rows].map((row) => `  ${row.map(cell).join("  ")}`.trimEnd());
}
