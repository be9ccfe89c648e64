import { expect, test } from "vitest";
import { Subscription } from "../../gateway/channels/subscription.ts";
import { publicationFrame } from "../../gateway/outbox/frames.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";

const channel = "board:1";
const epoch = "e";

function create(): { subscription: Subscription; sent: string[]; deliver: (offset: number) => void } {
  const sent: string[] = [];
  const sink = {
    write: (packet: string, _options: unknown, done?: () => void): void => {
      sent.push(packet);
      done?.();
    },
    takenBytes: 0,
  };
  const outbox = new Outbox({
    sink,
    maxBytes: 1024 * 1024,
    conflateFromBytes: 256 * 1024,
    onOverflow: () => undefined,
    onConflated: () => undefined,
  });
  outbox.open(publicationFrame(channel, { offset: 0, prev: 0, event: "welcome", data: "0" }, false));
  sent.length = 0;
  const subscription = new Subscription(channel, outbox);
  const deliver = (offset: number): void => {
    const publication = { offset, prev: offset - 1, event: "e", data: "1" };
    subscription.deliver(publicationFrame(channel, publication, false), publication);
  };
  return { subscription, sent, deliver };
}

test("HUB-10: a subscription that recovered beyond the node gets no resync for its losses", () => {
  const joining = create();
  joining.subscription.settle();
  expect(joining.subscription.markLost({ epoch, offset: 10 }, "history_trimmed")).toBe(false);
  joining.deliver(11);
  expect(joining.subscription.goLive({ epoch, offset: 10 })).toBe(true);
  joining.deliver(12);
  expect(joining.sent).toHaveLength(2);

  const live = create();
  live.subscription.settle();
  live.subscription.goLive({ epoch, offset: 10 });
  expect(live.subscription.markLost({ epoch, offset: 9 }, "history_trimmed")).toBe(false);
  live.deliver(10);
  live.deliver(11);
  expect(live.sent).toHaveLength(1);
});

test("HUB-10: a subscription beyond a history that lost writes gets a resync", () => {
  const joining = create();
  joining.subscription.settle();
  joining.subscription.markLost({ epoch, offset: 9 }, "position_ahead");
  expect(joining.subscription.goLive({ epoch, offset: 10 })).toBe(false);

  const live = create();
  live.subscription.settle();
  live.subscription.goLive({ epoch, offset: 10 });
  expect(live.subscription.markLost({ epoch, offset: 10 }, "position_ahead")).toBe(false);
  expect(live.subscription.markLost({ epoch, offset: 9 }, "position_ahead")).toBe(true);

  const delivered = create();
  delivered.subscription.settle();
  delivered.subscription.goLive({ epoch, offset: 10 });
  delivered.deliver(11);
  expect(delivered.subscription.markLost({ epoch, offset: 10 }, "position_ahead")).toBe(true);

  const read = create();
  read.subscription.markLost({ epoch, offset: 9 }, "position_ahead");
  expect(read.subscription.brokenAfter({ epoch, offset: 10 }, { epoch, offset: 9 })).toBe("position_ahead");
  read.deliver(10);
  read.deliver(11);
  expect(read.subscription.brokenAfter({ epoch, offset: 10 }, { epoch, offset: 11 })).toBeUndefined();
});

test("HUB-10: a subscription that lacks what was lost, or has another epoch, gets a resync", () => {
  for (const position of [
    { epoch, offset: 11 },
    { epoch: "another", offset: 1 },
  ]) {
    const joining = create();
    joining.subscription.settle();
    joining.subscription.markLost(position, "history_trimmed");
    expect(joining.subscription.goLive({ epoch, offset: 10 })).toBe(false);
    expect(joining.subscription.resync(position)).toBe("history_trimmed");

    const live = create();
    live.subscription.settle();
    live.subscription.goLive({ epoch, offset: 10 });
    expect(live.subscription.markLost(position, "history_trimmed")).toBe(true);
    live.deliver(12);
    expect(live.sent).toEqual([]);
  }
});
