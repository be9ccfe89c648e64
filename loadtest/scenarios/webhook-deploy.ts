/**
 * Replaces every program while webhooks come as fast as they are answered: no answer but 2xx, nothing lost, each key in order.
 *
 *   npm run loadtest -- webhook-deploy [--json]
 *   CONNECTIONS (64) KEYS (1000) BODY_BYTES (1000) DRAIN (8 s of GATEWAY_DRAIN_SECONDS) SETTLE (2 s before each program)
 *
 * Two gateways behind HAProxy, two private APIs, one Redis, a service in a process of its own. Each gateway and then each private API
 * gets SIGTERM and is started again on its ports. A connection that breaks counts as an answer that is not 2xx. Nothing slows the
 * senders: what the dispatchers cannot keep up with waits in Redis, and is served after the last program.
 * Verdicts: every webhook is answered 2xx; each one that was accepted reaches the service, in the order of its key; each program ends by
 * itself with exit code 0. Needs HAProxy.
 */
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import { Histogram } from "../checks/histogram.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { HookLoad } from "../providers/hook-load.ts";
import { Balancer } from "../rig/balancer.ts";
import type { Fleet } from "../rig/fleet.ts";
import { hookParameters, hookSecret as secret } from "../rig/hook-parameters.ts";
import { HookSink } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import type { Server } from "../rig/server.ts";

const parameters = {
  ...hookParameters,
  drain: parameter("DRAIN", 8, 1, 600),
  settle: parameter("SETTLE", 2, 0, 60),
};
/** Beyond the drain, for calls under way. */
const stopWithinMs = 30_000;
const servedWithinMs = 300_000;

interface Replaced {
  readonly name: string;
  readonly exitCode: number | null;
  readonly tookMs: number;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const sink = new HookSink();
  const deployment = await fleet.start({
    gateways: 2,
    privateApis: 2,
    gatewaySettings: { HOOK_SECRET: secret, GATEWAY_DRAIN_SECONDS: String(parameters.drain) },
  });
  const balancer = await Balancer.start(deployment);
  try {
    await putRules(deployment, rules(await sink.url()));
    const { connections, keys, bodyBytes } = parameters;
    const group = { name: "all", target: "/hooks/page", connections, keys, tenant: "t" };
    const port = Number(new URL(balancer.url).port);
    const load = new HookLoad({ port, secret, bodyBytes, groups: [group] });
    const startedAt = performance.now();
    const replaced: Replaced[] = [];
    for (const program of [...fleet.gateways, ...fleet.privateApis]) replaced.push(await replace(program, load));
    const { all } = await load.end();
    const seconds = (performance.now() - startedAt) / 1_000;
    const accepted = all?.accepted ?? 0;
    say(`${accepted} webhooks accepted; until the service has them`);
    const served = await servedOf(sink, accepted);
    const answerMs = new Histogram();
    if (all) answerMs.merge(all.answerMs);
    const refusals = Object.entries(all?.refused ?? {}).map(([status, times]) => `${status} × ${times}`);
    const lost = accepted - (served.received - served.repeats);
    return {
      scenario: "webhook-deploy",
      parameters,
      figures: {
        "webhooks accepted": `${accepted}, ${Math.round(accepted / seconds)} a second`,
        "answered, ms": `p50 ${answerMs.percentile(0.5).toFixed(1)}, p99.9 ${answerMs.percentile(0.999).toFixed(1)}`,
        "requests to the service that were repeats": served.repeats,
      },
      tables: [
        {
          columns: ["program", "exit code", "ended after, s"],
          rows: replaced.map(({ name, exitCode, tookMs }) => [name, String(exitCode), (tookMs / 1_000).toFixed(1)]),
        },
      ],
      verdicts: [
        {
          title: "every webhook is answered 2xx",
          pass: refusals.length === 0 && accepted > 0,
          value: refusals.length === 0 ? 0 : refusals.join(", "),
        },
        { title: "each webhook that was accepted reaches the service", pass: lost === 0, value: `${lost} lost` },
        {
          title: "each key arrives in order",
          pass: served.disordered === 0,
          value: `${served.disordered} out of order`,
        },
        {
          title: "each program ends by itself",
          pass: replaced.every(({ exitCode }) => exitCode === 0),
          value: replaced.filter(({ exitCode }) => exitCode === 0).length,
        },
      ],
    };
  } finally {
    await balancer.stop();
    await sink.stop();
  }
}

/** Amid the load: webhooks are accepted before, and again after. */
async function replace(program: Server, load: HookLoad): Promise<Replaced> {
  const { name } = program;
  await pause(parameters.settle * 1_000);
  say(`${name} is replaced; ${load.accepted} webhooks accepted`);
  const ended = await program.stop(parameters.drain * 1_000 + stopWithinMs);
  await program.start();
  const before = load.accepted;
  await eventually(() => load.accepted > before);
  return { name, ...ended };
}

/** Resolves once the service has so many webhooks, repeats aside, or none has come for too long. */
async function servedOf(sink: HookSink, accepted: number): ReturnType<HookSink["figures"]> {
  let served = await sink.figures();
  const isServed = async (): Promise<boolean> => {
    served = await sink.figures();
    return served.received - served.repeats >= accepted;
  };
  // The verdict says what is missing.
  await eventually(isServed, servedWithinMs).catch(() => undefined);
  return served;
}

function rules(url: string): object {
  const source = { verify: "github", secrets: ["env:HOOK_SECRET"], key: "body:/key", id: "header:x-github-delivery" };
  return {
    services: { pages: { url, secret: `whsec_${Buffer.alloc(32, 7).toString("base64")}`, maxInFlight: 1_000 } },
    quotas: { perTenant: 100_000_000, perSource: 100_000_000 },
    routes: [{ event: "page", service: "pages", path: "/", mode: "enqueue" }],
    sources: { page: { ...source, route: "page" } },
  };
}

await runScenario(run);
