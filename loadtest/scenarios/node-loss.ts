/**
 * Two of three nodes are killed, one after the other: is presence right within the lease and 2 s, and is nobody counted twice?
 *
 *   npm run loadtest -- node-loss [--json]     SESSIONS (default 2000)
 *
 * First the killed node's clients stay away, and come back with their resume tokens once they are gone from presence. Then
 * another node dies, and its clients come back at once. Ends with a verdict; exit code 1 where it fails.
 */
import { SignJWT } from "jose";
import { io, type Socket } from "socket.io-client";
import type { PresenceMember, Welcome } from "../../shared/protocol/wire.ts";
import { leaseMs } from "../../shared/sessions/contract.ts";
import type { Deployment, Fleet } from "../rig/fleet.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const sessions = parameter("SESSIONS", 2_000, 3, 5_000);
const membersPerChannel = 100;
const allowedMs = leaseMs + 2_000;
const giveUpMs = 60_000;
const connectAtOnce = 50;

interface Stay {
  user: string;
  channel: string;
  node: number;
  socket: Socket;
  welcome: Welcome;
}

const channels = Array.from({ length: Math.ceil(sessions / membersPerChannel) }, (_, i) => `room:${i}`);
/** Polls in which somebody was listed with more than one connection. */
let countedTwice = 0;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const deployment = await fleet.start({ gateways: 3 });
  await putRules(deployment, { namespaces: { room: { access: "user", presence: true, joinLeave: true } } });
  say(`${sessions} sessions in ${channels.length} channels on 3 nodes`);
  const stays = await inBatches(
    Array.from({ length: sessions }, (_, i) => i),
    async (i) => begin(deployment, { user: `user-${i}`, channel: channels[i % channels.length] ?? "", node: i % 3 }),
  );
  await untilPresent(deployment, new Set(stays.map(({ user }) => user)));

  say("node 1 is killed, its clients stay away");
  const first = stays.filter(({ node }) => node === 0);
  await fleet.killGateway(0);
  const goneInMs = await untilPresent(deployment, usersBesides(stays, first));
  const backFirst = await inBatches(first, async (stay) =>
    resume(deployment, stay, 1 + (Number(stay.user.slice(5)) % 2)),
  );
  const backInMs = await untilPresent(deployment, usersBesides(stays, []));

  say("node 2 is killed, its clients come back at once");
  const now = [...stays.filter(({ node }) => node !== 0), ...backFirst.map(({ stay }) => stay)];
  const second = now.filter(({ node }) => node === 1);
  await fleet.killGateway(1);
  const backSecond = await inBatches(second, async (stay) => resume(deployment, stay, 2));
  const rightInMs = await untilPresent(deployment, usersBesides(stays, []));
  // Nobody is swept away with the node that they have left.
  await settled(deployment, usersBesides(stays, []), allowedMs);

  const back = [...backFirst, ...backSecond];
  const resumed = back.filter((returned) => returned.resumed).length;
  for (const { socket } of [...stays, ...back.map(({ stay }) => stay)]) socket.disconnect();
  return {
    scenario: "node-loss",
    parameters: { sessions, leaseMs },
    figures: {
      goneFromPresenceInMs: Math.round(goneInMs),
      presentAgainInMs: Math.round(backInMs),
      presentAfterImmediateReturnInMs: Math.round(rightInMs),
      returned: back.length,
      resumedWithTheirSession: resumed,
      countedTwice,
    },
    verdicts: [
      { title: `presence was right within ${allowedMs} ms of the kill`, pass: goneInMs <= allowedMs, value: goneInMs },
      { title: "nobody was ever counted twice", pass: countedTwice === 0, value: countedTwice },
      { title: "everybody came back with their own session", pass: resumed === back.length, value: resumed },
    ],
  };
}

function usersBesides(stays: readonly Stay[], gone: readonly Stay[]): Set<string> {
  const left = new Set(gone.map(({ user }) => user));
  return new Set(stays.map(({ user }) => user).filter((user) => !left.has(user)));
}

async function inBatches<Item, Result>(
  items: readonly Item[],
  each: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < items.length; at += connectAtOnce) {
    results.push(...(await Promise.all(items.slice(at, at + connectAtOnce).map(each))));
  }
  return results;
}

async function begin(
  { gatewayUrls, jwtSecret }: Deployment,
  { user, channel, node }: Pick<Stay, "user" | "channel" | "node">,
): Promise<Stay> {
  const token = await new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(jwtSecret));
  return { user, channel, node, ...(await connected(gatewayUrls[node] ?? "", { token }, channel)) };
}

async function resume(
  { gatewayUrls }: Deployment,
  stay: Stay,
  node: number,
): Promise<{ stay: Stay; resumed: boolean }> {
  const { user, channel, welcome: before } = stay;
  const again = await connected(gatewayUrls[node] ?? "", { resume: before.resumeToken }, channel);
  const resumed = again.welcome.resumed && again.welcome.sessionId === before.sessionId;
  return { stay: { user, channel, node, ...again }, resumed };
}

async function connected(url: string, auth: object, channel: string): Promise<Pick<Stay, "socket" | "welcome">> {
  const socket = io(url.replace("ws", "http"), {
    transports: ["websocket"],
    auth,
    forceNew: true,
    reconnection: false,
  });
  const welcome = await new Promise<Welcome>((resolve, reject) => {
    socket.once("sync:welcome", resolve);
    socket.once("connect_error", reject);
  });
  const ack = (await socket.emitWithAck("sync:subscribe", { channel })) as { ok: boolean };
  if (!ack.ok) throw new Error(`not subscribed: ${JSON.stringify(ack)}`);
  return { socket, welcome };
}

/** @returns how long that took, in ms. */
async function untilPresent(deployment: Deployment, users: ReadonlySet<string>): Promise<number> {
  const startedAt = performance.now();
  while (!(await isPresent(deployment, users))) {
    if (performance.now() - startedAt > giveUpMs) throw new Error("presence did not become right");
  }
  return performance.now() - startedAt;
}

async function settled(deployment: Deployment, users: ReadonlySet<string>, forMs: number): Promise<void> {
  const until = performance.now() + forMs;
  while (performance.now() < until) {
    if (!(await isPresent(deployment, users))) throw new Error("somebody who is there was missing");
  }
}

async function isPresent({ privateApi, privateApiToken }: Deployment, users: ReadonlySet<string>): Promise<boolean> {
  const headers = { authorization: `Bearer ${privateApiToken}` };
  const lists = await Promise.all(
    channels.map(async (channel) => {
      const answer = await fetch(`${privateApi}/v1/channels/${channel}/presence`, { headers });
      return ((await answer.json()) as { members: PresenceMember[] }).members;
    }),
  );
  const members = lists.flat();
  if (members.some(({ connections }) => connections > 1)) countedTwice++;
  return members.length === users.size && members.every(({ user }) => users.has(user));
}

await runScenario(run);
