/** The checker's verdicts: it finds every breach of the contract, and no other. */
import { expect, test } from "vitest";
import type { FollowerLedger } from "../../loadtest/checker/follower-ledger.ts";
import { ChannelLedger, type Truth } from "../../loadtest/checker/ledger.ts";

const epoch = "e1";
const at = (offset: number, of = epoch): { epoch: string; offset: number } => ({ epoch: of, offset });

/** Publications 1 to `last`, item n at offset n. */
function history(last: number): Truth["publications"] {
  return Array.from({ length: last }, (_, n) => ({ offset: n + 1, prev: n, item: `i${n + 1}` }));
}

function truth(last: number, changes: Partial<Truth> = {}): Truth {
  return {
    position: at(last),
    publications: history(last),
    historySize: 100,
    publishers: 0,
    lossDeclared: false,
    ...changes,
  };
}

/** One client that follows from the start. */
function following(): { ledger: ChannelLedger; client: FollowerLedger; get: (...offsets: number[]) => void } {
  const ledger = new ChannelLedger("board:1");
  const client = ledger.follower("ada");
  client.subscribing({ again: false });
  client.acked({ position: at(0), recovered: false, publications: [] });
  const get = (...offsets: number[]): void => {
    for (const offset of offsets) client.delivered({ offset, item: `i${offset}` });
  };
  return { ledger, client, get };
}

/** Loses the connection and subscribes again. */
function comeBack(client: FollowerLedger, ack: Partial<Parameters<FollowerLedger["acked"]>[0]>): void {
  client.left("lost");
  client.subscribing({ again: false });
  client.acked({ position: client.position ?? at(0), recovered: true, publications: [], ...ack });
}

function kinds(ledger: ChannelLedger, final: Truth): string[] {
  return ledger.judge(final).violations.map(({ kind }) => kind);
}

test("no violation: a client gets everything once and in order, across reconnects", () => {
  const { ledger, client, get } = following();
  for (const offset of [1, 2, 3, 4]) ledger.acknowledged(at(offset), `i${offset}`);
  get(1, 2);
  comeBack(client, { position: at(4), publications: history(4).slice(2) });
  get(5);
  const verdict = ledger.judge(truth(5));
  expect(verdict).toMatchObject({ acknowledged: 4, gone: 0, deliveries: 5, signals: 0, violations: [] });
});

test("no violation: a jump that prev announces", () => {
  const { ledger, client, get } = following();
  get(1);
  client.delivered({ offset: 1_000, prev: 1, item: "jumped" });
  const publications = [...history(1), { offset: 1_000, prev: 1, item: "jumped" }];
  expect(kinds(ledger, truth(1, { position: at(1_000), publications }))).toEqual([]);
});

test("lost: a publication in history is missing, live or in an ack, without a signal", () => {
  const live = following();
  live.get(1, 3);
  expect(kinds(live.ledger, truth(3))).toEqual(["lost"]);
  const middle = following();
  middle.get(1);
  comeBack(middle.client, { position: at(4), publications: [...history(4).slice(1, 2), ...history(4).slice(3)] });
  expect(kinds(middle.ledger, truth(4))).toEqual(["lost"]);
  const end = following();
  end.get(1);
  comeBack(end.client, { position: at(4), publications: history(4).slice(1, 3) });
  expect(kinds(end.ledger, truth(4))).toEqual(["lost"]);
});

test("lost or forked: a wrong predecessor does not hide a gap", () => {
  const { ledger, client, get } = following();
  get(1);
  client.delivered({ offset: 3, prev: 1, item: "i3" });
  expect(kinds(ledger, truth(3))).toEqual(["forked"]);
});

test("behind: the last publication is missing, or the client no longer follows", () => {
  const tail = following();
  tail.get(1, 2);
  expect(kinds(tail.ledger, truth(3))).toEqual(["behind"]);
  const away = following();
  away.get(1, 2, 3);
  away.client.left("revoked");
  expect(kinds(away.ledger, truth(3))).toEqual(["behind"]);
  const otherEpoch = following();
  otherEpoch.get(1);
  expect(kinds(otherEpoch.ledger, truth(1, { position: at(1, "e2"), lossDeclared: true }))).toEqual(["behind"]);
});

test("doubled: a publication comes twice, live or with an ack", () => {
  const live = following();
  live.get(1, 2, 2, 3);
  expect(kinds(live.ledger, truth(3))).toEqual(["doubled"]);
  const older = following();
  older.get(1, 2, 3, 2);
  expect(kinds(older.ledger, truth(3))).toEqual(["doubled"]);
  const acked = following();
  acked.get(1, 2);
  comeBack(acked.client, { position: at(3), publications: history(3).slice(1) });
  expect(kinds(acked.ledger, truth(3))).toEqual(["doubled"]);
});

