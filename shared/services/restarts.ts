/** For how long requests that were not sent may be repeated, so that a restart of a service fails none. Pure. */

/** About the time in which a service process starts. */
const restartMs = 2_000;
/** A service that refused nothing for so long begins a new outage with the next refusal. */
const forgetMs = 10_000;

interface Outage {
  since: number;
  last: number;
}

export class Restarts {
  /** By address; addresses that take connections have no entry. */
  readonly #outages = new Map<string, Outage>();

  /** The address took no connection. @returns until when a request may be repeated; the past in a longer outage */
  refused(address: string, now: number): number {
    for (const [known, { last }] of this.#outages) if (now - last >= forgetMs) this.#outages.delete(known);
    const outage = this.#outages.get(address) ?? { since: now, last: now };
    outage.last = now;
    this.#outages.set(address, outage);
    return outage.since + restartMs;
  }

  accepted(address: string): void {
    if (this.#outages.size > 0) this.#outages.delete(address);
  }
}
