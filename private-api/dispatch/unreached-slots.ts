import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";

const againMs = 250;

/** Slots whose ready queues are not known, because they could not be reached: the dispatcher looks at them again soon. */
export class UnreachedSlots {
  readonly #look: (slots: readonly number[]) => Promise<void>;
  readonly #errors: ContainedErrors;
  readonly #slots = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #stopped = false;

  /** @param look must {@link add} slots again that it still cannot reach */
  constructor(look: (slots: readonly number[]) => Promise<void>, errors: ContainedErrors) {
    this.#look = look;
    this.#errors = errors;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  add(slots: readonly number[]): void {
    for (const slot of slots) this.#slots.add(slot);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#timer || this.#looking || this.#stopped || this.#slots.size === 0) return;
    this.#timer = setTimeout(() => this.#errors.contain("store", () => this.#lookAgain()), againMs);
  }

  async #lookAgain(): Promise<void> {
    this.#timer = undefined;
    const slots = [...this.#slots];
    this.#slots.clear();
    this.#looking = true;
    try {
      await this.#look(slots);
    } finally {
      this.#looking = false;
      this.#schedule();
    }
  }
}
