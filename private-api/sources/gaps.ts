/**
 * Ids that MySQL has given and not shown yet. Auto-increment ids are drawn at INSERT and seen at COMMIT: an id below the newest one may
 * belong to a transaction that is still open, or to one that was rolled back. Pure.
 *
 * A gap is closed when its rows appear; or else once everything that was under way soon after the gap was seen has ended, and a later
 * read still finds nothing. Under way are transactions, and statements: a statement draws its id before its transaction is listed.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";
import { SourceRefused } from "./contract.ts";

/** From a gap to the note of what is under way, and from the end of that to the last read: more than the 0.1 s for which the server keeps its list. */
export const settleMs = 300;
/** With so many gaps no new rows are read until some are closed. */
export const maxGaps = 1_000;

const digits = Type.String({ pattern: "^[0-9]{1,20}$" });
const Gap = Type.Object(
  {
    /** First and last id. */
    from: digits,
    to: digits,
    /** The list of what may own ids of the gap, once it is known. */
    list: Type.Optional(Type.Integer()),
  },
  { additionalProperties: false },
);
const OpenList = Type.Object(
  {
    number: Type.Integer(),
    /** Texts of {@link UnderWay}. */
    open: Type.Array(Type.String()),
  },
  { additionalProperties: false },
);
const Position = Type.Object(
  { high: digits, gaps: Type.Array(Gap), lists: Type.Array(OpenList) },
  { additionalProperties: false },
);
export type Position = Static<typeof Position>;
export type Gap = Position["gaps"][number];
type OpenList = Position["lists"][number];
const validator = Compile(Position);

/** @throws SourceRefused */
export function parsePosition(text: string): Position {
  const value = parseJson(text);
  if (!validator.Check(value)) throw new SourceRefused("the stored cursor is no position in a table of MySQL");
  return value;
}

/** Rows with these ids have appeared. @param ids ascending */
export function withRows({ high, gaps, lists }: Position, ids: readonly string[]): Position {
  const appeared = ids.map(BigInt);
  const before = appeared.filter((id) => id <= BigInt(high));
  const kept = before.length === 0 ? gaps : gaps.flatMap((gap) => without(gap, before));
  const added: Gap[] = [];
  let newest = BigInt(high);
  for (const id of appeared) {
    if (id <= newest) continue;
    if (id > newest + 1n) added.push({ from: String(newest + 1n), to: String(id - 1n) });
    newest = id;
  }
  return { high: String(newest), gaps: [...kept, ...added], lists };
}

/** What is left of a gap; the same object where nothing has appeared. */
function without(gap: Gap, ids: readonly bigint[]): Gap[] {
  const [first, last] = [BigInt(gap.from), BigInt(gap.to)];
  const inside = ids.filter((id) => id >= first && id <= last);
  if (inside.length === 0) return [gap];
  const left: Gap[] = [];
  let next = first;
  for (const id of [...inside, last + 1n]) {
    if (id > next) left.push({ ...gap, from: String(next), to: String(id - 1n) });
    next = id + 1n;
  }
  return left;
}

/** Since when, by `performance.now()`, a gap is known, or a list is empty. Not stored: a new reader waits again. */
export type Since = WeakMap<Gap | OpenList, number>;

/** What is under way in the server at one moment. */
export interface UnderWay {
  /** `connection@start`, as the server writes the time. */
  readonly transactions: ReadonlySet<string>;
  /** By connection: when its statement began, in whole Unix seconds, give or take one. */
  readonly statements: ReadonlyMap<string, number>;
}

/**
 * Takes what is under way, read before the rows are.
 * @returns the gaps that go on, and those to close where the rows that are read next have none of their ids
 */
export function withTransactions(
  { high, gaps, lists }: Position,
  underWay: UnderWay,
  { since, now }: { since: Since; now: number },
): { position: Position; closing: ReadonlySet<Gap> } {
  const isSettled = (known: Gap | OpenList): boolean => {
    const began = since.get(known) ?? now;
    since.set(known, began);
    return now - began >= settleMs;
  };
  const shorter = lists.map((list) => withoutEnded(list, underWay));
  const ended = new Set(
    shorter.filter((list) => list.open.length === 0 && isSettled(list)).map(({ number }) => number),
  );
  const added: OpenList = { number: Math.max(0, ...lists.map(({ number }) => number)) + 1, open: textsOf(underWay) };
  const kept = gaps.map((gap) => (gap.list === undefined && isSettled(gap) ? { ...gap, list: added.number } : gap));
  const used = new Set(kept.map(({ list }) => list));
  return {
    position: { high, gaps: kept, lists: [...shorter, added].filter(({ number }) => used.has(number)) },
    closing: new Set(kept.filter(({ list }) => list !== undefined && ended.has(list))),
  };
}

function textsOf({ transactions, statements }: UnderWay): string[] {
  return [...transactions, ...[...statements].map(([connection, start]) => `${connection}#${start}`)];
}

/** The same object where nothing has ended. */
function withoutEnded(list: OpenList, underWay: UnderWay): OpenList {
  const left = [...new Set(list.open.flatMap((text) => leftOf(text, underWay)))];
  const isSame = left.length === list.open.length && left.every((text, at) => text === list.open[at]);
  return isSame ? list : { ...list, open: left };
}

/** A statement that has ended may have left a transaction of its connection open. */
function leftOf(text: string, { transactions, statements }: UnderWay): string[] {
  const [, connection, start] = /^(\d+)#(\d+)$/.exec(text) ?? [];
  if (connection === undefined) return transactions.has(text) ? [text] : [];
  const running = statements.get(connection);
  if (running !== undefined && Math.abs(running - Number(start)) <= 1) return [text];
  return [...transactions].filter((transaction) => transaction.startsWith(`${connection}@`));
}
