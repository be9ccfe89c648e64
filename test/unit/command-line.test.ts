/** Runs programs with arguments. */
import { describe, expect, test } from "vitest";
import { spawnProcess } from "../support/processes.ts";

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

  test("no secret is printed", async () => {
    const [, output] = await run(["deploy/rolling-restart.ts"], { TIDEGATE_API_TOKEN: "hidden-token" });
    expect(output).toContain("--api: is required");
    expect(output).not.toContain("hidden-token");
  });

  test("--help prints the usage, exit code 0", async () => {
    const [exitCode, output] = await run(["deploy/rolling-restart.ts", "--help"]);
    expect([exitCode, output]).toEqual([0, expect.stringContaining("npm run rolling-restart")]);
    expect(output).not.toContain("required");
  });
});
