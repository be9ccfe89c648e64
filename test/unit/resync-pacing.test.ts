/** A gap for thousands of followers: each gets one resync notice, and not all at the same moment. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OrderedDelivery } from "../../gateway/channels/ordered-delivery.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";
import { ResyncPacing, type ResyncSource } from "../../gateway/channels/resync-pacing.ts";
import { Subscription } from "../../gateway/channels/subscription.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const channel = "board:1";
const publication = (offset: number) => ({ offset, prev: offset - 1, event: "moved", data: `"${offset}"` });

/** A channel whose resync notices are paced, and subscriptions with outboxes. */
function createNode() {
  const pacing = new ResyncPacing();
  const delivery = new OrderedDelivery({
    name: channel,
    keepsLatest: false,
    onDelivered: () => undefined,
    onBroken: (_position, lost) => pacing.add(source, lost),
  });
  const source: ResyncSource = {
    resync: (follower) => {
      const { position } = delivery;
      if (position) follower.resync(position);
      return position !== undefined;
    },
  };
  return {
    delivery,
    source,
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
      delivery.add(subscription);
      return { subscription, sent };
    },
    align: (epoch: string, offset: number): boolean => {
      const alignment = delivery.beginAlignment();
      if (!alignment) throw new Error("the channel has no follower");
      return delivery.align(alignment, { position: { epoch, offset }, publications: [], more: false });
    },
    /** History has another epoch. */
    breakTo: (epoch: string, offset: number): void => {
      delivery.misalign();
      const alignment = delivery.beginAlignment();
      if (alignment) delivery.align(alignment, { position: { epoch, offset }, publications: [], more: false });
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

test("HUB-7: five thousand followers get one resync each, 500 a second, and nothing before it", () => {
  const { delivery, clients, breakTo, pacing } = liveNode(5_000);
  breakTo("b", 3);
  vi.advanceTimersByTime(2_000);
  const notified = (): number => clients.filter(({ sent }) => sent.length > 0).length;
  expect(notified()).toBeGreaterThan(900);
  expect(notified()).toBeLessThanOrEqual(1_020);
  delivery.receive("b", publication(4));
  vi.advanceTimersByTime(9_000);
  delivery.receive("b", publication(5));
  expect([notified(), pacing.count]).toEqual([5_000, 0]);
  for (const { sent } of clients) {
    const early = sent.length === 3;
    expect(sent[0]).toContain(`"position":{"epoch":"b","offset":${early ? 3 : 4}},"reason":"epoch_changed"`);
    expect(sent.slice(1).map((packet) => /"offset":(\d)/.exec(packet)?.[1])).toEqual(early ? ["4", "5"] : ["5"]);
  }
});

test("HUB-7: a handful of followers gets its resyncs at once", () => {
  const { clients, breakTo } = liveNode(5);
  breakTo("b", 0);
  vi.advanceTimersByTime(0);
  expect(clients.map(({ sent }) => resyncs(sent).length)).toEqual([1, 1, 1, 1, 1]);
});

test("HUB-7: a second gap before the resync is one resync with the newest reason", () => {
  const { clients, breakTo, pacing, source } = liveNode(100);
  breakTo("b", 9);
  breakTo("b", 4);
  // As where a subscription goes live after the gap.
  const followers = clients.map(({ subscription }) => subscription);
  pacing.add(source, followers);
  expect(pacing.count).toBe(100);
  expect(clients.every(({ subscription }) => subscription.live)).toBe(true);
  vi.advanceTimersByTime(1_000);
  for (const { sent } of clients) {
    expect(resyncs(sent)).toHaveLength(1);
    expect(sent[0]).toContain('"position":{"epoch":"b","offset":4},"reason":"position_ahead"');
  }
});

test("HUB-7: a follower that leaves gets no resync, nor does any while the channel is misaligned", () => {
  const { delivery, pacing, clients, breakTo } = liveNode(100);
  breakTo("b", 9);
  for (const { subscription } of clients.slice(0, 50)) {
    subscription.end();
    delivery.remove(subscription);
    pacing.remove(subscription);
  }
  expect(pacing.count).toBe(50);
  delivery.misalign();
  vi.advanceTimersByTime(1_000);
  expect(clients.flatMap(({ sent }) => sent)).toEqual([]);
  expect(pacing.count).toBe(50);
  const alignment = delivery.beginAlignment();
  if (alignment) delivery.align(alignment, { position: { epoch: "b", offset: 9 }, publications: [], more: false });
  vi.advanceTimersByTime(1_000);
  expect(clients.map(({ sent }) => resyncs(sent).length)).toEqual([...Array(50).fill(0), ...Array(50).fill(1)]);
  pacing.stop();
});

test("HUB-8: a gap while a subscription joins shows in its ack, and needs no resync", () => {
  const node = createNode();
  const { subscription, sent } = node.join();
  node.align("a", 0);
  node.breakTo("b", 3);
  expect(subscription.brokenAfter({ epoch: "a", offset: 0 }, { epoch: "b", offset: 3 })).toBe("epoch_changed");
  expect(subscription.brokenAfter({ epoch: "b", offset: 2 }, { epoch: "b", offset: 3 })).toBe("epoch_changed");
  // Read after the gap: what was held before it does not matter.
  node.delivery.receive("b", publication(4));
  expect(subscription.brokenAfter({ epoch: "b", offset: 3 }, { epoch: "b", offset: 4 })).toBeUndefined();
  subscription.settle();
  expect(subscription.goLive({ epoch: "b", offset: 3 })).toBe(true);
  vi.advanceTimersByTime(1_000);
  expect(sent).toHaveLength(1);
  expect(sent[0]).toContain('"offset":4');
});

test("HUB-8: a gap after the ack was decided is one resync after it", () => {
  const node = createNode();
  const { subscription, sent } = node.join();
  node.align("a", 1);
  subscription.settle();
  node.breakTo("b", 3);
  expect(subscription.goLive({ epoch: "a", offset: 1 })).toBe(false);
  node.pacing.add(node.source, [subscription]);
  node.delivery.receive("b", publication(4));
  vi.advanceTimersByTime(1_000);
  node.delivery.receive("b", publication(5));
  expect(sent).toHaveLength(2);
  expect(sent[0]).toContain('sync:resync",{"channel":"board:1","position":{"epoch":"b","offset":4}');
  expect(sent[1]).toContain('"offset":5');
});

test("SUB-2: frames held during a read follow its position, or the ack says why not", () => {
  const node = createNode();
  const { subscription } = node.join();
  node.align("a", 5);
  for (const offset of [6, 7]) node.delivery.receive("a", publication(offset));
  const now = { epoch: "a", offset: 7 };
  for (const offset of [5, 6, 7, 8]) expect(subscription.brokenAfter({ epoch: "a", offset }, now)).toBeUndefined();
  expect(subscription.brokenAfter({ epoch: "a", offset: 4 }, now)).toBe("position_ahead");
});
