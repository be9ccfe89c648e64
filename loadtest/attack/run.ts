/** Runs one attack after the other, each between two quiet times; restarts a deployment whose program ended. */
import { setTimeout as pause } from "node:timers/promises";
import { say } from "../rig/scenario.ts";
import { type ThreadUsage, UsageRecorder } from "../checks/usage.ts";
import type { Attack } from "./attack.ts";
import {
  type AttackedDeployment,
  type DeploymentNeeds,
  type Program,
  programs,
  reachDeployment,
  startDeployment,
} from "./deployment.ts";
import { Attacker, Witness } from "./processes.ts";
import { type AttackResult, connectionsOf, missedMarks, type ProgramFigures, spreadsOf } from "./result.ts";
import type { AttackSettings } from "./settings.ts";

const callsPerSecond = 80;
const publishesPerSecond = 10;
/** Before the first figure: code compiles and heaps grow. */
const warmUpMs = 10_000;
const checkEveryMs = 250;
/** Time to work off the rest of an attack. */
const recoverWithinMs = 60_000;
/** The programs have recovered once everything is answered for so long. */
const calmMs = 1_000;
const healthyMs = 100;
const maxShownOutput = 600;
const loopbackAttackers = "127.0.0.66";

/** Runs the chosen attacks. @param onResult called with each result */
export async function runAttacks(settings: AttackSettings, onResult: (result: AttackResult) => void): Promise<void> {
  for (const group of groupByDeployment(settings.attacks)) {
    const { gatewaySettings, descriptors } = group[0] ?? {};
    const needs = { ...(gatewaySettings && { gatewaySettings }), ...(descriptors !== undefined && { descriptors }) };
    const deployment = await open(settings, needs);
    try {
      await runGroup(group, deployment, settings, onResult);
    } finally {
      await deployment.stop();
    }
  }
}

/** Groups attacks that can share a deployment, in the order of the catalogue. */
function groupByDeployment(attacks: readonly Attack[]): Attack[][] {
  const groups = new Map<string, Attack[]>();
  for (const attack of attacks) {
    const key = JSON.stringify([attack.gatewaySettings, attack.descriptors]);
    groups.set(key, [...(groups.get(key) ?? []), attack]);
  }
  return [...groups.values()];
}

let current: AttackedDeployment | undefined;

/** Stops the deployment of an interrupted run. */
export async function stopDeployment(): Promise<void> {
  await current?.stop();
}

async function open(settings: AttackSettings, needs: DeploymentNeeds): Promise<AttackedDeployment> {
  const { "--gateway": gateway, "--admin": admin, "--api": api } = settings;
  const { "--api-token": apiToken, "--jwt-secret": jwtSecret } = settings;
  if (gateway === undefined || admin === undefined || api === undefined || !apiToken || !jwtSecret) {
    say("starting redis, a gateway, a private API and a service");
    current = await startDeployment(needs);
  } else {
    if (Object.keys(needs).length > 0) say(`the next attacks require a deployment with ${JSON.stringify(needs)}`);
    const target = { gateway: gateway.replace(/^ws/, "http"), admin, api, apiToken, jwtSecret };
    const { "--service-host": serviceHost, "--service-port": servicePort } = settings;
    current = await reachDeployment(target, { serviceHost, servicePort });
  }
  return current;
}

async function runGroup(
  attacks: readonly Attack[],
  deployment: AttackedDeployment,
  settings: AttackSettings,
  onResult: (result: AttackResult) => void,
): Promise<void> {
  const { target } = deployment;
  const recorders = Object.fromEntries(
    programs.map((program) => [program, new UsageRecorder<ThreadUsage>(() => deployment.usage(program))]),
  ) as Record<Program, UsageRecorder<ThreadUsage>>;
  const witness = await Witness.start({ target, callsPerSecond, publishesPerSecond });
  try {
    for (const recorder of Object.values(recorders)) recorder.start();
    await pause(warmUpMs);
    for (const attack of attacks) {
      const result = await runAttack(attack, { deployment, witness, recorders, settings });
      onResult(result);
      if (!leavesTraces(result)) continue;
      await deployment.restart();
      await pause(warmUpMs);
    }
  } finally {
    for (const recorder of Object.values(recorders)) recorder.stop();
    witness.stop();
  }
}

/** Whether its effects would show in the figures of later attacks. */
function leavesTraces(result: AttackResult): boolean {
  return missedMarks(result).some((mark) => !mark.startsWith("delay") && !mark.startsWith("health"));
}

interface Stage {
  readonly deployment: AttackedDeployment;
  readonly witness: Witness;
  readonly recorders: Readonly<Record<Program, UsageRecorder<ThreadUsage>>>;
  readonly settings: AttackSettings;
}

