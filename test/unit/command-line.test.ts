/** Runs programs with arguments. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, test } from "vitest";
import { freePort, spawnProcess } from "../support/processes.ts";

async function run(args: readonly string[], env: Record<string, string> = {}): Promise<[number | null, string]> {
  const started = spawnProcess(process.execPath, args, { env });
  return [await started.exited, started.output()];
}

describe("CMD-1: a wrong argument prints the finding and the usage, exit code 78", () => {
  test.for([
    ["loadtest/simulation/main.ts --clients -5", "--clients", "npm run simulation"],
    ["loadtest/simulation/main.ts --clients=-5", '--clients: must be >= 100, not "-5"', "npm run simulation"],
    ["loadtest/simulation/main.ts --kinds=magpie", "--kinds: ", "npm run simulation"],
    ["loadtest/checker/main.ts --clients 0", "--api: is required", "npm run checker"],
    [
      "loadtest/checker/main.ts schedules --schedules many",
      "--schedules: must be a whole",
      "npm run checker -- schedules",
    ],
    ["deploy/rolling-restart.ts --restart now", "must contain {node}", "npm run rolling-restart"],
    ["gateway/main.ts --port 80", "'--port'", "npm run gateway"],
    ["deploy/nodes.ts list --api http://a", "TIDEGATE_API_TOKEN: is required", "npm run nodes"],
    ["private-api/main.ts now", "'now'", "npm run private-api"],
    ["examples/crm/start.ts --port 80", "'--port'", "npm run crm"],
    ["deploy/rolling-restart.ts --api=x", "--api: must be a URL", "npm run rolling-restart"],
    ["loadtest/main.ts fan-out --url ws://a", "a deployment needs --url, --api", "npm run loadtest -- fan-out"],
    ["loadtest/fuzz/main.ts --target nothing", "--target: ", "npm run fuzz"],
    ["loadtest/fuzz/main.ts --seconds=-1 --only 1", "--only: give one --target", "npm run fuzz"],
    ["loadtest/attack/main.ts --only nothing", "no such attack or family: nothing", "npm run attack"],
    ["loadtest/attack/main.ts --api http://a", "--jwt-secret: is required", "npm run attack"],
    ["loadtest/main.ts", "name a scenario", "mass-return"],
    ["loadtest/main.ts mass", "no such scenario: mass", "mass-return"],
    ["loadtest/main.ts calls --jsn", "--jsn", "npm run loadtest -- calls"],
    ["loadtest/main.ts mass-return now", "'now'", "npm run loadtest -- mass-return"],
    ["loadtest/main.ts read-replica --jsn", "--jsn", "npm run loadtest -- read-replica"],
    ["loadtest/main.ts storm --json=yes", "--json", "npm run loadtest -- storm"],
  ] as const)("%s", async ([command, finding, usage]) => {
    const [exitCode, output] = await run(command.split(" "));
    expect([exitCode, output]).toEqual([78, expect.stringContaining(finding)]);
    expect(output).toContain(usage);
    expect(output).not.toMatch(/^ +at /m);
  });

  test.for([
    ["loadtest/main.ts storm", "CLIENTS", "many", "CLIENTS must be a number from 10 to 20000"],
    ["loadtest/main.ts nodes", "NODES", "1,x", "NODES must be numbers from 1 to 32"],
    ["loadtest/main.ts calls", "CALLS_SECONDS", "0", "CALLS_SECONDS must be a number from 1 to 600"],
  ] as const)("%s with %s=%s", async ([program, name, value, finding]) => {
    const [exitCode, output] = await run(program.split(" "), { [name]: value });
    expect([exitCode, output]).toEqual([78, expect.stringMatching(new RegExp(`^${finding}`))]);
    expect(output).toContain("  npm run loadtest -- ");
    expect(output).not.toMatch(/^ +at /m);
  });

  test.for([
    ["shadow --id ep_1 --percent 10", "--id, --percent: give one of them"],
    ["list --id ep_1", "--id: list does not take it"],
    ["replay --id ep_1 --from time:today", "--from: time: needs Unix ms"],
    ["replay --id ep_1 --from board:1@last", "--from: time: needs Unix ms"],
    ["show --id=ep_1 --id=ep_2", "--id: give it once"],
    ["go-live --id ep_1 --after 1 --reference f", "--after, --reference: give one of them"],
  ] as const)("deploy/endpoints.ts %s", async ([command, finding]) => {
    const args = ["deploy/endpoints.ts", ...command.split(" ")];
    const [exitCode, output] = await run(args, { TIDEGATE_API_TOKEN: "t".repeat(32) });
    expect([exitCode, output]).toEqual([78, expect.stringContaining(finding)]);
    expect(output).toContain("npm run endpoints");
  });

  test("no secret is printed", async () => {
    const [, output] = await run(["deploy/rolling-restart.ts"], { TIDEGATE_API_TOKEN: "hidden-token" });
    expect(output).toContain("--api: is required");
    expect(output).not.toContain("hidden-token");
  });

  test.for([
    ["deploy/rolling-restart.ts", "npm run rolling-restart"],
    ["deploy/nodes.ts", "npm run nodes"],
    ["gateway/main.ts", "npm run gateway"],
    ["private-api/main.ts", "npm run private-api"],
    ["examples/board/start.ts", "npm start"],
    ["examples/live-chat/start.ts", "npm run live-chat"],
  ] as const)("--help of %s prints the usage, exit code 0", async ([program, usage]) => {
    const [exitCode, output] = await run([program, "--help"]);
    expect([exitCode, output]).toEqual([0, expect.stringContaining(usage)]);
    expect(output).not.toMatch(/^ +at /m);
    expect(output).not.toContain("required");
  });
});

test("CMD-2: a command that cannot reach the API says at which address and why", async () => {
  const api = `http://127.0.0.1:${await freePort()}`;
  const env = { TIDEGATE_API_TOKEN: "token-of-the-operator" };
  for (const command of ["cells.ts list", "endpoints.ts list", "nodes.ts channels"]) {
    const [exitCode, output] = await run([...`deploy/${command} --api ${api}`.split(" ")], env);
    expect([exitCode, output]).toEqual([1, expect.stringContaining(`the API at ${api} cannot be reached`)]);
    expect(output).toContain("ECONNREFUSED");
    expect(output).not.toMatch(/^ +at /m);
  }
});

/** @param answer of the API. */
async function runAgainst(args: string, answer: (response: ServerResponse) => void): Promise<[number | null, string]> {
  const api = createServer((_request, response) => answer(response)).listen(0, "127.0.0.1");
  await once(api, "listening");
  try {
    const url = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
    return await run([...args.split(" "), "--api", url], { TIDEGATE_API_TOKEN: "token-of-the-operator" });
  } finally {
    api.close();
  }
}

