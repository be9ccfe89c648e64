/** Remembers the first failed check, which the SDK would catch if it were thrown inside a listener. */
export class Violations {
  #first: unknown;

  expect(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#first ??= error;
    }
  }

  throwFirst(): void {
    if (this.#first !== undefined) throw this.#first as Error;
  }
}
