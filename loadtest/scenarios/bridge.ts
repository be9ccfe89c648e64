/**
 * A bridge to a fleet of Socket.IO servers: stock clients on both sides, messages by emit, by emitter and by publish, then a killed bridge.
 *
 *   npm run loadtest -- bridge [--json]
 *   CLIENTS (200 on each side) MESSAGES (2000 of all senders together) PER_SECOND (60 of all together)
 *
 * Real Redis for each side, two old servers, two private APIs, two gateways. First every client must see every message once, in the order of its sender.
 * Then the process that runs the bridge is killed while everybody writes: nothing may be doubled, and only emits of the old side on their way may be lost.
 */
import { setTimeout as pause } from "node:timers/promises";
import { Emitter } from "@socket.io/redis-emitter";
import type { Redis } from "ioredis";
import { connectOldClient, type OldServer, openRedis, startOldServer } from "../../test/support/old-fleet.ts";
import { eventually } from "../../test/support/eventually.ts";
import { startRedis } from "../../test/support/redis.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { loadToken } from "../clients/load-token.ts";
import { openStockSession } from "../clients/stock-session.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  clients: parameter("CLIENTS", 200, 1, 2_000),
  messages: parameter("MESSAGES", 2_000, 30, 100_000),
  perSecond: parameter("PER_SECOND", 60, 3, 5_000),
};
const senders = ["emit", "emitter", "publish"] as const;
type Sender = (typeof senders)[number];
const [room, channel] = ["board-1", "board:1"];
const serverCount = 2;
/** Of the second part: longer than a takeover. */
const takeoverSeconds = 20;
const settleMs = 120_000;

/** What one client has seen. */
interface Seen {
  readonly side: "old" | "new";
  readonly numbers: Record<Sender, number[]>;
}

interface Rig {
  readonly deployment: OwnDeployment;
  readonly servers: readonly OldServer[];
  readonly emitter: Emitter;
  readonly seen: readonly Seen[];
  /** Numbers of messages that each sender has sent. */
  readonly sent: Record<Sender, number>;
}

function newSeen(side: Seen["side"]): Seen {
  return { side, numbers: { emit: [], emitter: [], publish: [] } };
}

function note({ numbers }: Seen, text: string): void {
  const [sender, number] = text.split(" ");
  numbers[sender as Sender].push(Number(number));
}

async function connectClients(deployment: OwnDeployment, servers: readonly OldServer[]): Promise<Seen[]> {
  const seen: Seen[] = [];
  for (let n = 0; n < parameters.clients; n++) {
    const [ofOld, ofNew] = [newSeen("old"), newSeen("new")];
    const old = await connectOldClient(servers[n % servers.length]?.url ?? "", [room]);
    old.socket.on("note", (text: string) => note(ofOld, text));
    const token = await loadToken(deployment.jwtSecret, `user-${n}`, { channels: [channel] });
    const url = deployment.gatewayUrls[n % deployment.gatewayUrls.length] ?? "";
    const { socket } = await openStockSession(url, { token });
    socket.on("note", (text: string) => note(ofNew, text));
    await socket.emitWithAck("sync:subscribe", { channel });
    seen.push(ofOld, ofNew);
  }
  return seen;
}

/** Each sender sends a third, in its order; publishes are awaited. @param privateApi takes the publishes */
async function send(rig: Rig, privateApi: string, until: (sentNow: number) => boolean): Promise<void> {
  const { deployment, servers, emitter, sent } = rig;
  const everyMs = (senders.length * 1_000) / parameters.perSecond;
  const from = performance.now();
  for (let turn = 0; until(turn * senders.length); turn++) {
    servers[turn % servers.length]?.io.to(room).emit("note", `emit ${sent.emit++}`);
    emitter.to(room).emit("note", `emitter ${sent.emitter++}`);
    const data = `publish ${sent.publish++}`;
    await callPrivateApi({ ...deployment, privateApi }, "POST", "/v1/publish", { channel, event: "note", data });
    await pause(Math.max(0, from + (turn + 1) * everyMs - performance.now()));
  }
}

/** What is wrong with what the clients have seen of a sender. */
function faults(
  { seen, sent }: Rig,
  sender: Sender,
  side: Seen["side"],
): { lost: number; doubled: number; late: number } {
  const of = seen.filter((one) => one.side === side).map(({ numbers }) => numbers[sender]);
  return of.reduce(
    (sum, numbers) => {
      const distinct = new Set(numbers);
      // Two servers emit in turn: the order of a sender is that of its server.
      const streams = sender === "emit" ? serverCount : 1;
      return {
        lost: sum.lost + sent[sender] - distinct.size,
        doubled: sum.doubled + numbers.length - distinct.size,
        late: sum.late + inversions(numbers, streams),
      };
    },
    { lost: 0, doubled: 0, late: 0 },
  );
}

/** Messages that came after a later one of the same server. */
function inversions(numbers: readonly number[], streams: number): number {
  const last = new Map<number, number>();
  let count = 0;
  for (const number of numbers) {
    const stream = number % streams;
    if (number < (last.get(stream) ?? -1)) count++;
    last.set(stream, number);
  }
  return count;
}

