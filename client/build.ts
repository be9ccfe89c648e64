/**
 * Builds the published package into dist/: index.js for bundlers and Node, browser.js with all dependencies for a plain
 * `<script type="module">`, types/ for TypeScript.
 */
import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { rolldown } from "rolldown";

const here = import.meta.dirname;
const input = join(here, "src/index.ts");

await rm(join(here, "dist"), { recursive: true, force: true });

const library = await rolldown({ input, external: ["socket.io-client"] });
await library.write({ file: join(here, "dist/index.js"), format: "esm", sourcemap: true });
await library.close();

const page = await rolldown({ input, platform: "browser" });
await page.write({ file: join(here, "dist/browser.js"), format: "esm", minify: true });
await page.close();

execFileSync("tsc", ["-p", join(here, "tsconfig.build.json")], { stdio: "inherit" });
