/**
 * Builds the published package into dist/: index.js and errors.js for bundlers and Node, browser.js with all dependencies for
 * a plain `<script type="module">`, types/ for TypeScript.
 */
import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { rolldown } from "rolldown";

const here = import.meta.dirname;
const index = join(here, "src/index.ts");
// What the oldest runtimes of client/README.md know.
const transform = { target: "es2022" };

await rm(join(here, "dist"), { recursive: true, force: true });

// The errors are a file of their own: a bundler drops the rest where an application imports nothing else.
const input = { index, errors: join(here, "src/api/errors.ts") };
const library = await rolldown({
  input,
  external: ["socket.io-client"],
  transform,
  preserveEntrySignatures: "allow-extension",
});
await library.write({ dir: join(here, "dist"), format: "esm", sourcemap: true });
await library.close();

const page = await rolldown({ input: index, platform: "browser", transform });
await page.write({ file: join(here, "dist/browser.js"), format: "esm", minify: true });
await page.close();

execFileSync("tsc", ["-p", join(here, "tsconfig.build.json")], { stdio: "inherit" });
