import { expect, test } from "vitest";
import { Seats } from "../../gateway/entrance/seats.ts";
import type { Connection } from "../../gateway/outbox/connection.ts";

/** The part of a connection that seats look at. */
function connection(): Connection {
  return { address: "192.0.2.1", isOpen: true } as Connection;
}

function seats(): { seats: Seats; evicted: Connection[] } {
  const evicted: Connection[] = [];
  const address = { connections: 0, connectsPerSecond: 0 };
  const bounds = { maxConnections: 2, maxUnseated: 2, address };
  return { seats: new Seats(bounds, (oldest) => evicted.push(oldest)), evicted };
}

test("ADM-6: as many connections without a seat as allowed stay; one more replaces the oldest", () => {
  const { seats: own, evicted } = seats();
  const [first, second] = [connection(), connection()];
  own.addUnseated(first);
  expect(own.makeRoom()).toBe(true);
  own.addUnseated(second);
  expect(evicted).toEqual([]);
  expect(own.makeRoom()).toBe(true);
  expect(evicted).toEqual([first]);
});

test("END-5: a seat that is released twice is given back once", () => {
  const { seats: own } = seats();
  const [seat] = [own.take(connection(), 0), own.take(connection(), 0)];
  expect(own.isFull).toBe(true);
  seat?.release();
  seat?.release();
  expect(own.taken).toBe(1);
});