async function settled({ seen, sent }: Rig, isComplete: (one: Seen) => boolean): Promise<void> {
  const total = (): number =>
    seen.reduce((sum, { numbers }) => sum + senders.reduce((of, sender) => of + numbers[sender].length, 0), 0);
  const deadline = performance.now() + settleMs;
  // What is lost never comes: ends once nothing has come for a while.
  for (let before = -1; performance.now() < deadline;) {
    if (seen.every(isComplete)) return;
    const now = total();
    if (now === before && sent.emit > 0) return;
    before = now;
    await pause(5_000);
  }
}

async function runsBridge(privateApi: string): Promise<boolean> {
  const metrics = await (await fetch(`${privateApi}/metrics`)).text();
  return metrics.includes('tidegate_bridge_up{bridge="legacy"} 1');
}

function verdictsOf(rig: Rig, part: string, mayLose: (sender: Sender, side: Seen["side"]) => boolean): Verdict[] {
  return (["old", "new"] as const).flatMap((side) =>
    senders.map((sender) => {
      const { lost, doubled, late } = faults(rig, sender, side);
      const pass = doubled === 0 && late === 0 && (lost === 0 || mayLose(sender, side));
      const value = `${lost} lost, ${doubled} doubled, ${late} out of order`;
      return { title: `${part}: ${sender} → clients of the ${side} side`, pass, value };
    }),
  );
}

async function measure(rig: Rig, fleet: Fleet): Promise<ScenarioReport> {
  const { deployment, seen, sent } = rig;
  const { messages, clients, perSecond } = parameters;
  const holders = await Promise.all(deployment.privateApis.map(runsBridge));
  const holder = holders.indexOf(true);
  const other = deployment.privateApis[holder === 0 ? 1 : 0] ?? "";
  const before = cpuMsByRole(deployment.processes).get("private-api") ?? 0;
  say(`${messages} messages at ${perSecond} a second`);
  await send(rig, other, (sentNow) => sentNow < messages);
  const isComplete = ({ numbers }: Seen): boolean => senders.every((sender) => numbers[sender].length >= sent[sender]);
  await settled(rig, isComplete);
  const cpuMs = (cpuMsByRole(deployment.processes).get("private-api") ?? 0) - before;
  const sentFirst = sent.emit + sent.emitter + sent.publish;
  const first = verdictsOf(rig, "steady", () => false);

  say(`the bridge is killed, ${takeoverSeconds} s of writing`);
  await fleet.privateApis[holder]?.kill();
  const killedAt = performance.now();
  let takenOverAfterMs = 0;
  const noticing = eventually(() => runsBridge(other), takeoverSeconds * 1_000).then(() => {
    takenOverAfterMs = performance.now() - killedAt;
  });
  await send(rig, other, () => performance.now() - killedAt < takeoverSeconds * 1_000);
  await noticing;
  await settled(rig, isComplete);
  const lostOf = (sender: Sender): number => faults(rig, sender, "new").lost / clients;
  return {
    scenario: "bridge",
    parameters,
    figures: {
      "messages before the kill": sentFirst,
      "deliveries to clients": seen.reduce(
        (sum, { numbers }) => sum + senders.reduce((of, sender) => of + numbers[sender].length, 0),
        0,
      ),
      "private API's CPU for each message, both processes, in µs": Math.round((cpuMs * 1_000) / sentFirst),
      "takeover after the kill, in ms": Math.round(takenOverAfterMs),
      "emits lost on their way to the new side": lostOf("emit"),
      "emits of the emitter lost on their way to the new side": lostOf("emitter"),
    },
    verdicts: [
      ...first,
      ...verdictsOf(rig, "takeover", (sender, side) => side === "new" && sender !== "publish"),
      { title: "another process took over", pass: takenOverAfterMs > 0, value: `${Math.round(takenOverAfterMs)} ms` },
    ],
  };
}

await runScenario(async (fleet: Fleet): Promise<ScenarioReport> => {
  const oldRedis = await startRedis();
  const servers: OldServer[] = [];
  let emitterClient: Redis | undefined;
  try {
    for (let n = 0; n < serverCount; n++) servers.push(await startOldServer(oldRedis.url));
    emitterClient = openRedis(oldRedis.url);
    const deployment = await fleet.start({ privateApis: 2, privateApiSettings: { LEGACY_REDIS_URL: oldRedis.url } });
    await putRules(deployment, {
      namespaces: { board: { changes: true } },
      bridges: { legacy: { redis: "env:LEGACY_REDIS_URL", adapter: "classic", rooms: { "board-{id}": "board:{id}" } } },
    });
    await eventually(async () => (await Promise.all(deployment.privateApis.map(runsBridge))).includes(true));
    say(`${parameters.clients} clients connect on each side`);
    const seen = await connectClients(deployment, servers);
    const sent = { emit: 0, emitter: 0, publish: 0 };
    return await measure({ deployment, servers, emitter: new Emitter(emitterClient), seen, sent }, fleet);
  } finally {
    for (const server of servers) await server.stop();
    emitterClient?.disconnect();
    await oldRedis.stop();
  }
});
