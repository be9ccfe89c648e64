import type { Redis } from "ioredis";
import { hashTag } from "./client.ts";

/** Topics in one SSUBSCRIBE, so that no single command holds the connection long. */
const batchSize = 100;

/** The topics that one connection is to be subscribed to; sends their commands. */
export class TopicSet {
  readonly #topics = new Set<string>();

  get all(): ReadonlySet<string> {
    return this.#topics;
  }

  /** Without a command: {@link restore} subscribes to them. */
  add(topics: readonly string[]): void {
    for (const topic of topics) this.#topics.add(topic);
  }

  /** All of them, or none. */
  async subscribe(client: Redis, topics: readonly string[]): Promise<void> {
    this.add(topics);
    let sent = 0;
    try {
      while (sent < topics.length) {
        const batch = topics.slice(sent, sent + batchSize);
        sent += batch.length;
        await client.ssubscribe(...batch);
      }
    } catch (error) {
      // Redis executes what timed out once it runs again.
      this.release(client, topics.slice(0, sent));
      for (const topic of topics.slice(sent)) this.#topics.delete(topic);
      throw error;
    }
  }

  async unsubscribe(client: Redis | undefined, topic: string): Promise<void> {
    this.#topics.delete(topic);
    await client?.sunsubscribe(topic);
  }

  /** Drops topics without waiting for the server, which may have dropped them already. */
  release(client: Redis | undefined, topics: readonly string[]): void {
    for (const topic of topics) {
      this.#topics.delete(topic);
      if (client?.status === "ready") client.sunsubscribe(topic).catch(() => undefined);
    }
  }

  /** Subscribes a new connection to all of them, and to one more. */
  async restore(client: Redis, further: string): Promise<void> {
    // Skips topics that were unsubscribed in the meantime.
    const isWanted = (topic: string): boolean => topic === further || this.#topics.has(topic);
    const byTag = Map.groupBy([...this.#topics, further], hashTag);
    for (const topics of byTag.values()) {
      for (let at = 0; at < topics.length; at += batchSize) {
        const batch = topics.slice(at, at + batchSize).filter(isWanted);
        if (batch.length > 0) await client.ssubscribe(...batch);
      }
    }
  }
}
