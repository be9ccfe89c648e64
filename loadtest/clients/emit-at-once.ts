import type { Socket } from "socket.io-client";

export interface EmitOptions {
  readonly event: string;
  /** @param number of the event, from 0 */
  readonly data: (number: number) => unknown;
  /** Events that wait for their ack at the same time, over all sockets. */
  readonly atOnce: number;
  /** @param acked number of acks so far; false ends it once the events under way are acknowledged */
  readonly continues: (acked: number) => boolean;
}

export interface Emitted {
  /** Of each event until its ack, ms. */
  readonly latencies: number[];
  /** Acks with an error. */
  readonly failed: number;
}

/** Emits events and waits for their acks, a fixed number at the same time. */
export async function emitAtOnce(
  sockets: readonly Socket[],
  { event, data, atOnce, continues }: EmitOptions,
): Promise<Emitted> {
  const latencies: number[] = [];
  let [failed, emitted] = [0, 0];
  const emitter = async (socket: Socket | undefined): Promise<void> => {
    while (socket && continues(latencies.length)) {
      const startedAt = performance.now();
      const ack = (await socket.emitWithAck(event, data(emitted++))) as { ok: boolean };
      latencies.push(performance.now() - startedAt);
      if (!ack.ok) failed++;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, async (_, i) => emitter(sockets[i % sockets.length])));
  return { latencies, failed };
}
