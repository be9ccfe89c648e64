import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { settingsDocument, settingsFile } from "../../docs/settings.ts";
import { gatewaySettings } from "../../gateway/config.ts";
import { privateApiSettings } from "../../private-api/config.ts";

test("docs/settings.md is up to date: npm run docs:settings", () => {
  expect(readFileSync(settingsFile, "utf8")).toBe(settingsDocument());
});

test("every setting has a description", () => {
  const settings = Object.entries({ ...gatewaySettings.table, ...privateApiSettings.table });
  expect(settings.filter(([, { description }]) => !description).map(([name]) => name)).toEqual([]);
});
