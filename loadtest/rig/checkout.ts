/** Scenarios that compare this checkout with one of another commit. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { refuseArguments } from "../../shared/runtime/command-line.ts";

/** Undefined where the environment variable is not set. */
export function checkoutIn(variable: string): string | undefined {
  const folder = process.env[variable];
  if (folder === undefined || existsSync(join(folder, "gateway/main.ts"))) return folder;
  return refuseArguments(`${variable}: no checkout of Tidegate: ${folder}`);
}