async function runAttack(attack: Attack, { deployment, witness, recorders, settings }: Stage): Promise<AttackResult> {
  const { "--seconds": seconds, "--quiet-seconds": quietSeconds, "--from": from } = settings;
  const { target } = deployment;
  const asked = settings["--connections"];
  const connections = settings["--exactly"] ? asked : connectionsOf(attack, asked);
  const isLoopback = new URL(target.gateway).hostname.startsWith("127.");
  const localAddress = from ?? (isLoopback ? loopbackAttackers : undefined);
  say(`${attack.name}: ${attack.does}`);
  const attacker = await Attacker.prepare({ target, attack: attack.name, connections, localAddress });
  const quietFrom = Date.now();
  await pause(quietSeconds * 1_000);

  const attackFrom = Date.now();
  await endOrDeath(attacker.run(seconds * 1_000), attacker, deployment);
  const attackUntil = Date.now();
  const recoveredAfterMs = await recovery(witness, attackUntil, deployment);
  const { died } = deployment;
  if (died.length > 0) {
    say(`${attack.name}: ${died.join(", ")} ended: ${lastError(deployment.output())}`);
  }
  const calmFrom = Date.now();
  await pause(quietSeconds * 1_000);
  const calmUntil = Date.now();

  const attackedUntil = died.length > 0 ? attackUntil : attackUntil + (recoveredAfterMs ?? 0);
  const tally = attacker.tally ?? { sent: 0, bytes: 0, connections: 0, refused: 0, statuses: {} };
  const tookSeconds = Math.max(0.001, (attackUntil - attackFrom) / 1_000);
  const figures = (program: Program): ProgramFigures => {
    const recorder = recorders[program];
    const share = (field: "cpuMs" | "waitedMs", fromMs: number, untilMs: number): number => {
      const [first, last] = [recorder.at(fromMs), recorder.at(untilMs)];
      const spentMs = (last?.[field] ?? 0) - (first?.[field] ?? 0);
      return first && last ? Math.max(0, spentMs / Math.max(1, last.atMs - first.atMs)) : 0;
    };
    const shares = (field: "cpuMs" | "waitedMs"): { quiet: number; attacked: number } => ({
      quiet: share(field, quietFrom, attackFrom),
      attacked: share(field, attackFrom, attackUntil),
    });
    return {
      rssBytes: {
        before: recorder.at(attackFrom)?.rssBytes ?? 0,
        peak: recorder.peakBytes(attackFrom, attackedUntil),
        after: recorder.at(calmUntil)?.rssBytes ?? 0,
      },
      cpu: shares("cpuMs"),
      waited: shares("waitedMs"),
    };
  };
  return {
    ...{ name: attack.name, does: attack.does, needs: attack.needs, connections, seconds: tookSeconds },
    attacker: { ...tally, sentPerSecond: tally.sent / tookSeconds, bytesPerSecond: tally.bytes / tookSeconds },
    quiet: spreadsOf(witness.samples(quietFrom, attackFrom)),
    attacked: spreadsOf(witness.samples(attackFrom, attackedUntil)),
    after: spreadsOf(witness.samples(calmFrom, calmUntil)),
    programs: { gateway: figures("gateway"), "private-api": figures("private-api") },
    ...{ died, recoveredAfterMs, witnessLateMs: witness.lateMs(attackFrom, attackUntil) },
  };
}

/** The last fatal error of a log, without its stack. */
function lastError(output: string): string {
  const lines = output.split("\n").filter((line) => /FATAL ERROR|"level":60|^\w*Error: /.test(line));
  return (lines.at(-1) ?? "no message").slice(0, maxShownOutput);
}

/** Resolves when the attack is over or has ended a program. */
async function endOrDeath(running: Promise<void>, attacker: Attacker, deployment: AttackedDeployment): Promise<void> {
  let over = false;
  const ended = running.then(() => {
    over = true;
  });
  while (!over && deployment.died.length === 0) await Promise.race([ended, pause(checkEveryMs)]);
  attacker.kill();
  await ended;
}

/**
 * Waits until everything that honest clients requested within the last second was answered promptly.
 *
 * @returns ms since the end of the attack; undefined where it takes too long or a program ended
 */
async function recovery(
  witness: Witness,
  attackUntil: number,
  deployment: AttackedDeployment,
): Promise<number | undefined> {
  for (;;) {
    await pause(checkEveryMs);
    const now = Date.now();
    if (deployment.died.length > 0 || now - attackUntil > recoverWithinMs) return undefined;
    if (now - attackUntil < calmMs) continue;
    const recent = witness.samples(now - calmMs, now);
    const calls = recent.filter(({ kind }) => kind === "call");
    const health = recent.filter(({ kind }) => kind === "gateway health" || kind === "API health");
    const calm = calls.length > callsPerSecond / 2 && health.length >= 10 && !calls.some(({ failed }) => failed);
    if (calm && health.every(({ failed, tookMs }) => !failed && tookMs < healthyMs)) return now - attackUntil - calmMs;
  }
}
