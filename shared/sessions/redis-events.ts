import type { IdentityKey } from "../protocol/identity-key.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { everySlot, slotOf } from "../redis/slots.ts";
import { maxTaken, overMs, type SessionEvent, takenMs } from "./contract.ts";
import { eventField, eventKeys } from "./keys.ts";

type TakenEvent = [kind: "c" | "d", field: string, record: string];
type TakeReply = [nextMs: number, ...events: TakenEvent[]];

/** The one key says which server runs them. */
const takeScript = script<TakeReply>(new URL("take-events.lua", import.meta.url), 1);
const settleScript = script(new URL("settle-events.lua", import.meta.url), 1);

/** Slots that could not be reached are asked again after this. */
const retryMs = 1_000;

/** The due session events of a fleet. One script call for each Redis, in a cluster one for each slot. */
export class RedisSessionEvents {
  readonly #cells: Cells;

  constructor(cells: Cells) {
    this.#cells = cells;
  }

  async take(slots: readonly number[] = everySlot): Promise<{ events: SessionEvent[]; nextMs: number | undefined }> {
    const groups = this.#cells.groups(slots, async (cell, group) => {
      const prefixes = group.map((slot) => eventKeys(cell.root, slot).prefix);
      return cell.run(takeScript, prefixes[0] ?? "", takenMs, maxTaken, overMs, ...prefixes);
    });
    const outcomes = await Promise.allSettled(groups.map(async ({ replies }) => replies));
    const replies = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? outcome.value : []));
    const failed = outcomes.find(({ status }) => status === "rejected");
    // Slots that cannot be reached keep their events, and delay no others.
    if (replies.length === 0 && failed?.status === "rejected") throw failed.reason;
    if (failed) replies.push([retryMs]);
    const waits = replies.map(([nextMs]) => nextMs).filter((nextMs) => nextMs >= 0);
    return {
      events: replies.flatMap(([, ...events]) => events.map(parseEvent)),
      nextMs: waits.length === 0 ? undefined : Math.min(...waits),
    };
  }

  async settle(events: readonly SessionEvent[], { last }: { last: boolean }): Promise<void> {
    const bySlot = Map.groupBy(events, ({ user }) => slotOf(user));
    await this.#cells.ofSlots([...bySlot.keys()], async (cell, slots) => {
      const values = slots.flatMap((slot) => {
        const { prefix } = eventKeys(cell.root, slot);
        return (bySlot.get(slot) ?? []).flatMap(({ kind, sessionId, user }) => {
          const isLast = last || kind === "disconnected";
          return [prefix, kind === "connected" ? "c" : "d", eventField(sessionId, user), isLast ? 1 : 0];
        });
      });
      return cell.run(settleScript, eventKeys(cell.root, slots[0] ?? 0).prefix, ...values);
    });
  }
}

function parseEvent([kind, field, record]: TakenEvent): SessionEvent {
  const profileAt = record.indexOf("\n");
  const [began, ended, reason = "-"] = record.slice(0, profileAt).split(" ");
  const userAt = field.indexOf(" ");
  const event = {
    sessionId: field.slice(0, userAt),
    user: field.slice(userAt + 1) as IdentityKey,
    profile: record.slice(profileAt + 1),
  };
  if (kind === "c") return { kind: "connected", at: Number(began), ...event };
  return { kind: "disconnected", at: Number(ended), ...(reason !== "-" && { reason }), ...event };
}
