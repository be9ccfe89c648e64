import fc from "fast-check";
import { expect, test } from "vitest";
import { type RequestKind, ServicePlaces } from "../../shared/services/service-places.ts";

/** Longer than any test. */
const waitMs = 60_000;
const everyHook = ["connect", "subscribe"] as const;

/** Requests in the order of their admission. */
class Requests {
  readonly places: ServicePlaces;
  readonly admitted: RequestKind[] = [];
  readonly refused: RequestKind[] = [];

  constructor(places: ServicePlaces) {
    this.places = places;
  }

  async come(kind: RequestKind, times = 1, bytes = 1): Promise<void> {
    for (let i = 0; i < times; i++) {
      void this.places.acquire(kind, bytes, waitMs).then((entry) => {
        (entry === "admitted" ? this.admitted : this.refused).push(kind);
      });
    }
    await settled();
  }

  async leave(kind: RequestKind, times = 1): Promise<void> {
    for (let i = 0; i < times; i++) this.places.release(kind);
    await settled();
  }

  count(kind: RequestKind): number {
    return this.admitted.filter((admitted) => admitted === kind).length;
  }
}

async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test("RELAY-7: hanging calls leave places for hooks, and subscribe hooks for connect hooks", async () => {
  const requests = new Requests(new ServicePlaces({ maxInFlight: 64, hooks: everyHook }));
  await requests.come("call", 500);
  expect(requests.count("call")).toBe(56);
  await requests.come("subscribe", 500);
  expect(requests.count("subscribe")).toBe(4);
  await requests.come("connect", 500);
  expect(requests.count("connect")).toBe(4);
});

test("CALL-12: without hooks all places are for calls", async () => {
  const requests = new Requests(new ServicePlaces({ maxInFlight: 64, hooks: [] }));
  await requests.come("call", 100);
  expect(requests.count("call")).toBe(64);
  await requests.leave("call", 10);
  expect(requests.count("call")).toBe(74);
});

test("RELAY-7: hooks precede waiting calls, which keep a sixteenth of the places", async () => {
  const requests = new Requests(new ServicePlaces({ maxInFlight: 16, hooks: ["connect"] }));
  await requests.come("connect", 16);
  await requests.come("call", 10);
  await requests.come("connect", 10);
  expect(requests.count("call")).toBe(0);
  await requests.leave("connect", 5);
  expect([requests.count("call"), requests.count("connect")]).toEqual([1, 20]);
});

test("RELAY-7: with a single place the hook is next", async () => {
  const requests = new Requests(new ServicePlaces({ maxInFlight: 1, hooks: everyHook }));
  await requests.come("call", 3);
  await requests.come("subscribe");
  await requests.come("connect");
  await requests.leave("call");
  await requests.leave("connect");
  await requests.leave("subscribe");
  expect(requests.admitted).toEqual(["call", "connect", "subscribe", "call"]);
});

test("RELAY-7: at most 1,000 requests and 8 MiB of each kind wait", async () => {
  const requests = new Requests(new ServicePlaces({ maxInFlight: 1, hooks: everyHook }));
  await requests.come("call", 1_001);
  expect(requests.refused).toEqual([]);
  await requests.come("call");
  expect(requests.refused).toEqual(["call"]);
  await requests.come("subscribe", 128, 64 * 1024);
  expect(requests.refused).toEqual(["call"]);
  await requests.come("subscribe");
  expect(requests.refused).toEqual(["call", "subscribe"]);
});

test("RELAY-7: a request that waits in vain gives its bytes back", async () => {
  const places = new ServicePlaces({ maxInFlight: 1, hooks: everyHook });
  expect(await places.acquire("call", 1, 1)).toBe("admitted");
  for (let i = 0; i < 2; i++) expect(await places.acquire("call", 8 * 1024 * 1024, 1)).toBe("late");
});

test("CALL-12: at most maxInFlight requests are under way, and every waiting one gets a place", async () => {
  const kind = fc.constantFrom<RequestKind>("call", "queued", "subscribe", "connect");
  const steps = fc.array(fc.tuple(kind, fc.boolean()), { maxLength: 200 });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 40 }),
      fc.subarray([...everyHook]),
      steps,
      async (most, hooks, given) => {
        const requests = new Requests(new ServicePlaces({ maxInFlight: most, hooks }));
        const inFlight = { call: 0, queued: 0, subscribe: 0, connect: 0 };
        const came = { call: 0, queued: 0, subscribe: 0, connect: 0 };
        const look = (): void => {
          for (const name of Object.keys(inFlight) as RequestKind[]) inFlight[name] = requests.count(name) - left[name];
          expect(inFlight.call + inFlight.queued + inFlight.subscribe + inFlight.connect).toBeLessThanOrEqual(most);
        };
        const left = { call: 0, queued: 0, subscribe: 0, connect: 0 };
        const leave = async (name: RequestKind): Promise<void> => {
          left[name]++;
          await requests.leave(name);
          look();
        };
        for (const [name, comes] of given) {
          if (comes) {
            came[name]++;
            await requests.come(name);
            look();
          } else if (inFlight[name] > 0) await leave(name);
        }
        for (let turn = 0; turn < given.length; turn++) {
          const busy = (Object.keys(inFlight) as RequestKind[]).find((name) => inFlight[name] > 0);
          if (busy) await leave(busy);
        }
        expect({
          call: requests.count("call"),
          queued: requests.count("queued"),
          subscribe: requests.count("subscribe"),
          connect: requests.count("connect"),
        }).toEqual(came);
      },
    ),
    { numRuns: 100 },
  );
});

test("CALL-12: requests under way count on where maxInFlight or the hooks of the service change", async () => {
  const requests = new Requests(new ServicePlaces({ maxInFlight: 10, hooks: [] }));
  await requests.come("call", 14);
  expect(requests.count("call")).toBe(10);
  requests.places.setBounds({ maxInFlight: 11, hooks: [] });
  await settled();
  expect(requests.count("call"), "one place more").toBe(11);
  requests.places.setBounds({ maxInFlight: 5, hooks: [] });
  await requests.leave("call", 6);
  expect(requests.count("call")).toBe(11);
  await requests.leave("call");
  expect(requests.count("call")).toBe(12);
});