test("reordered: a publication comes after a later one", () => {
  const { ledger, get } = following();
  get(1, 3, 2);
  expect(kinds(ledger, truth(3)).sort()).toEqual(["lost", "reordered"]);
});

test("forked: clients, publishers and history disagree on the publication at an offset", () => {
  const clients = following();
  const other = clients.ledger.follower("grace");
  other.subscribing({ again: false });
  other.acked({ position: at(0), recovered: false, publications: [] });
  other.delivered({ offset: 1, item: "another" });
  clients.get(1);
  expect(kinds(clients.ledger, truth(1, { publications: [] }))).toEqual(["forked"]);
  const publisher = following();
  publisher.get(1);
  publisher.ledger.acknowledged(at(1), "another");
  expect(kinds(publisher.ledger, truth(1))).toEqual(["forked"]);
  const again = following();
  again.get(1, 2);
  again.client.delivered({ offset: 1, item: "another" });
  expect(kinds(again.ledger, truth(2))).toEqual(["forked", "doubled"]);
  const past = following();
  past.client.delivered({ offset: 1, item: "another" });
  expect(kinds(past.ledger, truth(1))).toEqual(["forked"]);
});

test("unsolicited: a publication comes before the ack or after the subscription", () => {
  const before = following();
  before.client.left("lost");
  before.client.subscribing({ again: false });
  before.client.delivered({ offset: 1, item: "i1" });
  before.client.acked({ position: at(1), recovered: true, publications: history(1) });
  expect(kinds(before.ledger, truth(1))).toEqual(["unsolicited"]);
  const after = following();
  after.client.left("unsubscribed");
  after.get(1);
  comeBack(after.client, { position: at(1), publications: history(1) });
  expect(kinds(after.ledger, truth(1))).toEqual(["unsolicited"]);
  const resync = following();
  resync.client.left("unsubscribed");
  resync.client.resynced(at(0), "epoch_changed");
  comeBack(resync.client, {});
  expect(kinds(resync.ledger, truth(0))).toEqual(["unsolicited"]);
});

test("no violation: publications under way while a subscription is replaced", () => {
  const { ledger, client, get } = following();
  get(1);
  client.subscribing({ again: true });
  get(2);
  client.resynced(at(2), "history_trimmed");
  client.acked({ position: at(2), recovered: true, publications: history(2).slice(1) });
  get(3);
  expect(kinds(ledger, truth(3))).toEqual([]);
});

/** A failover: 3 and 4 are lost, history continues from 2 at 1000. */
const failedOver = truth(2, {
  position: at(1_000),
  publications: [...history(2), { offset: 1_000, prev: 2, item: "after" }],
  lossDeclared: true,
});
const after = { offset: 1_000, prev: 2, item: "after" };

test("no violation: one signal for a lost position, by a resync or by the ack", () => {
  const resync = following();
  resync.get(1, 2, 3, 4);
  resync.client.resynced(at(2), "position_ahead");
  resync.client.delivered(after);
  expect(kinds(resync.ledger, failedOver)).toEqual([]);
  const ack = following();
  ack.get(1, 2, 3);
  comeBack(ack.client, { position: at(1_000), recovered: false, reason: "position_ahead" });
  ack.ledger.acknowledged(at(3), "i3");
  expect(ack.ledger.judge(failedOver)).toMatchObject({ signals: 1, gone: 1, violations: [] });
});

test("unsignalled: the client's position is lost and delivery continues", () => {
  const live = following();
  live.get(1, 2, 3);
  live.client.delivered(after);
  expect(kinds(live.ledger, failedOver)).toEqual(["unsignalled"]);
  const ack = following();
  ack.get(1, 2, 3);
  comeBack(ack.client, { position: at(1_000), publications: [after] });
  expect(kinds(ack.ledger, failedOver)).toEqual(["unsignalled"]);
  const noReason = following();
  noReason.get(1, 2, 3);
  comeBack(noReason.client, { position: at(1_000), recovered: false });
  expect(kinds(noReason.ledger, failedOver)).toEqual(["unsignalled"]);
});

