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

test("HUB-10: a node that had lost its way does not tell those to resync who had recovered beyond that by themselves", () => {
  const joining = create();
  joining.subscription.settle();
  expect(joining.subscription.lose({ epoch, offset: 10 }, "history_trimmed")).toBe(false);
  joining.deliver(11);
  expect(joining.subscription.goLive({ epoch, offset: 10 })).toBe(true);
  joining.deliver(12);
  expect(joining.sent).toHaveLength(2);

  const live = create();
  live.subscription.settle();
  live.subscription.goLive({ epoch, offset: 10 });
  expect(live.subscription.lose({ epoch, offset: 9 }, "history_trimmed")).toBe(false);
  live.deliver(10);
  live.deliver(11);
  expect(live.sent).toHaveLength(1);
});

test("HUB-10: whoever has more than a history that lost writes is told, wherever its own recovery ended", () => {
  const joining = create();
  joining.subscription.settle();
  joining.subscription.lose({ epoch, offset: 9 }, "position_ahead");
  expect(joining.subscription.goLive({ epoch, offset: 10 })).toBe(false);

  const live = create();
  live.subscription.settle();
  live.subscription.goLive({ epoch, offset: 10 });
  expect(live.subscription.lose({ epoch, offset: 10 }, "position_ahead")).toBe(false);
  expect(live.subscription.lose({ epoch, offset: 9 }, "position_ahead")).toBe(true);

  const delivered = create();
  delivered.subscription.settle();
  delivered.subscription.goLive({ epoch, offset: 10 });
  delivered.deliver(11);
  expect(delivered.subscription.lose({ epoch, offset: 10 }, "position_ahead")).toBe(true);

  const read = create();
  read.subscription.lose({ epoch, offset: 9 }, "position_ahead");
  expect(read.subscription.brokenAfter({ epoch, offset: 10 }, { epoch, offset: 9 })).toBe("position_ahead");
  read.deliver(10);
  read.deliver(11);
  expect(read.subscription.brokenAfter({ epoch, offset: 10 }, { epoch, offset: 11 })).toBeUndefined();
});

test("HUB-10: whoever lacks what was lost, or has it of another epoch, is told", () => {
  for (const position of [
    { epoch, offset: 11 },
    { epoch: "another", offset: 1 },
  ]) {
    const joining = create();
    joining.subscription.settle();
    joining.subscription.lose(position, "history_trimmed");
    expect(joining.subscription.goLive({ epoch, offset: 10 })).toBe(false);
    expect(joining.subscription.resync(position)).toBe("history_trimmed");

    const live = create();
    live.subscription.settle();
    live.subscription.goLive({ epoch, offset: 10 });
    expect(live.subscription.lose(position, "history_trimmed")).toBe(true);
    live.deliver(12);
    expect(live.sent).toEqual([]);
  }
});
