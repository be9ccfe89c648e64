import { text } from "../../shared/runtime/setting-kinds.ts";
import { orExit, readSettings } from "../../shared/runtime/settings.ts";

/** For a service that runs by itself. Where the variable is not set, the process ends with one line that says so. */
export function setting(name: string): string {
  const settings = orExit(() => readSettings({ [name]: text({ secret: true }) }, process.env));
  return settings[name] ?? "";
}