test("falseSignal: a client that lost nothing has to resync", () => {
  const resync = following();
  resync.get(1, 2);
  resync.client.resynced(at(3), "position_ahead");
  expect(kinds(resync.ledger, truth(3))).toEqual(["falseSignal"]);
  const ack = following();
  ack.get(1);
  comeBack(ack.client, { position: at(3), recovered: false, reason: "history_trimmed" });
  expect(kinds(ack.ledger, truth(3))).toEqual(["falseSignal"]);
  const survivor = following();
  const other = survivor.ledger.follower("grace");
  survivor.get(1, 2);
  comeBack(survivor.client, { position: at(4), recovered: false, reason: "position_ahead" });
  comeBack(survivor.client, { position: at(1_000), recovered: false, reason: "position_ahead" });
  other.subscribing({ again: false });
  other.acked({ position: at(1_000), recovered: false, publications: [] });
  expect(kinds(survivor.ledger, failedOver)).toEqual(["falseSignal"]);
  const first = new ChannelLedger("board:1");
  const client = first.follower("ada");
  client.subscribing({ again: false });
  client.acked({ position: at(1), recovered: false, reason: "epoch_changed", publications: [] });
  expect(kinds(first, truth(1))).toEqual(["falseSignal"]);
});

test("doubledSignal: one loss is signalled twice", () => {
  const { ledger, client, get } = following();
  get(1, 2, 3);
  client.resynced(at(2), "position_ahead");
  client.resynced(at(1_000), "position_ahead");
  expect(kinds(ledger, failedOver)).toEqual(["doubledSignal"]);
});

test("a signal is right beyond the trimmed history or the replay limit, one publication less is not", () => {
  for (const [historySize, expected] of [
    [9, []],
    [10, ["falseSignal"]],
  ] as const) {
    const { ledger, client } = following();
    comeBack(client, { position: at(10), recovered: false, reason: "history_trimmed" });
    expect(kinds(ledger, truth(10, { historySize }))).toEqual(expected);
  }
  for (const [last, expected] of [
    [1_001, []],
    [1_000, ["falseSignal"]],
  ] as const) {
    const { ledger, client } = following();
    comeBack(client, { position: at(last), recovered: false, reason: "too_far_behind" });
    expect(kinds(ledger, truth(last, { historySize: 10_000 }))).toEqual(expected);
  }
});

test("a signal may concern history read beyond its position", () => {
  for (const [publishers, expected] of [
    [1, []],
    [0, ["falseSignal"]],
  ] as const) {
    const { ledger, client } = following();
    for (const { offset, item } of history(12)) ledger.acknowledged(at(offset), item);
    comeBack(client, { position: at(10), recovered: false, reason: "history_trimmed" });
    for (const publication of history(13).slice(10)) client.delivered(publication);
    expect(kinds(ledger, truth(13, { historySize: 12, publishers }))).toEqual(expected);
  }
});

test("a new epoch justifies a signal where the old one is gone", () => {
  const { ledger, client, get } = following();
  get(1, 2);
  client.resynced(at(0, "e2"), "epoch_changed");
  client.delivered({ offset: 1, item: "anew" });
  const anew = { position: at(1, "e2"), publications: [{ offset: 1, prev: 0, item: "anew" }] };
  expect(kinds(ledger, truth(0, { ...anew, lossDeclared: true }))).toEqual([]);
  client.resynced(at(0, "e3"), "epoch_changed");
  comeBack(client, { position: at(1, "e2"), recovered: false, reason: "epoch_changed" });
  expect(kinds(ledger, truth(0, { ...anew, lossDeclared: true }))).toEqual(["falseSignal"]);
});

test("vanished: an acknowledged publication is gone, and no loss was declared", () => {
  const hole = { position: at(3), publications: [history(1)[0], { offset: 3, prev: 1, item: "i3" }] } as Partial<Truth>;
  const { ledger, client } = following();
  comeBack(client, { position: at(3), publications: hole.publications ?? [] });
  ledger.acknowledged(at(2), "i2");
  expect(kinds(ledger, truth(3, hole))).toEqual(["vanished"]);
  expect(ledger.judge(truth(3, { ...hole, lossDeclared: true }))).toMatchObject({ gone: 1, violations: [] });
  const elsewhere = following();
  elsewhere.get(1);
  elsewhere.ledger.acknowledged(at(1, "e0"), "i0");
  expect(kinds(elsewhere.ledger, truth(1))).toEqual(["vanished"]);
});

test("no violation: publications trimmed from history", () => {
  const { ledger, client } = following();
  ledger.acknowledged(at(1), "i1");
  const kept = history(300).slice(-100);
  comeBack(client, { position: at(300), recovered: false, reason: "history_trimmed" });
  expect(kinds(ledger, truth(300, { publications: kept }))).toEqual([]);
});
