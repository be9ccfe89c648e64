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
    ["loadtest/checker/schedules.ts --schedules many", "--schedules: must be a whole", "npm run checker:schedules"],
    ["deploy/rolling-restart.ts --restart now", "must contain {node}", "npm run rolling-restart"],
    ["deploy/rolling-restart.ts --api=x", "--api: must be a URL", "npm run rolling-restart"],
    ["loadtest/run.ts --url ws://a", "a deployment needs --url, --api", "npm run loadtest"],
    ["loadtest/fuzz/main.ts --target nothing", "--target: ", "npm run fuzz"],
    ["loadtest/fuzz/main.ts --seconds=-1 --only 1", "--only: give one --target", "npm run fuzz"],
    ["loadtest/attack/main.ts --only nothing", "no family called nothing", "npm run attack"],
    ["loadtest/attack/main.ts --api http://a", "--jwt-secret: is required", "npm run attack"],
    ["loadtest/calls.ts --jsn", "--jsn", "npm run loadtest:calls"],
    ["loadtest/mass-return.ts now", "'now'", "npm run loadtest:return"],
    ["loadtest/read-replica.ts --jsn", "--jsn", "npm run loadtest:read-replica"],
    ["loadtest/storm.ts --json=yes", "--json", "npm run loadtest:storm"],
  ] as const)("%s", async ([command, finding, usage]) => {
    const [exitCode, output] = await run(command.split(" "));
    expect([exitCode, output]).toEqual([78, expect.stringContaining(finding)]);
    expect(output).toContain(usage);
    expect(output).not.toMatch(/^ +at /m);
  });

  test.for([
    ["loadtest/storm.ts", "CLIENTS", "many", "CLIENTS must be a number from 10 to 20000"],
    ["loadtest/nodes.ts", "NODES", "1,x", "NODES must be numbers from 1 to 32"],
    ["loadtest/calls.ts", "CALLS_SECONDS", "0", "CALLS_SECONDS must be a number from 1 to 600"],
  ] as const)("%s with %s=%s", async ([program, name, value, finding]) => {
    const [exitCode, output] = await run([program], { [name]: value });
    expect([exitCode, output]).toEqual([78, expect.stringMatching(new RegExp(`^${finding}`))]);
    expect(output).toContain("  npm run loadtest:");
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
