/** What a node writes to the session store, and when, while the store fails or is slow. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { NodeHoldings } from "../../gateway/sessions/node-holdings.ts";
import { NodeLease } from "../../gateway/sessions/node-lease.ts";
import type { Session } from "../../gateway/sessions/session.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import type { ClaimOutcome, ClaimRequest, Membership, SessionStore } from "../../shared/sessions/contract.ts";
import { leaseMs, lingerMs } from "../../shared/sessions/contract.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietLogger } from "../support/logger.ts";

/** Keeps what is written; the test says how long that takes and what fails. */
class Store implements SessionStore {
  /** Holder → expiry of its lease, by `performance.now()`. */
  readonly leases = new Map<string, number>();
  /** Session, or session and channel → holder. */
  readonly held = new Map<string, string>();
  readonly abandoned: string[] = [];
  onClaim: (request: ClaimRequest) => Promise<void> = async () => undefined;
  onEnter: (membership: Membership) => Promise<void> = async () => undefined;
  onSweep: () => Promise<number> = async () => 0;

  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  async end(): Promise<void> {}
  async leave({ session, channel }: Membership): Promise<void> {
    this.held.delete(`${session.sessionId} ${channel}`);
  }
  async revoke(): Promise<number> {
    return 0;
  }
  now(): number {
    return Date.now();
  }
  async presence(): Promise<{ count: number }> {
    return { count: 0 };
  }
  async sessionsOf(): Promise<[]> {
    return [];
  }
  async claim(request: ClaimRequest): Promise<ClaimOutcome> {
    await this.onClaim(request);
    this.held.set(request.sessionId, request.holder);
    return { kind: "held", claim: Math.max(1, request.claim), checkedAt: 1, withdrawn: new Map(), tookOver: false };
  }
  async enter(membership: Membership): Promise<void> {
    await this.onEnter(membership);
    this.held.set(`${membership.session.sessionId} ${membership.channel}`, membership.holder);
  }
  async renewLease(holder: string, { fresh }: { fresh: boolean }): Promise<boolean> {
    if (!fresh && (this.leases.get(holder) ?? 0) < performance.now()) return false;
    this.leases.set(holder, performance.now() + leaseMs);
    return true;
  }
  async abandon(holder: string): Promise<void> {
    this.abandoned.push(holder);
    this.leases.delete(holder);
    for (const [what, by] of this.held) if (by === holder) this.held.delete(what);
  }
  async sweep(): Promise<number> {
    return this.onSweep();
  }
}

const away = new TidegateError("broker_unavailable", "away");
let store: Store;
let sessions: Session[];
let follow: (session: Session) => Promise<void>;
let holdings: NodeHoldings;

beforeEach(async () => {
  vi.useFakeTimers();
  store = new Store();
  const metrics = new Metrics();
  sessions = [];
  follow = async () => undefined;
  holdings = new NodeHoldings({
    store,
    node: "node",
    sessions: {
      get all() {
        return sessions;
      },
      follow: (session) => follow(session),
    },
    events: { requestedFor: () => undefined, expect: () => undefined },
    metrics: {
      sweptNodes: metrics.counter("swept_nodes_total", "swept"),
      announcements: metrics.counter("session_announcements_total", "announced", ["outcome"]),
    },
    logger: quietLogger,
  });
  await holdings.start();
});
afterEach(async () => {
  for (const session of sessions) session.dispose();
  store.onSweep = async () => 0;
  const stopped = holdings.stop();
  await vi.advanceTimersByTimeAsync(60_000);
  await stopped;
  vi.useRealTimers();
});

/** A session in one channel. */
function addSession(sessionId: string): Session {
  const user = `user of ${sessionId}`;
  const session = bareSession(sessionId, user);
  session.applyClaim({ sessionId, claim: 1, checkedAt: 1 }, { resumed: false, tookOver: false });
  session.memberships.set("room:1", { session: { sessionId, user, claim: 1 }, channel: "room:1", announceUpTo: 0 });
  sessions.push(session);
  return session;
}

test("PRES-6: a node does not announce a session that has moved to another node", async () => {
  const [moved] = [addSession("moved"), addSession("stays")];
  moved.askToMove({ reconnectInMs: 0, deadlineInMs: 60_000 });
  moved.succession.noticeClaim(2);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(100);
  expect(inForce()).toEqual(["stays", "stays room:1"]);
});

test("PRES-2: news of the store after the stop drop nothing that lingers", async () => {
  addSession("lingers");
  await holdings.stop();
  expect(store.abandoned).toHaveLength(1);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(store.abandoned).toHaveLength(1);
});

function inForce(): string[] {
  const now = performance.now();
  return [...store.held].filter(([, holder]) => (store.leases.get(holder) ?? 0) > now).map(([what]) => what);
}

