/**
 * Two of three nodes are killed, one after the other: presence is right within the lease and 2 s, and counts no session twice.
 *
 *   npm run loadtest -- node-loss [--json]
 *   SESSIONS (2000)
 *
 * The clients of the first node stay away and present their resume tokens once presence no longer lists them. The clients
 * of the second node reconnect at once. Exit code 0: every verdict passed.
 */
import type { PresenceMember } from "../../shared/protocol/wire.ts";
import { leaseMs } from "../../shared/sessions/contract.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { inBatches } from "../clients/batches.ts";
import { loadToken } from "../clients/load-token.ts";
import { openStockSession, type StockSession } from "../clients/stock-session.ts";
import type { Deployment, Fleet } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const sessions = parameter("SESSIONS", 2_000, 3, 5_000);
const membersPerChannel = 100;
const allowedMs = leaseMs + 2_000;
const giveUpMs = 60_000;

interface Client extends StockSession {
  readonly user: string;
  readonly channel: string;
  readonly node: number;
}

const channels = Array.from({ length: Math.ceil(sessions / membersPerChannel) }, (_, i) => `room:${i}`);
/** Polls in which a member had more than one connection. */
let countedTwice = 0;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const deployment = await fleet.start({ gateways: 3 });
  await putRules(deployment, { namespaces: { room: { access: "user", presence: true, joinLeave: true } } });
  say(`${sessions} sessions in ${channels.length} channels on 3 nodes`);
  const clients = await inBatches([...Array(sessions).keys()], async (i) => connect(deployment, i));
  const all = usersOf(clients);
  await untilPresent(deployment, all);

  say("node 1 is killed, its clients stay away");
  const first = clients.filter(({ node }) => node === 0);
  await fleet.killGateway(0);
  const goneInMs = await untilPresent(deployment, usersOf(clients.filter(({ node }) => node !== 0)));
  const backFirst = await inBatches(first, async (client) => resume(deployment, client, 1 + (numberOf(client) % 2)));
  const backInMs = await untilPresent(deployment, all);

  say("node 2 is killed, its clients reconnect at once");
  const now = [...clients.filter(({ node }) => node !== 0), ...backFirst.map(({ client }) => client)];
  const second = now.filter(({ node }) => node === 1);
  await fleet.killGateway(1);
  const backSecond = await inBatches(second, async (client) => resume(deployment, client, 2));
  const rightInMs = await untilPresent(deployment, all);
  // The sweep of the dead node must not remove members that moved to another one.
  await staysPresent(deployment, all, allowedMs);

  const back = [...backFirst, ...backSecond];
  const resumed = back.filter((returned) => returned.resumed).length;
  for (const { socket } of [...clients, ...back.map(({ client }) => client)]) socket.disconnect();
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
      { title: "no member was counted twice", pass: countedTwice === 0, value: countedTwice },
      { title: "every returning client resumed its session", pass: resumed === back.length, value: resumed },
    ],
  };
}

function usersOf(clients: readonly Client[]): Set<string> {
  return new Set(clients.map(({ user }) => user));
}

async function connect(deployment: Deployment, index: number): Promise<Client> {
  const user = `user-${index}`;
  const token = await loadToken(deployment.jwtSecret, user);
  const place = { user, channel: channels[index % channels.length] ?? "", node: index % 3 };
  return subscribed(deployment, place, { token });
}

function numberOf({ user }: Client): number {
  return Number(user.slice("user-".length));
}

/** Presents the client's resume token to another node. */
async function resume(
  deployment: Deployment,
  { user, channel, welcome }: Client,
  node: number,
): Promise<{ client: Client; resumed: boolean }> {
  const again = await subscribed(deployment, { user, channel, node }, { resume: welcome.resumeToken });
  return { client: again, resumed: again.welcome.resumed && again.welcome.sessionId === welcome.sessionId };
}

async function subscribed(
  { gatewayUrls }: Deployment,
  place: Pick<Client, "user" | "channel" | "node">,
  auth: object,
): Promise<Client> {
  const session = await openStockSession(gatewayUrls[place.node] ?? "", auth);
  const ack = (await session.socket.emitWithAck("sync:subscribe", { channel: place.channel })) as { ok: boolean };
  if (!ack.ok) throw new Error(`subscribe failed: ${JSON.stringify(ack)}`);
  return { ...place, ...session };
}

/** @returns ms until presence listed exactly these users. */
async function untilPresent(deployment: Deployment, users: ReadonlySet<string>): Promise<number> {
  const startedAt = performance.now();
  while (!(await isPresent(deployment, users))) {
    if (performance.now() - startedAt > giveUpMs) throw new Error(`presence is not right after ${giveUpMs} ms`);
  }
  return performance.now() - startedAt;
}

async function staysPresent(deployment: Deployment, users: ReadonlySet<string>, forMs: number): Promise<void> {
  const until = performance.now() + forMs;
  while (performance.now() < until) {
    if (!(await isPresent(deployment, users))) throw new Error("a connected member is missing from presence");
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