test("CMD-2: a command reports a cut or non-JSON answer of the API without a stack trace", async () => {
  const cut = await runAgainst("deploy/nodes.ts list", (response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("{", () => response.destroy());
  });
  expect(cut).toEqual([1, expect.stringMatching(/^the API at \S+ cannot be reached: .*\n$/)]);
  const page = await runAgainst("deploy/nodes.ts list", (response) => response.end("<html>\u001b[2J"));
  expect(page).toEqual([1, "GET /v1/nodes: not JSON: <html>\\u001b[2J\n"]);
});

test("CMD-3: no terminal obeys what a user is named, or what a receiver answers", async () => {
  const hostile = "eve\u001b]52;c;eA==\u0007\nadmin";
  const escaped = String.raw`eve\u001b]52;c;eA==\u0007\u000aadmin`;
  const users = { items: [{ user: hostile, sessions: 1 }] };
  const listed = await runAgainst("deploy/nodes.ts users", (response) => response.end(JSON.stringify(users)));
  expect(listed).toEqual([0, `${escaped}  1 sessions\n`]);
  const lastError = { at: 0, message: hostile };
  const endpoint = { id: "crm", url: "http://crm/", state: "live", lag: { changes: 0, ms: 0 }, lastError };
  const [exitCode, output] = await runAgainst("deploy/endpoints.ts list", (response) =>
    response.end(JSON.stringify({ items: [endpoint], total: 1 })),
  );
  expect([exitCode, output]).toEqual([0, expect.stringContaining(`: ${escaped}\n`)]);
});

test("CUT-5: compare takes the API of this machine unless another one is named", async () => {
  const [exitCode, output] = await run(["deploy/compare.ts"], { TIDEGATE_API_TOKEN: "the token of the test" });
  expect(exitCode).toBe(78);
  for (const name of ["--endpoint", "--reference"]) expect(output).toContain(`${name}: is required`);
  expect(output).not.toContain("--api: is required");
});

test("CMD-1: the command of the Kubernetes manifest runs, whatever Node the image has", async () => {
  const manifest = await readFile("docs/operations.md", "utf8");
  const [program = "", ...args] = /command: \[(.*?)\]/.exec(manifest)?.[1]?.split(", ") ?? [];
  const started = spawnProcess(program, [...args, "--help"]);
  expect([await started.exited, started.output()]).toEqual([0, expect.stringContaining("npm run gateway")]);
});
