import { everyChannel, type Withdrawals } from "../../shared/sessions/contract.ts";

/** Grants of one session that count no more. */
export class WithdrawnGrants {
  #withdrawn: Withdrawals = new Map();

  withdraw(withdrawn: Withdrawals): void {
    const merged = new Map(this.#withdrawn);
    // What is heard last may have been said first.
    for (const [name, at] of withdrawn) merged.set(name, Math.max(at, merged.get(name) ?? 0));
    this.#withdrawn = merged;
  }

  /** When those of the channel were withdrawn last; 0: never. */
  at(channel: string): number {
    return Math.max(this.#withdrawn.get(channel) ?? 0, this.#withdrawn.get(everyChannel) ?? 0);
  }
}
