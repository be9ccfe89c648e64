/** Reads the bodies of webhooks, bounded in size, each and together. */
import type { IncomingMessage } from "node:http";
import { networkOf } from "../../shared/http/network.ts";
import { FairPool } from "../../shared/runtime/fair-pool.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

/** Of all bodies that arrive, are checked and stored. A quarter of a second of a full 2 Gbit/s line. */
const maxHeldBytes = 64 * 1024 * 1024;
const crowdedRetryMs = 1_000;
const firstRoomBytes = 4 * 1024;
const noBytes = Buffer.alloc(0);

interface Reading {
  bytes: number;
  readonly giveUp: (error: TidegateError) => void;
}

export interface HeldBody {
  readonly body: Buffer;
  /** Call once the answer is known. */
  readonly release: () => void;
}

/**
 * Where all bodies together exceed the bound, one that has not arrived completely is given up: the oldest of the network with the
 * most of them. Honest bodies arrive in milliseconds, so that is one that a slow or hostile peer holds open.
 */
export class HeldBodies {
  readonly #maxBytes: number;
  readonly #incomplete = new FairPool<Reading>();
  #bytes = 0;

  constructor(maxBytes = maxHeldBytes) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A body that has arrived. @throws TidegateError `payload_too_large` for a body over the limit */
  hold(body: Buffer, limitBytes: number): HeldBody {
    if (body.length > limitBytes) throw tooLarge(limitBytes);
    this.#count(body.length);
    return { body, release: () => (this.#bytes -= body.length) };
  }

  /**
   * @param options.address of the peer; asked where the body does not arrive at once
   * @throws TidegateError `payload_too_large` for a body over the limit, 503 for one that is given up
   */
  async read(request: IncomingMessage, options: { limitBytes: number; address: () => string }): Promise<HeldBody> {
    const { limitBytes, address } = options;
    const statedBytes = Number(request.headers["content-length"]);
    if (statedBytes > limitBytes) throw tooLarge(limitBytes);
    let room: Buffer = noBytes;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const reading: Reading = { bytes: 0, giveUp: reject };
    const release = (): void => {
      this.#bytes -= reading.bytes;
      reading.bytes = 0;
    };
    const onData = (chunk: Buffer): void => {
      if (reading.bytes + chunk.length > limitBytes) return reject(tooLarge(limitBytes));
      if (chunk.length === statedBytes) room = chunk;
      else {
        if (reading.bytes === 0) this.#incomplete.add(reading, networkOf(address()));
        // Copied: a body in chunks of one byte must not cost an object for each.
        if (reading.bytes + chunk.length > room.length) room = enlarged(room, reading.bytes, chunk.length, limitBytes);
        chunk.copy(room, reading.bytes);
      }
      reading.bytes += chunk.length;
      this.#count(chunk.length);
    };
    const onEnd = (): void => resolve();
    const onClose = (): void => {
      if (!request.complete) reject(new TidegateError("invalid_request", "the body ended early"));
    };
    request.on("data", onData).on("end", onEnd).on("close", onClose);
    // What arrives is passed on at once, without a buffer; and Node takes the request for one that was read, and drops nothing of it.
    request.read(0);
    try {
      await promise;
      return { body: room.subarray(0, reading.bytes), release };
    } catch (error) {
      // What still arrives is dropped.
      request.off("data", onData).off("end", onEnd).off("close", onClose);
      release();
      throw error;
    } finally {
      this.#incomplete.delete(reading);
    }
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#maxBytes) this.#incomplete.next?.giveUp(crowded());
  }
}

/** Doubling keeps the copying linear. */
function enlarged(room: Buffer, usedBytes: number, moreBytes: number, limitBytes: number): Buffer {
  const bytes = Math.min(limitBytes, Math.max(firstRoomBytes, 2 * (usedBytes + moreBytes)));
  const larger = Buffer.allocUnsafe(bytes);
  room.copy(larger, 0, 0, usedBytes);
  return larger;
}

function tooLarge(limitBytes: number): TidegateError {
  return new TidegateError("payload_too_large", `the body is larger than ${limitBytes} bytes`);
}

function crowded(): TidegateError {
  const message = "the gateway holds too many webhooks at once";
  return new TidegateError("upstream_unavailable", message, { retryAfterMs: crowdedRetryMs });
}
