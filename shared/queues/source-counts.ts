/** Counts what waits of sources: those that are asked for in one turn of the event loop are counted together. */

/** In one script call: about 2 ms of Redis where items of each wait in every slot. */
const countedAtOnce = 50;

interface Asked {
  readonly source: string;
  readonly resolve: (items: number) => void;
  readonly reject: (error: unknown) => void;
}

export class SourceCounts {
  readonly #count: (sources: readonly string[]) => Promise<readonly number[]>;
  #asked: Asked[] = [];

  /** @param count one script call for each Redis */
  constructor(count: (sources: readonly string[]) => Promise<readonly number[]>) {
    this.#count = count;
  }

  async of(source: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ source, resolve, reject });
      if (this.#asked.length === 1) setImmediate(() => this.#flush());
      else if (this.#asked.length === countedAtOnce) this.#flush();
    });
  }

  #flush(): void {
    const asked = this.#asked;
    this.#asked = [];
    if (asked.length === 0) return;
    this.#count(asked.map(({ source }) => source)).then(
      (counts) => {
        for (const [at, { resolve }] of asked.entries()) resolve(counts[at] ?? 0);
      },
      (error: unknown) => {
        for (const { reject } of asked) reject(error);
      },
    );
  }
}
