/** Minimises a JSON value as long as it still reproduces a finding (Zeller's delta debugging). */
type Path = readonly (string | number)[];

export interface MinimiseOptions<T> {
  readonly reproduces: (candidate: T) => Promise<boolean>;
  readonly isValid: (candidate: unknown) => candidate is T;
  readonly maxTries: number;
  /** By `performance.now()`. */
  readonly deadline: number;
}

export async function minimise<T>(value: T, options: MinimiseOptions<T>): Promise<T> {
  return new Minimising(value, options).run();
}

class Minimising<T> {
  #value: T;
  readonly #options: MinimiseOptions<T>;
  #tries = 0;
  /** Candidates that do not reproduce the finding. */
  readonly #failed = new Set<string>();

  constructor(value: T, options: MinimiseOptions<T>) {
    this.#value = value;
    this.#options = options;
  }

  async run(): Promise<T> {
    while ((await this.#reduce([])) && this.#mayTry);
    return this.#value;
  }

  get #mayTry(): boolean {
    return this.#tries < this.#options.maxTries && performance.now() < this.#options.deadline;
  }

  /** @returns whether the value became smaller. */
  async #reduce(path: Path): Promise<boolean> {
    let changed = false;
    while (await this.#step(path)) changed = true;
    const node = at(this.#value, path);
    if (typeof node !== "object" || node === null) return changed;
    for (const key of Object.keys(node)) {
      const child: Path = [...path, Array.isArray(node) ? Number(key) : key];
      if (await this.#reduce(child)) changed = true;
    }
    return changed;
  }

  async #step(path: Path): Promise<boolean> {
    for (const simpler of simplerThan(at(this.#value, path))) {
      if (!this.#mayTry) return false;
      const candidate: unknown = replaced(this.#value, path, simpler);
      const text = JSON.stringify(candidate);
      if (this.#failed.has(text) || !this.#options.isValid(candidate)) continue;
      this.#tries++;
      if (await this.#options.reproduces(candidate)) {
        this.#value = candidate;
        return true;
      }
      this.#failed.add(text);
    }
    return false;
  }
}

/** Simpler values, the smallest first. */
function* simplerThan(node: unknown): Generator {
  if (typeof node === "string") {
    for (const [from, until] of cuts(node.length)) yield node.slice(0, from) + node.slice(until);
  } else if (Array.isArray(node)) {
    for (const [from, until] of cuts(node.length)) yield [...node.slice(0, from), ...node.slice(until)];
  } else if (typeof node === "number") {
    for (const smaller of [0, 1, Math.floor(node / 16), Math.floor(node / 2), Math.floor(node * 0.9)]) {
      if (smaller < node) yield smaller;
    }
  } else if (typeof node === "object" && node !== null) {
    for (const key of Object.keys(node))
      yield Object.fromEntries(Object.entries(node).filter(([name]) => name !== key));
  }
}

/** Everything, halves, quarters and so on; down to single items where there are at most 200. */
function* cuts(length: number): Generator<[from: number, until: number]> {
  const smallest = length > 200 ? Math.ceil(length / 32) : 1;
  for (let size = length; size >= smallest; size = Math.floor(size / 2)) {
    for (let from = 0; from < length; from += size) yield [from, Math.min(length, from + size)];
    if (size === 1) return;
  }
}

function at(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((node, key) => (node as Record<string | number, unknown> | undefined)?.[key], value);
}

function replaced(value: unknown, path: Path, by: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return by;
  const changed = replaced((value as Record<string | number, unknown>)[key], rest, by);
  if (Array.isArray(value)) return value.map((item: unknown, index) => (index === key ? changed : item));
  return { ...(value as object), [key]: changed };
}
