/** Every attack on a small scale: no program ends. `npm run attack` measures the cost of attacks. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Attack, Load, Target } from "../../loadtest/attack/attack.ts";
import { attacks } from "../../loadtest/attack/catalogue.ts";
import { type AttackedDeployment, startDeployment } from "../../loadtest/attack/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { spawnProcess } from "../support/processes.ts";
import { RawClient } from "../support/raw-client.ts";

const connections = 2;
/** Frames, requests or connections, refused ones included. */
const atLeast = 20;
/** Enough time for attacks with slow requests, such as documents that are parsed one at a time. */
const slowAfterMs = 5_000;
const attackersAddress = "127.0.0.66";

/** Deployments with defaults. Attacks mostly wait for limits that slow them down, so several run at the same time. */
const lanes = 3;

const own = attacks.filter(({ name }) => name !== "control");
const withDefaults = own.filter(({ gatewaySettings, descriptors }) => !gatewaySettings && descriptors === undefined);
const groups: readonly { deployment: string; chosen: readonly Attack[] }[] = [
  ...Array.from({ length: lanes }, (_, lane) => ({
    deployment: `with defaults (${lane + 1})`,
    chosen: withDefaults.filter((_, at) => at % lanes === lane),
  })),
  { deployment: "with polling", chosen: own.filter(({ gatewaySettings }) => gatewaySettings) },
  { deployment: "with few file descriptors", chosen: own.filter(({ descriptors }) => descriptors !== undefined) },
];

describe.concurrent.each(groups)("a deployment $deployment", ({ chosen }) => {
  let deployment: AttackedDeployment;
  let target: Target;
  beforeAll(async () => {
    deployment = await startDeployment(chosen[0] ?? {});
    target = new Target(deployment.target);
  });
  afterAll(async () => deployment.stop());

  // One after the other on each deployment: an ended program names its attack.
  test.each(chosen)(
    "ATK-1: no program ends, and clients are served afterwards: $name",
    { concurrent: false },
    async (attack) => {
      const ending = new AbortController();
      const all = connections * (attack.connectionsEach ?? 1);
      const load = new Load({ connections: all, signal: ending.signal, localAddress: attackersAddress });
      await attack.prepare?.(target);
      const attacked = attack.run(target, load);
      const { tally } = load;
      const began = performance.now();
      await eventually(() => {
        const tried = tally.sent + tally.refused;
        return tried >= Math.max(all, atLeast) || (tried > 0 && performance.now() > began + slowAfterMs);
      }, 90_000).finally(() => ending.abort());
      await attacked;
      // An attack whose every try is refused counts, too.
      expect(tally.connections + tally.refused).toBeGreaterThan(0);
      await eventually(async () => (await isHealthy(target.admin)) && (await isHealthy(target.api)));
      await eventually(async () => isServed(target));
      expect(deployment.died).toEqual([]);
    },
  );
});

async function isHealthy(url: URL): Promise<boolean> {
  return fetch(new URL("/livez", url)).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** A new client connects, and its event reaches the service. */
async function isServed(target: Target): Promise<boolean> {
  try {
    const client = await RawClient.connect(target.gateway, await target.clientToken({ sub: "honest" }));
    const ack = (await client.request("attack.echo", {})) as { ok: boolean };
    client.socket.destroy();
    return ack.ok;
  } catch {
    // Refusals are right just after an attack.
    return false;
  }
}

test("the command lists its attacks, and prints its usage where a flag is wrong", async () => {
  const run = async (...args: string[]): Promise<[number | null, string]> => {
    const spawned = spawnProcess(process.execPath, ["loadtest/attack/main.ts", ...args]);
    return [await spawned.exited, spawned.output()];
  };
  const wrong = ["--seconds", "soon", "--only", "nothing-like-it", "--gateway", "http://a"];
  const [[listed, list], [refused, complaint]] = await Promise.all([run("--list"), run(...wrong)]);
  expect([listed, list.split("\n").length]).toEqual([0, attacks.length + 1]);
  expect(refused).toBe(78);
  for (const flag of ["--seconds", "--only", "--admin", "npm run attack"]) expect(complaint).toContain(flag);
  expect(complaint).not.toContain(" at ");
});