test("PRES-6: after a failed announcement the old name stays until the next one succeeds", async () => {
  for (let i = 0; i < 120; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(100);
  expect(inForce()).toHaveLength(240);
  let failing = 1;
  store.onEnter = async () => {
    if (failing-- > 0) throw away;
  };
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).toHaveLength(240);
});

test("PRES-6: what was announced stays however long the store refuses announcements", async () => {
  for (let i = 0; i < 3; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(100);
  store.onClaim = async () => {
    throw away;
  };
  holdings.markIncomplete();
  await vi.advanceTimersByTimeAsync(300_000);
  expect(inForce()).toHaveLength(6);
  store.onClaim = async () => undefined;
  await vi.advanceTimersByTimeAsync(15_000);
  expect(inForce()).toHaveLength(6);
});

test("PRES-6: members stay while part of the store is away; old names are abandoned afterwards", async () => {
  for (let i = 0; i < 120; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  store.onClaim = async ({ sessionId }) => {
    if (sessionId === "s0") throw away;
  };
  holdings.onRestored();
  for (let second = 0; second < 30; second++) {
    await vi.advanceTimersByTimeAsync(1_000);
    expect(inForce()).toHaveLength(240);
  }
  store.onClaim = async () => undefined;
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).toHaveLength(240);
  expect(store.leases.size).toBe(1);
});

/** The cell, or primary, of one user is away. */
function loseCell(): void {
  store.onClaim = async ({ sessionId }) => {
    if (sessionId === "s0") throw away;
  };
}

test("CELL-5: sessions are announced again though another cell is away", async () => {
  for (let i = 0; i < 120; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  loseCell();
  // The cell of all others was restarted without its data.
  store.held.clear();
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).toHaveLength(238);
});

test("CELL-5: while a cell is away the others are not loaded with announcements", async () => {
  for (let i = 0; i < 120; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  loseCell();
  const claims = vi.spyOn(store, "claim");
  holdings.markIncomplete();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(claims.mock.calls.length).toBeLessThan(500);
  expect(store.leases.size).toBeLessThan(6);
  // The cell is back: nothing is left under the former names.
  store.onClaim = async () => undefined;
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).toHaveLength(240);
  expect(store.leases.size).toBe(1);
});

test("CELL-5: what a cell lost is announced at once though another cell has been away for long", async () => {
  for (let i = 0; i < 120; i++) addSession(`s${i}`);
  loseCell();
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(6_000);
  store.held.clear();
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(inForce()).toHaveLength(238);
});

test("CELL-5: a member whose connection broke leaves after 5 s though another cell is away", async () => {
  const [, broken] = [addSession("s0"), addSession("broken")];
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  loseCell();
  holdings.markIncomplete();
  await vi.advanceTimersByTimeAsync(3_000);
  for (const membership of broken.memberships.values()) holdings.leaveSoon(membership);
  broken.dispose();
  sessions.pop();
  await vi.advanceTimersByTimeAsync(lingerMs - 100);
  expect(inForce()).toContain("broken room:1");
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).not.toContain("broken room:1");
  expect(inForce()).toContain("s0 room:1");
});

test("PRES-2: members that leave while the store is away are forgotten, and gone once it is back", async () => {
  const broken = addSession("broken");
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  const leave = vi.spyOn(store, "leave").mockRejectedValue(away);
  const renew = vi.spyOn(store, "renewLease").mockRejectedValue(away);
  for (const membership of broken.memberships.values()) holdings.leaveSoon(membership);
  broken.dispose();
  sessions.pop();
  await vi.advanceTimersByTimeAsync(lingerMs + 3_000);
  expect(leave).toHaveBeenCalledTimes(1);
  renew.mockRestore();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).toEqual([]);
  expect(leave).toHaveBeenCalledTimes(1);
});

test("PRES-4: a node sweeps though another cell than that of the leases is away", async () => {
  addSession("s0");
  let sweeps = 0;
  store.onSweep = async () => ++sweeps;
  loseCell();
  holdings.markIncomplete();
  await vi.advanceTimersByTimeAsync(leaseMs + 6_000);
  expect(sweeps).toBeGreaterThan(0);
});

