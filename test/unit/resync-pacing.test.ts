/** Thousands that history cannot bridge for: each is told once, and not all together. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Hub } from "../../gateway/channels/hub.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";
import { ResyncPacing } from "../../gateway/channels/resync-pacing.ts";
import { Subscription } from "../../gateway/channels/subscription.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const channel = "board:1";
const publication = (offset: number) => ({ offset, prev: offset - 1, event: "moved", data: `"${offset}"` });

/** A hub whose breaks are paced, and subscriptions with outboxes. */
function createNode() {
  let pacing: ResyncPacing;
  const hub = new Hub({
    onDelivered: () => undefined,
    onBroken: (name, _position, lost) => pacing.add(name, lost),
  });
  pacing = new ResyncPacing((name, follower) => {
    const position = hub.position(name);
    if (position) follower.resync(position);
    return position !== undefined;
  });
  return {
    hub,
    pacing,
    join: (): { subscription: Subscription; sent: string[] } => {
      const sent: string[] = [];
      const sink = {
        takenBytes: 0,
        write: (packet: string, _options: unknown, flushed?: () => void): void => {
          sent.push(packet);
          flushed?.();
        },
      };
      const outbox = new Outbox({
        sink,
        maxBytes: 1 << 20,
        conflateFromBytes: 1 << 18,
        onOverflow: () => undefined,
        onConflated: () => undefined,
      });
      outbox.open({ packet: "welcome", bytes: 1, options: { compress: false }, conflationKey: undefined });
      sent.length = 0;
      const subscription = new Subscription(channel, outbox);
      hub.add(channel, subscription);
      return { subscription, sent };
    },
    align: (epoch: string, offset: number): boolean => {
      const alignment = hub.beginAlignment(channel);
      if (!alignment) throw new Error("nobody follows the channel");
      return hub.align(alignment, { position: { epoch, offset }, publications: [], more: false });
    },
    /** History begins anew. */
    breakTo: (epoch: string, offset: number): void => {
      hub.misalign(channel);
      const alignment = hub.beginAlignment(channel);
      if (alignment) hub.align(alignment, { position: { epoch, offset }, publications: [], more: false });
    },
  };
}

function liveNode(count: number) {
  const node = createNode();
  const clients = Array.from({ length: count }, () => node.join());
  node.align("a", 0);
  for (const { subscription } of clients) {
    subscription.settle();
    subscription.goLive({ epoch: "a", offset: 0 });
  }
  return { ...node, clients };
}

const resyncs = (sent: readonly string[]): string[] => sent.filter((packet) => packet.includes("sync:resync"));

test("HUB-7: five thousand followers are told once each, 500 in a second, and nothing of the channel before that", () => {
  const { hub, clients, breakTo, pacing } = liveNode(5_000);
  breakTo("b", 3);
  vi.advanceTimersByTime(2_000);
  const told = (): number => clients.filter(({ sent }) => sent.length > 0).length;
  expect(told()).toBeGreaterThan(900);
  expect(told()).toBeLessThanOrEqual(1_020);
  hub.receive(channel, "b", publication(4));
  vi.advanceTimersByTime(9_000);
  hub.receive(channel, "b", publication(5));
  expect([told(), pacing.count]).toEqual([5_000, 0]);
  for (const { sent } of clients) {
    const early = sent.length === 3;
    expect(sent[0]).toContain(`"position":{"epoch":"b","offset":${early ? 3 : 4}},"reason":"epoch_changed"`);
    expect(sent.slice(1).map((packet) => /"offset":(\d)/.exec(packet)?.[1])).toEqual(early ? ["4", "5"] : ["5"]);
  }
});

test("HUB-7: a handful is told at once", () => {
  const { clients, breakTo } = liveNode(5);
  breakTo("b", 0);
  vi.advanceTimersByTime(0);
  expect(clients.map(({ sent }) => resyncs(sent).length)).toEqual([1, 1, 1, 1, 1]);
});

