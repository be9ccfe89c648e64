/** How long items of queues wait until their work begins. The id of an item is `<group>-<number>`. */
export class Arrivals {
  /** By group, ms. */
  readonly waits = new Map<string, number[]>();
  /** Items whose work began. */
  begun = 0;
  readonly #enqueuedAt = new Map<string, number>();
  readonly #begunAt = new Map<string, number>();

  expect(id: string): void {
    this.#enqueuedAt.set(id, performance.now());
  }

  begin(id: string): void {
    this.begun++;
    const enqueuedAt = this.#enqueuedAt.get(id);
    if (enqueuedAt === undefined) return;
    this.#enqueuedAt.delete(id);
    this.#begunAt.set(id, this.begun);
    const group = id.slice(0, id.lastIndexOf("-"));
    const waits = this.waits.get(group) ?? [];
    this.waits.set(group, waits);
    waits.push(performance.now() - enqueuedAt);
  }

  /** How many items had begun when this one did, itself included. */
  orderOf(id: string): number | undefined {
    return this.#begunAt.get(id);
  }

  /** Expected and not begun. */
  get missing(): number {
    return this.#enqueuedAt.size;
  }
}
