import { randomUUID } from "node:crypto";
import type { Argument } from "../redis/client.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { type Script, script } from "../redis/scripts.ts";
import { arrivalKey } from "./keys.ts";

/** Of one call that restores. A larger value has a call of its own. */
const maxCallBytes = 256 * 1024;

const restoreScript = script<0 | 1>(new URL("restore-keys.lua", import.meta.url), 2);

/**
 * Keys of a script that begins with how a slot arrived. The second one never exists: while a cluster moves the hash slot, it makes Redis refuse the
 * script before it begins.
 */
export function arrivalKeys(root: string, slot: number): [arrival: string, none: string] {
  const arrival = arrivalKey(root, slot);
  return [arrival, `${arrival}:none`];
}

export interface KeyCopy {
  readonly slot: number;
  readonly key: string;
  /** 0: it does not expire. */
  readonly ttlMs: number;
  /** As DUMP gives it. Undefined: the key is gone. */
  readonly value: Buffer | undefined;
}

/** Writes what one attempt copies to the target. Another attempt of the move, by any process, or a later move ends it. */
export class Arrival {
  readonly #target: RedisConnections;
  readonly #move: number;
  readonly #attempt = randomUUID();

  constructor(target: RedisConnections, move: number) {
    this.#target = target;
    this.#move = move;
  }

  /** @param command takes the {@link arrivalKeys} of the slot, and the move and the attempt as its first values. @throws where the attempt has ended: it replies 0. */
  async run(command: Script<0 | 1>, slot: number, ...values: readonly Argument[]): Promise<void> {
    const keys = arrivalKeys(this.#target.root, slot);
    if ((await this.#target.run(command, ...keys, this.#move, this.#attempt, ...values)) === 0) throw superseded();
  }

  async restore(copies: readonly KeyCopy[]): Promise<void> {
    const bySlot = Map.groupBy(copies, ({ slot }) => slot);
    await Promise.all([...bySlot].map(async ([slot, own]) => this.#restore(slot, own)));
  }

  async #restore(slot: number, copies: readonly KeyCopy[]): Promise<void> {
    let values: Argument[] = [];
    let bytes = 0;
    const send = async (): Promise<void> => {
      if (values.length === 0) return;
      const sent = values;
      values = [];
      bytes = 0;
      await this.run(restoreScript, slot, ...sent);
    };
    for (const { key, ttlMs, value } of copies) {
      const size = key.length + (value?.length ?? 0);
      if (bytes + size > maxCallBytes) await send();
      values.push(key, ttlMs, value ?? "");
      bytes += size;
    }
    await send();
  }

  async remove(slot: number, key: string): Promise<void> {
    await this.restore([{ slot, key, ttlMs: 0, value: undefined }]);
  }
}

export function superseded(): Error {
  return new Error("another attempt or a later move of the slots has begun, or the cell has restarted or failed over");
}
