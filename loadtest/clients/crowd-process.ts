/** A process with a part of a crowd's clients: it follows orders and reports its progress. */
import { loadToken } from "./load-token.ts";
import type { Member } from "./crowd-member.ts";
import type { CrowdMessage, CrowdOrder, MemberSpec } from "./crowd-messages.ts";
import { Witness } from "./crowd-witness.ts";
import { SdkMember } from "./sdk-member.ts";
import { StockMember } from "./stock-member.ts";

const progressEveryMs = 200;
/** Time for the last packets to leave. */
const goodbyeMs = 500;
const checkEveryMs = 50;
/** Calls leave in small groups, spread over the second. */
const callEveryMs = 50;
/** The event that the services of the scenarios answer. */
const callEvent = "echo";

const witness = new Witness();
const members: Member[] = [];
let callsUnderWay = 0;
let calling: NodeJS.Timeout | undefined;

function join(specs: readonly MemberSpec[], perSecond: number, jwtSecret: string): void {
  const startedAt = performance.now();
  let started = 0;
  const timer = setInterval(() => {
    const due = Math.min(specs.length, Math.ceil(((performance.now() - startedAt) / 1_000) * perSecond));
    for (const spec of specs.slice(started, due)) {
      const token = async (): Promise<string> => loadToken(jwtSecret, spec.user, { channels: ["load:*"] });
      const member = new (spec.kind === "sdk" ? SdkMember : StockMember)(spec, token, witness);
      members.push(member);
      member.start();
    }
    started = due;
    if (started === specs.length) clearInterval(timer);
  }, 10);
}

function call(perSecond: number): void {
  clearInterval(calling);
  if (perSecond === 0) return;
  let [owed, next] = [0, 0];
  calling = setInterval(() => {
    for (owed += (perSecond * callEveryMs) / 1_000; owed >= 1; owed--) {
      const member = members[next++ % members.length];
      if (member) void callOnce(member);
    }
  }, callEveryMs);
}

async function callOnce(member: Member): Promise<void> {
  callsUnderWay++;
  const startedAt = performance.now();
  const code = await member.call(callEvent);
  callsUnderWay--;
  witness.called(member.record, code, performance.now() - startedAt);
}

function report(ends: Readonly<Record<string, number>>, withinMs: number): void {
  const deadline = performance.now() + withinMs;
  const timer = setInterval(() => {
    const all = members.every((member) =>
      [...member.sequences].every(([channel, { reached }]) => reached >= (ends[channel] ?? 0)),
    );
    if (!all && performance.now() < deadline) return;
    clearInterval(timer);
    for (const { record, channels, sequences } of members) {
      for (const channel of channels) witness.ended(record, sequences.get(channel), ends[channel] ?? 0);
    }
    send({ kind: "report", tally: witness.tally.toJSON() });
  }, checkEveryMs);
}

function send(message: CrowdMessage): void {
  process.send?.(message);
}

process.on("message", (order: CrowdOrder) => {
  if (order.order === "join") join(order.members, order.perSecond, order.jwtSecret);
  else if (order.order === "phase") witness.phase = order.phase;
  else if (order.order === "call") call(order.callsPerSecond);
  else if (order.order === "report") report(order.ends, order.withinMs);
  else {
    for (const member of members) member.leave();
    setTimeout(() => process.disconnect(), goodbyeMs);
  }
});
process.on("disconnect", () => process.exit(0));
setInterval(() => {
  const connected = members.filter((member) => member.connected).length;
  const following = members.filter(({ sequences }) => sequences.size > 0).length;
  send({ kind: "progress", connected, following, callsUnderWay });
}, progressEveryMs);