test("HUB-7: who breaks again before being told is told once, with the newest reason", () => {
  const { clients, breakTo } = liveNode(100);
  breakTo("b", 9);
  breakTo("b", 4);
  expect(clients.every(({ subscription }) => subscription.live)).toBe(true);
  vi.advanceTimersByTime(1_000);
  for (const { sent } of clients) {
    expect(resyncs(sent)).toHaveLength(1);
    expect(sent[0]).toContain('"position":{"epoch":"b","offset":4},"reason":"position_ahead"');
  }
});

test("HUB-7: who leaves, or is not where the hub knows its position, is not told", () => {
  const { hub, pacing, clients, breakTo } = liveNode(100);
  breakTo("b", 9);
  for (const { subscription } of clients.slice(0, 50)) {
    subscription.end();
    hub.remove(channel, subscription);
    pacing.remove(subscription);
  }
  expect(pacing.count).toBe(50);
  hub.misalign(channel);
  vi.advanceTimersByTime(1_000);
  expect(clients.flatMap(({ sent }) => sent)).toEqual([]);
  expect(pacing.count).toBe(50);
  const alignment = hub.beginAlignment(channel);
  if (alignment) hub.align(alignment, { position: { epoch: "b", offset: 9 }, publications: [], more: false });
  vi.advanceTimersByTime(1_000);
  expect(clients.map(({ sent }) => resyncs(sent).length)).toEqual([...Array(50).fill(0), ...Array(50).fill(1)]);
  pacing.stop();
});

test("HUB-8: a break while a subscription joins shows in its ack, and is not told again", () => {
  const node = createNode();
  const { subscription, sent } = node.join();
  node.align("a", 0);
  node.breakTo("b", 3);
  expect(subscription.brokenAfter({ epoch: "a", offset: 0 }, { epoch: "b", offset: 3 })).toBe("epoch_changed");
  expect(subscription.brokenAfter({ epoch: "b", offset: 2 }, { epoch: "b", offset: 3 })).toBe("epoch_changed");
  // Read after the break: whatever was held before it does not matter.
  node.hub.receive(channel, "b", publication(4));
  expect(subscription.brokenAfter({ epoch: "b", offset: 3 }, { epoch: "b", offset: 4 })).toBeUndefined();
  subscription.settle();
  expect(subscription.goLive({ epoch: "b", offset: 3 })).toBe(true);
  vi.advanceTimersByTime(1_000);
  expect(sent).toHaveLength(1);
  expect(sent[0]).toContain('"offset":4');
});

test("HUB-8: a break after the ack was decided is one resync after it", () => {
  const node = createNode();
  const { subscription, sent } = node.join();
  node.align("a", 1);
  subscription.settle();
  node.breakTo("b", 3);
  expect(subscription.goLive({ epoch: "a", offset: 1 })).toBe(false);
  node.pacing.add(channel, [subscription]);
  node.hub.receive(channel, "b", publication(4));
  vi.advanceTimersByTime(1_000);
  node.hub.receive(channel, "b", publication(5));
  expect(sent).toHaveLength(2);
  expect(sent[0]).toContain('sync:resync",{"channel":"board:1","position":{"epoch":"b","offset":4}');
  expect(sent[1]).toContain('"offset":5');
});

test("SUB-2: what was held while history was read joins the position that was read, or the gap is told", () => {
  const node = createNode();
  const { subscription } = node.join();
  node.align("a", 5);
  for (const offset of [6, 7]) node.hub.receive(channel, "a", publication(offset));
  const now = { epoch: "a", offset: 7 };
  for (const offset of [5, 6, 7, 8]) expect(subscription.brokenAfter({ epoch: "a", offset }, now)).toBeUndefined();
  expect(subscription.brokenAfter({ epoch: "a", offset: 4 }, now)).toBe("position_ahead");
});
