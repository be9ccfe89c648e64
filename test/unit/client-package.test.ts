/** The package as it is published: built by `npm run build`. */
import { execFile, execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { rolldown } from "rolldown";
import { expect, test } from "vitest";
import { FakeGateway } from "./client-fake-gateway.ts";

const execFileAsync = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const client = join(root, "client");

/** Takes away what came after ES2022, then follows a channel and calls. */
const onOldRuntime = `
  // Node itself needs some of it while it loads these.
  for (const name of ["http", "https", "tls", "zlib", "stream"]) await import("node:" + name);
  delete Promise.withResolvers;
  delete Promise.try;
  delete Object.groupBy;
  for (const name of ["findLast", "findLastIndex", "toReversed", "toSorted", "toSpliced", "with"]) delete Array.prototype[name];
  delete Array.fromAsync;
  for (const name of ["isWellFormed", "toWellFormed"]) delete String.prototype[name];
  for (const name of ["union", "intersection", "difference", "isSubsetOf"]) delete Set.prototype[name];
  delete globalThis.navigator;
  delete globalThis.WebSocket;
  const { connect } = await import("@tidegate/client");
  const client = connect({ url: process.argv[1], token: "token" });
  const subscription = await client.channel("board:1").subscribe({ withinMs: 30_000 });
  console.log(JSON.stringify([subscription, await client.call("edit", 7)]));
  client.close();
`;

/** What a bundler makes of an application that imports only this name. */
async function bundled(name: string): Promise<{ modules: string[]; gzipBytes: number }> {
  const application = join(root, "application.js");
  const bundle = await rolldown({
    input: application,
    platform: "browser",
    plugins: [
      {
        name: "application",
        resolveId: (id) => (id === application ? id : null),
        load: (id) => (id === application ? `import { ${name} } from "@tidegate/client"; console.log(${name});` : null),
      },
    ],
  });
  const { output } = await bundle.generate({ format: "esm", minify: true });
  await bundle.close();
  const [{ code, moduleIds }] = output;
  return { modules: moduleIds.filter((id) => id !== application), gzipBytes: gzipSync(code).length };
}

test("SDK-19: an application that imports only the error class bundles nothing else", async () => {
  const { modules, gzipBytes } = await bundled("TidegateError");
  expect(modules).toEqual([join(client, "dist/errors.js")]);
  expect(gzipBytes).toBeLessThan(1_000);
  expect((await bundled("connect")).modules.some((id) => id.includes("socket.io-client"))).toBe(true);
});

test("SDK-19: the SDK with all its dependencies stays below 25 kB", () => {
  expect(gzipSync(readFileSync(join(client, "dist/browser.js"))).length).toBeLessThan(25_000);
});

test("SDK-19: the tarball has code, types and licence, and its README links to nothing outside", () => {
  const packed = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: client });
  const [{ files }] = JSON.parse(packed.toString()) as [{ files: { path: string }[] }];
  const paths = new Set(files.map(({ path }) => path));
  const { exports } = JSON.parse(readFileSync(join(client, "package.json"), "utf8")) as {
    exports: Record<string, Record<string, string>>;
  };
  const exported = Object.values(exports).flatMap((conditions) => Object.values(conditions));
  const needed = [...exported.map((path) => path.replace("./", "")), "dist/errors.js", "README.md", "LICENSE"];
  expect(needed.filter((path) => !paths.has(path))).toEqual([]);
  const readme = readFileSync(join(client, "README.md"), "utf8");
  const links = [...readme.matchAll(/\]\((?!https?:|#)([^)]+)\)/g)].map(([, link = ""]) => link);
  expect(links.filter((link) => !paths.has(link))).toEqual([]);
  expect(readFileSync(join(client, "LICENSE"), "utf8")).toBe(readFileSync(join(root, "LICENSE"), "utf8"));
});

test("SDK-19: the SDK runs where nothing newer than ES2022 is known, as in Node 20", async () => {
  const gateway = new FakeGateway();
  await gateway.start();
  try {
    const { stdout } = await execFileAsync(
      process.execPath,
      ["--input-type=module", "--eval", onOldRuntime, gateway.url],
      {
        cwd: root,
      },
    );
    expect(JSON.parse(stdout)).toEqual([{ recovered: false, position: { epoch: "e1", offset: 0 } }, 7]);
  } finally {
    await gateway.stop();
  }
});