test("PRES-6: members stay while part of the store is away for long, however long an announcement takes", async () => {
  for (let i = 0; i < 300; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(3_000);
  loseCell();
  holdings.markIncomplete();
  // More names than a node keeps.
  for (let i = 0; i < 30; i++) {
    holdings.onRestored();
    await vi.advanceTimersByTimeAsync(2_000);
  }
  store.onClaim = async ({ sessionId }) => {
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    if (sessionId === "s0") throw away;
  };
  for (let second = 0; second < 40; second++) {
    await vi.advanceTimersByTimeAsync(1_000);
    expect(inForce()).toHaveLength(600);
  }
});

test("PRES-4: a node keeps its lease however long it announces its sessions", async () => {
  for (let i = 0; i < 500; i++) addSession(`s${i}`);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(100);
  store.onClaim = () => new Promise((resolve) => setTimeout(resolve, 2_000));
  holdings.onRestored();
  // Ten batches of two seconds: the sessions of later batches are there by the old name.
  for (let second = 0; second < 22; second++) {
    await vi.advanceTimersByTimeAsync(1_000);
    expect(inForce()).toHaveLength(1_000);
  }
  expect(store.leases.size).toBe(1);
});

test("PRES-4: a node keeps its lease however long it sweeps", async () => {
  addSession("s");
  holdings.onRestored();
  let sweeps = 0;
  store.onSweep = async () => {
    sweeps++;
    await new Promise((resolve) => setTimeout(resolve, 30_000));
    return 1;
  };
  await vi.advanceTimersByTimeAsync(leaseMs + 4_000);
  expect(sweeps).toBe(1);
  const [holder] = store.leases.keys();
  await vi.advanceTimersByTimeAsync(25_000);
  expect(sweeps).toBe(1);
  expect([...store.leases]).toEqual([[holder, expect.closeTo(performance.now() + leaseMs, -4)]]);
  expect(store.abandoned).toHaveLength(1);
});

test("PRES-4: a node that was paused waits again before it sweeps", async () => {
  let sweeps = 0;
  store.onSweep = async () => ++sweeps;
  await vi.advanceTimersByTimeAsync(leaseMs);
  const running = performance.now.bind(performance);
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + 60_000);
  await vi.advanceTimersByTimeAsync(leaseMs);
  expect(sweeps).toBe(0);
  await vi.advanceTimersByTimeAsync(4_000);
  expect(sweeps).toBeGreaterThan(0);
  clock.mockRestore();
});

test("PRES-4: a node that was paused while a renewal was under way waits again before it sweeps", async () => {
  let sweeps = 0;
  store.onSweep = async () => ++sweeps;
  await vi.advanceTimersByTimeAsync(leaseMs);
  const running = performance.now.bind(performance);
  let pausedMs = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + pausedMs);
  vi.spyOn(store, "renewLease").mockImplementationOnce(async () => {
    pausedMs = 60_000;
    return true;
  });
  await vi.advanceTimersByTimeAsync(leaseMs);
  expect([pausedMs, sweeps]).toEqual([60_000, 0]);
  await vi.advanceTimersByTimeAsync(6_000);
  expect(sweeps).toBeGreaterThan(0);
  clock.mockRestore();
});

test("PRES-6: a session that begins while the node changes its name is announced alone", async () => {
  for (let i = 0; i < 3; i++) addSession(`s${i}`);
  const { promise: late, resolve } = Promise.withResolvers<void>();
  store.onClaim = ({ mode }) => (mode === "begin" ? late : Promise.resolve());
  const identity = { sessionId: "new", user: "new", claims: {} };
  const begun = holdings.claim({ mode: "begin", ...identity, claim: 0, checkedAt: 0 }, identity);
  holdings.onRestored();
  await vi.advanceTimersByTimeAsync(100);
  resolve();
  expect((await begun).kind).toBe("held");
  expect(inForce()).toContain("new");
  await vi.advanceTimersByTimeAsync(3_000);
  expect(store.abandoned).toHaveLength(1);
});

test("RES-7: a session from a broker outage is announced once its user's messages reach it", async () => {
  const session = addSession("s");
  let followed = false;
  follow = async () => {
    if (!followed) throw away;
  };
  holdings.markIncomplete();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(store.held.size).toBe(0);
  followed = true;
  await vi.advanceTimersByTimeAsync(3_000);
  expect(inForce()).toEqual([session.id, `${session.id} room:1`]);
});

test("WARN-5: a clock that differs from that of the store is named in the log, once until it is right again", async () => {
  const lines: string[] = [];
  const logger = createLogger({ name: "test", level: "warn", destination: { write: (line) => void lines.push(line) } });
  const sweptNodes = new Metrics().counter("swept_nodes_total", "swept");
  const lease = new NodeLease({ store, metrics: { sweptNodes }, logger });
  let aheadMs = 30_000;
  store.now = () => Date.now() - aheadMs;
  await lease.rename();
  expect(lines).toEqual([]);
  for (aheadMs of [3_600_000, 3_600_000, 0, -3_600_000]) await lease.renew();
  const msg = "the clock of this machine differs from that of Redis";
  expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([
    { aheadSeconds: 3_600, msg },
    { aheadSeconds: -3_600, msg },
  ]);
});
