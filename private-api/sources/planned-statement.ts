/** A statement of PostgreSQL that runs often: the server plans it once per session, which takes longer than running it. */
import { createHash } from "node:crypto";
import type { Client } from "pg";

/** The statement of that name is not there, or another one is. */
const lostNames = new Set(["26000", "42P05"]);

export class PlannedStatement<Row extends Record<string, string | null>> {
  readonly #client: Client;
  readonly #text: string;
  #name: string | undefined;

  constructor(client: Client, text: string) {
    this.#client = client;
    this.#text = text;
    // By its text: sessions of a pooler are shared with other readers, which name statements of their own.
    this.#name = `tidegate_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
  }

  /** A pooler that has another session for each transaction does not know the name in all of them: the statement goes without it then. */
  async run(values: readonly unknown[]): Promise<readonly Row[]> {
    const name = this.#name;
    try {
      const config = { ...(name !== undefined && { name }), text: this.#text, values: [...values] };
      return (await this.#client.query<Row>(config)).rows;
    } catch (error) {
      if (name === undefined || !lostNames.has((error as { code?: string }).code ?? "")) throw error;
      this.#name = undefined;
      return this.run(values);
    }
  }
}
