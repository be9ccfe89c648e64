/**
 * Moves slots between cells, one move at a time, as the map of cells records it. Each step is recorded before it is taken. After a
 * crash any private API continues: at `preparing` from the start; at `closed` it switches where the copy is complete, and opens the
 * slots again where it is not; at `switched` and `aborting` it clears what is left over.
 */
import { changeMap } from "../../shared/cells/change-map.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { MoverLease } from "../../shared/cells/mover-lease.ts";
import { clearSlots, endArrival, isSealed, SlotCopy } from "../../shared/cells/slot-copy.ts";
import type { CellMap, MoveStep, SlotMove } from "../../shared/redis/cell-map.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import type { RedisConnections } from "../../shared/redis/connections.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";

const lookMs = 250;
const renewMs = 1_000;
/** Processes report once a second which map they follow. */
const followMs = 15_000;
const askProcessesMs = 100;
/** The slots open again where what is left has not been copied within this time. */
const closedMs = 3_000;
/** Pauses after failures of one move. */
const retryMs = [500, 1_000, 2_000, 5_000];

export interface CellMoverOptions {
  cells: Cells;
  maps: CellMaps;
  /** Slots of a move have been closed for so long. */
  onClosed: (closedMs: number) => void;
  errors: ContainedErrors;
  logger: Logger;
}

export class CellMover implements Service {
  readonly #options: CellMoverOptions;
  readonly #lease: MoverLease;
  #timers: NodeJS.Timeout[] = [];
  #working: Promise<void> | undefined;
  #hasLease = false;
  #failures = { move: 0, count: 0, retryAt: 0 };
  #stopped = false;

  constructor(options: CellMoverOptions) {
    this.#options = options;
    this.#lease = new MoverLease(options.cells.fleet);
  }

  async start(): Promise<void> {
    const { errors, cells } = this.#options;
    if (!cells.isRouted) return;
    this.#timers = [errors.every(lookMs, () => this.#look()), errors.every(renewMs, () => this.#renew())];
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#working;
    if (this.#hasLease) await this.#lease.giveUp().catch(() => undefined);
  }

  #look(): void {
    const { map } = this.#options.maps;
    const move = currentMove(map);
    if (!move || this.#working || this.#stopped) return;
    if (this.#failures.move === move.id && performance.now() < this.#failures.retryAt) return;
    this.#working = this.#work(move, map.version).finally(() => (this.#working = undefined));
  }

  async #renew(): Promise<void> {
    if (!this.#hasLease) return;
    this.#hasLease = await this.#lease.take().catch(() => false);
    if (!this.#hasLease || currentMove(this.#options.maps.map) || this.#working) return;
    this.#hasLease = false;
    await this.#lease.giveUp().catch(() => undefined);
  }

  async #work(move: SlotMove, version: number): Promise<void> {
    try {
      this.#hasLease = await this.#lease.take();
      if (this.#hasLease) await this.#take(move, version);
    } catch (error) {
      await this.#failed(move, error as Error);
    }
  }

  async #failed(move: SlotMove, error: Error): Promise<void> {
    const { logger } = this.#options;
    const count = this.#failures.move === move.id ? this.#failures.count + 1 : 1;
    const pauseMs = retryMs[Math.min(count, retryMs.length) - 1] ?? 0;
    this.#failures = { move: move.id, count, retryAt: performance.now() + pauseMs };
    logger.warn({ err: error, ...shown(move), retryInMs: pauseMs }, "a step of a move of slots failed");
    // Closed slots are not left so: calls wait for them.
    const reopened = move.step === "closed" ? undefined : "preparing";
    await this.#record(move.id, (now) => {
      const step = now.step === "closed" ? (reopened ?? now.step) : now.step;
      return { ...now, step, error: error.message.slice(0, 200) };
    }).catch(() => undefined);
  }

  /** What comes next. @param version of the map that has the move at this step */
  async #take(move: SlotMove, version: number): Promise<void> {
    const target = this.#cell(move.to);
    switch (move.step) {
      case "waiting":
        await this.#requireCells(move);
        await this.#step(move, "preparing");
        return;
      case "preparing":
        return this.#copy(move, version);
      case "closed":
        // The process that closed it is gone, or could not record the outcome.
        await this.#step(move, (await isSealed(target, move)) ? "switched" : "preparing", version);
        return;
      case "switched":
        await clearSlots(this.#cell(move.from), move);
        await this.#end(move, "slots have moved");
        return;
      case "aborting":
        await endArrival(target, move, version);
        await clearSlots(target, move);
        await this.#end(move, "a move of slots was aborted");
    }
  }

