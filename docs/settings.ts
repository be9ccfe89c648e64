/** Writes docs/settings.md from the settings' declarations: `npm run docs:settings`. */
import { writeFileSync } from "node:fs";
import { gatewaySettings } from "../gateway/config.ts";
import { privateApiSettings } from "../private-api/config.ts";
import { commonSettings } from "../shared/program/common-settings.ts";
import type { Setting, SettingTable } from "../shared/runtime/settings.ts";

/** The members of a setting's JSON schema that name its type and bounds. */
interface TypeSchema {
  title?: string;
  type?: string;
  enum?: readonly string[];
  items?: TypeSchema;
  minimum?: number;
  maximum?: number;
  minLength?: number;
}

export const settingsFile = new URL("settings.md", import.meta.url);

export function settingsDocument(): string {
  const sections = [
    section("Both programs", commonSettings),
    section("Gateway", without(gatewaySettings.table, commonSettings)),
    section("Private API", without(privateApiSettings.table, commonSettings)),
  ];
  return `# Settings

<!-- Written by \`npm run docs:settings\` from gateway/config.ts, private-api/config.ts and the settings of both programs. -->

Settings are environment variables. A program checks them at its start and reports all findings at once. An empty variable
counts as absent. Lists are comma-separated. The start logs variables that are nearly the name of a setting.

${sections.join("\n")}`;
}

function section(title: string, table: SettingTable): string {
  const rows = Object.entries(table).map(([name, setting]) =>
    [`\`${name}\``, typeOf(setting.schema as TypeSchema), fallbackOf(setting), setting.description ?? ""]
      .map((cell) => cell.replaceAll("|", "\\|"))
      .join(" | "),
  );
  const head = ["name | type and bounds | default | what it does", "--- | --- | --- | ---"];
  return `## ${title}\n\n${[...head, ...rows].map((row) => `| ${row} |\n`).join("")}`;
}

function without(table: SettingTable, excluded: SettingTable): SettingTable {
  return Object.fromEntries(Object.entries(table).filter(([name]) => !(name in excluded)));
}

function typeOf({ title, type, enum: values, items, minimum, maximum, minLength = 0 }: TypeSchema): string {
  if (title !== undefined) return title;
  if (items) return `list: ${typeOf(items)}`;
  if (values) return values.map((value) => `\`${value}\``).join(", ");
  if (type === "integer") return `whole number, ${grouped(minimum)} to ${grouped(maximum)}`;
  return minLength > 1 ? `text of at least ${minLength} characters` : "text";
}

function grouped(number = 0): string {
  return number.toLocaleString("en-US");
}

function fallbackOf(setting: Setting<unknown>): string {
  if (setting.shownFallback !== undefined) return setting.shownFallback;
  if (!("fallback" in setting)) return "**required**";
  const values = [setting.fallback ?? []].flat() as (string | number)[];
  return values.length === 0 ? "" : `\`${values.join(",")}\``;
}

if (import.meta.main) writeFileSync(settingsFile, settingsDocument());