  async #copy(move: SlotMove, version: number): Promise<void> {
    const { logger, onClosed } = this.#options;
    const copy = new SlotCopy({ source: this.#cell(move.from), target: this.#cell(move.to), move });
    try {
      await copy.copyWhileOpen(version);
      await this.#followed(version);
      const closedAt = performance.now();
      const closed = await this.#step(move, "closed");
      if (!closed) return;
      await this.#options.cells.raiseFence(move.from, closed.version);
      const finishing = copy.finish(closed.version).then(() => true);
      // It may fail after the deadline, when nobody waits for it.
      finishing.catch(() => undefined);
      const finished = await withDeadline(finishing, closedMs, () => false);
      if (!finished) throw new Error(`the rest could not be copied within ${closedMs} ms`);
      const switched = await this.#step({ ...move, step: "closed" }, "switched", closed.version);
      if (!switched) return;
      const pausedMs = Math.round(performance.now() - closedAt);
      onClosed(pausedMs);
      logger.info({ ...shown(move), keys: copy.copied, pausedMs }, "slots have switched to another cell");
    } finally {
      await copy.stop();
    }
  }

  /** @throws where a live process does not know one of the cells. */
  async #requireCells({ from, to }: SlotMove): Promise<void> {
    const lacking = (await this.#options.maps.processes()).filter(
      ({ cells }) => !cells.includes(from) || !cells.includes(to),
    );
    if (lacking.length === 0) return;
    throw new Error(`${lacking.length} processes do not know cell ${to}: add it to their REDIS_CELLS`);
  }

  /** Waits until every live process has subscribed at the destination, so that no message is missed. */
  async #followed(version: number): Promise<void> {
    const deadline = performance.now() + followMs;
    for (;;) {
      const behind = (await this.#options.maps.processes()).filter((process) => process.version < version);
      if (behind.length === 0) return;
      if (performance.now() > deadline || this.#stopped) {
        throw new Error(`${behind.length} processes have not subscribed at the destination`);
      }
      await new Promise((resolve) => setTimeout(resolve, askProcessesMs));
    }
  }

  /**
   * @param version of the only map in which the step may be taken: slots may have opened, and been closed by another attempt, since.
   * @returns undefined where the move is not at that step any more, or the map has another version.
   */
  async #step(move: SlotMove, step: MoveStep, version?: number): Promise<CellMap | undefined> {
    const { logger } = this.#options;
    const map = await this.#change(move, (now, { owners, version: present }) => {
      if (version !== undefined && version !== present) return undefined;
      const { error: _, ...others } = now;
      const next = { ...others, step };
      if (step === "preparing") {
        // Another order of the same slots may have been carried out first. An attempt to copy deletes what the destination has of a slot.
        const slots = now.slots.filter((slot) => owners[slot] === now.from);
        return { owners, move: slots.length === 0 ? undefined : { ...next, slots } };
      }
      if (step !== "switched") return { owners, move: next };
      const moved = new Set(now.slots);
      return { owners: owners.map((owner, slot) => (moved.has(slot) ? move.to : owner)), move: next };
    });
    if (!map) return undefined;
    if (map.moves.some(({ id }) => id === move.id)) {
      logger.info({ ...shown(move), step, version: map.version }, "a move of slots takes a step");
    } else logger.info(shown(move), "a move of slots ends, because another one has moved them");
    return map;
  }

  async #end(move: SlotMove, message: string): Promise<void> {
    await this.#change(move, (_, { owners }) => ({ owners, move: undefined }));
    this.#options.logger.info(shown(move), message);
  }

  /** Changes the move where it is still at the step that the caller knows. @returns the new map; undefined: nothing was changed */
  async #change(
    { id, step }: SlotMove,
    edit: (now: SlotMove, map: CellMap) => { owners: readonly string[]; move: SlotMove | undefined } | undefined,
  ): Promise<CellMap | undefined> {
    // Another process may take the step between two tries.
    let isEdited = false;
    const map = await changeMap(this.#options.maps, (map) => {
      const now = map.moves.find((known) => known.id === id);
      const edited = now?.step === step ? edit(now, map) : undefined;
      isEdited = edited !== undefined;
      if (!edited) return undefined;
      const { owners, move } = edited;
      return { owners, moves: map.moves.flatMap((known) => (known === now ? (move ?? []) : known)) };
    });
    return isEdited ? map : undefined;
  }

  async #record(id: number, edit: (move: SlotMove) => SlotMove): Promise<void> {
    await changeMap(this.#options.maps, ({ owners, moves }) => ({
      owners,
      moves: moves.map((move) => (move.id === id ? edit(move) : move)),
    }));
  }

  #cell(name: string): RedisConnections {
    const cell = this.#options.cells.all.get(name);
    if (!cell) throw new TidegateError("broker_unavailable", `REDIS_CELLS has no cell ${name}`);
    return cell;
  }
}

/** Moves that have begun come first. */
function currentMove({ moves }: CellMap): SlotMove | undefined {
  return moves.find(({ step }) => step !== "waiting") ?? moves[0];
}

function shown({ id, slots, from, to }: SlotMove): object {
  return { move: id, slots: slots.length, from, to };
}
