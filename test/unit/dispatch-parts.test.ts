/** What a dispatcher decides with: turns, limits, circuits, shares. */
import { describe, expect, test } from "vitest";
import { AdaptiveLimit } from "../../private-api/dispatch/adaptive-limit.ts";
import { judge, retryDelayMs } from "../../private-api/dispatch/delivery.ts";
import { type Offer, ReadyLanes } from "../../private-api/dispatch/ready-lanes.ts";
import { ServiceState } from "../../private-api/dispatch/service-states.ts";
import { Workers } from "../../private-api/dispatch/workers.ts";
import { ServiceCircuits } from "../../private-api/upstream/service-circuits.ts";
import type { ReadyQueues } from "../../shared/queues/contract.ts";
import { type AttemptResult, Circuit } from "../../shared/services/circuit.ts";

function ready(own: Partial<ReadyQueues>): ReadyQueues {
  return { slot: 1, class: "messages", service: "s", attempt: "first", tenant: "", ...own };
}

const offer: Offer = { capacity: 100, share: Infinity, batch: 1 };
const plenty = { free: () => 100, workers: () => 100, offer: (): Offer => offer, doubtful: () => 0 };

describe("turns", () => {
  test("DISP-8: with room for one queue at a time, tenants and services are chosen in turn", () => {
    const lanes = new ReadyLanes();
    for (let slot = 0; slot < 50; slot++) lanes.add(ready({ tenant: "noisy", slot }));
    lanes.add(ready({ tenant: "quiet", slot: 7 }));
    lanes.add(ready({ service: "other", tenant: "alone", slot: 9 }));
    const chosen: string[] = [];
    for (let turn = 0; turn < 8; turn++) {
      const requests = lanes.choose({ ...plenty, free: () => 1 });
      chosen.push(...requests.map(({ tenant }) => tenant));
    }
    expect(chosen).toEqual(["noisy", "alone", "quiet", "alone", "noisy", "alone", "quiet", "alone"]);
  });

  test("DISP-8: a tenant's first queue begins ahead of several that other slots have in one turn", () => {
    const lanes = new ReadyLanes();
    lanes.add(ready({ tenant: "noisy", slot: 1 }));
    lanes.choose(plenty);
    lanes.claimed(ready({ tenant: "noisy", slot: 1 }), true);
    lanes.add(ready({ tenant: "quiet", slot: 2 }));
    expect(lanes.choose({ ...plenty, free: () => 9 }).map(({ tenant }) => tenant)).toEqual(["quiet", "noisy"]);
  });

  test("DISP-8: no more queues are chosen than workers and the service have room for", () => {
    const lanes = new ReadyLanes();
    for (let slot = 0; slot < 9; slot++) lanes.add(ready({ slot }));
    const queues = (room: Partial<typeof plenty>): number =>
      lanes.choose({ ...plenty, ...room }).reduce((sum, { maxQueues }) => sum + maxQueues, 0);
    expect(queues({ free: () => 4 })).toBe(4);
    expect(queues({ offer: () => ({ ...offer, capacity: 3 }) })).toBe(3);
    expect(queues({ offer: () => ({ ...offer, capacity: 0 }) })).toBe(0);
    expect(queues({ free: () => 20 })).toBe(20);
  });

  describe("lanes that want one service", () => {
    /** So many queues of each lane are ready at any time, and the service has one free place at a time. */
    function chosenOf(turns: number, weights: Readonly<Record<string, number>>): Map<string, number> {
      const lanes = new ReadyLanes();
      const counts = new Map<string, number>();
      const own = (lane: string): Partial<ReadyQueues> => ({
        class: lane.slice(1),
        attempt: lane[0] === "f" ? "first" : "retry",
      });
      for (const lane of Object.keys(weights))
        for (let slot = 0; slot < 9; slot++) lanes.add(ready({ ...own(lane), slot }));
      const workers = (name: string, attempt: string): number =>
        weights[`${attempt === "first" ? "f" : "r"}${name}`] ?? 0;
      for (let turn = 0; turn < turns; turn++) {
        for (const { class: name, attempt } of lanes.choose({
          ...plenty,
          workers,
          offer: () => ({ ...offer, capacity: 1 }),
        })) {
          const lane = `${attempt === "first" ? "f" : "r"}${name}`;
          counts.set(lane, (counts.get(lane) ?? 0) + 1);
        }
      }
      return counts;
    }

    test("DISP-9: first attempts and retries have their parts of its places, whichever came first", () => {
      const weights = [
        { rbulk: 48, fbulk: 144 },
        { fbulk: 144, rbulk: 48 },
      ];
      for (const each of weights) expect(Object.fromEntries(chosenOf(100, each))).toEqual({ fbulk: 75, rbulk: 25 });
    });

    test("DISP-9: classes have their parts of its places", () => {
      expect(Object.fromEntries(chosenOf(90, { fbulk: 20, fmessages: 160 }))).toEqual({ fbulk: 10, fmessages: 80 });
    });

    test("DISP-9: a lane that is empty for a moment leaves the parts of the places as they are", () => {
      const lanes = new ReadyLanes();
      for (let slot = 0; slot < 9; slot++) lanes.add(ready({ slot }));
      const workers = (name: string): number => (name === "messages" ? 160 : 20);
      const counts: Record<string, number> = {};
      for (let turn = 0; turn < 90; turn++) {
        lanes.add(ready({ class: "bulk" }));
        const requests = lanes.choose({ ...plenty, workers, offer: () => ({ ...offer, capacity: 1 }) });
        for (const request of requests) {
          counts[request.class] = (counts[request.class] ?? 0) + 1;
          lanes.claimed(request, request.class === "messages");
        }
      }
      expect(counts).toEqual({ messages: 80, bulk: 10 });
    });

    test("DISP-8: what one lane has served goes behind in that lane alone", () => {
      const lanes = new ReadyLanes();
      for (const service of ["s", "other"]) for (let slot = 0; slot < 9; slot++) lanes.add(ready({ service, slot }));
      for (let slot = 0; slot < 9; slot++) lanes.add(ready({ class: "bulk", slot }));
      const chosen: string[] = [];
      for (let turn = 0; turn < 6; turn++) {
        const requests = lanes.choose({ ...plenty, free: () => 1 });
        chosen.push(...requests.filter((each) => each.class === "messages").map(({ service }) => service));
      }
      expect(chosen).toEqual(["s", "other", "s", "other", "s", "other"]);
    });

    test("DISP-9: what a lane cannot take of its part is for the others", () => {
      const lanes = new ReadyLanes();
      lanes.add(ready({ class: "few" }));
      lanes.add(ready({}));
      const free = (name: string): number => (name === "few" ? 1 : 100);
      const chosen = lanes.choose({ ...plenty, free, offer: () => ({ ...offer, capacity: 20 }) });
      expect(Object.fromEntries(chosen.map((each) => [each.class, each.maxQueues]))).toEqual({ few: 1, messages: 19 });
    });
  });

  test("EP-16: slow endpoints get their part of the workers together, in turn", () => {
    const lanes = new ReadyLanes();
    for (const service of ["slow-1", "slow-2", "fast"]) {
      for (let slot = 0; slot < 9; slot++) lanes.add(ready({ service, slot }));
    }
    const ofService = (service: string): Offer => ({ ...offer, share: service === "fast" ? Infinity : 4 });
    const room = { ...plenty, free: () => 6, offer: ofService };
    const chosen = (doubtful: number): string[] =>
      lanes
        .choose({ ...room, doubtful: () => doubtful })
        .map(({ service }) => service)
        .toSorted();
    expect(chosen(1)).toEqual(["fast", "fast", "fast", "slow-1", "slow-1", "slow-2"]);
    expect(chosen(4)).toEqual(Array.from({ length: 6 }, () => "fast"));
  });

  test("EP-16: slow endpoints get more of the workers once nothing else waits for one", () => {
    const lanes = new ReadyLanes();
    for (let slot = 0; slot < 9; slot++) lanes.add(ready({ service: "slow", slot }));
    const ofService = (service: string, _class: string, _attempt: string, othersWait: boolean): Offer => ({
      ...offer,
      share: service === "fast" ? Infinity : othersWait ? 4 : 7,
    });
    const chosen = (): Record<string, number> =>
      Object.fromEntries(
        [...Map.groupBy(lanes.choose({ ...plenty, free: () => 8, offer: ofService }), ({ service }) => service)].map(
          ([service, { length }]) => [service, length],
        ),
      );
    expect(chosen()).toEqual({ slow: 7 });
    for (const slot of [1, 2, 3, 4, 5]) lanes.add(ready({ service: "fast", slot }));
    expect(chosen()).toEqual({ slow: 4, fast: 4 });
  });

  test("DISP-8: what does not fit into the memory of lanes makes them incomplete, not wrong", () => {
    const lanes = new ReadyLanes(2);
    for (let slot = 0; slot < 3; slot++) lanes.add(ready({ slot, tenant: `t${slot}` }));
    expect(lanes.complete).toBe(false);
    expect(lanes.size).toBe(2);
    expect(lanes.choose(plenty)).toHaveLength(2);
    for (let slot = 0; slot < 3; slot++) lanes.claimed(ready({ slot, tenant: `t${slot}` }), false);
    expect(lanes.size).toBe(0);
    expect(lanes.choose(plenty)).toEqual([]);
  });

  test("QUE-10: news that arrives before the reply to an earlier claim is not lost", () => {
    const lanes = new ReadyLanes();
    lanes.add(ready({ slot: 1 }));
    expect(lanes.choose(plenty)).toHaveLength(1);
    lanes.add(ready({ slot: 1 }));
    lanes.claimed(ready({ slot: 1 }), false);
    expect(lanes.choose(plenty)).toHaveLength(1);
    lanes.claimed(ready({ slot: 1 }), false);
    expect(lanes.choose(plenty)).toEqual([]);
  });

  test("QFAIL-9: nothing is chosen from slots that are left out until they are heard of again", () => {
    const lanes = new ReadyLanes();
    for (const slot of [1, 2, 3]) for (const tenant of ["a", "b"]) lanes.add(ready({ slot, tenant }));
    lanes.removeSlots(new Set([1, 3]));
    expect(lanes.size).toBe(2);
    lanes.add(ready({ slot: 3 }));
    expect(new Set(lanes.choose(plenty).map(({ slot }) => slot))).toEqual(new Set([2, 3]));
  });
});

test("DISP-9: shares follow the rules; retries have a quarter, and no class is without workers", () => {
  let classes = new Map([
    ["messages", { share: 8 }],
    ["stats", { share: 1 }],
  ]);
  const workers = new Workers({ total: 90, classes: () => classes });
  expect(workers.free("messages", "first")).toBe(60);
  expect(workers.free("messages", "retry")).toBe(20);
  expect(workers.free("stats", "first") + workers.free("stats", "retry")).toBe(10);
  expect(workers.free("removed", "first")).toBeGreaterThanOrEqual(1);
  workers.take("stats", "first", 0);
  expect(workers.free("stats", "first")).toBe(7);
  workers.release("stats", "first", 0);
  expect(workers.free("stats", "first")).toBe(8);
  classes = new Map([...classes, ["stats", { share: 10 }]]);
  expect(workers.free("stats", "first")).toBe(38);
  const only = new Workers({ total: 4, classes: () => classes, only: new Set(["messages"]) });
  expect(only.free("stats", "first")).toBe(0);
  expect(only.free("messages", "first")).toBe(3);
});

describe("circuit", () => {
  function end(circuit: Circuit, result: AttemptResult, nowMs: number, user = ""): void {
    const attempt = circuit.begin(nowMs, user);
    if (!attempt) throw new Error("the circuit lets nothing pass");
    circuit.end(attempt, result, { user, nowMs });
  }

  function fail(circuit: Circuit, times: number, nowMs = 0, user = ""): void {
    for (let n = 0; n < times; n++) end(circuit, "failed", nowMs, user);
  }

  test("DISP-5: it opens after ten failures of at least half the answers, and closes with a success", () => {
    const changes: boolean[] = [];
    const circuit = new Circuit({ random: () => 1, onChange: (isOpen) => changes.push(isOpen) });
    for (let n = 0; n < 20; n++) end(circuit, "answered", 0);
    fail(circuit, 19, 1);
    expect(circuit.isOpen).toBe(false);
    fail(circuit, 1, 1);
    expect(circuit.isOpen).toBe(true);
    expect(circuit.waitMs(1)).toBe(1_000);
    expect(circuit.begin(1_000)).toBeUndefined();
    expect(circuit.begin(1_001)).toBe("probe");
    expect(circuit.begin(1_001)).toBeUndefined();
    expect(circuit.waitMs(1_001)).toBe(Infinity);
    circuit.end("probe", "answered", { user: "", nowMs: 1_002 });
    expect(circuit.isOpen).toBe(false);
    expect(changes).toEqual([true, false]);
  });

  test("DISP-5: failed probes come at 1, 2, 4 up to 30 s; late answers of others change nothing", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10);
    const waits: number[] = [];
    for (let nowMs = 1_000, probe = 0; probe < 6; probe++) {
      circuit.end("ordinary", "failed", { user: "", nowMs });
      circuit.end("ordinary", "answered", { user: "", nowMs });
      end(circuit, "failed", nowMs);
      const waitMs = circuit.waitMs(nowMs);
      waits.push(waitMs);
      nowMs += waitMs;
    }
    expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  test("DISP-5: a probe that tells nothing is followed by another one", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10);
    end(circuit, "unknown", 1_000);
    expect(circuit.isOpen).toBe(true);
    expect(circuit.begin(1_000)).toBe("probe");
  });

  test("DISP-5: failures of ten seconds ago do not count", () => {
    const circuit = new Circuit();
    fail(circuit, 9);
    fail(circuit, 1, 10_000);
    expect(circuit.isOpen).toBe(false);
  });

  test("CALL-22: the ten seconds begin with the first answer, whenever that is", () => {
    const circuit = new Circuit();
    fail(circuit, 9, 9_500);
    fail(circuit, 1, 19_400);
    expect(circuit.isOpen).toBe(true);
  });

  test("CALL-22: the failures of a few users do not open it while others are answered", () => {
    const circuit = new Circuit();
    for (const user of ["ada", "grace", "alan"]) end(circuit, "answered", 0, user);
    fail(circuit, 1_000, 1, "mallory");
    expect(circuit.isOpen).toBe(false);
    fail(circuit, 1, 1, "grace");
    expect(circuit.isOpen).toBe(true);
  });

  test("CALL-22: with fewer than ten failing users it opens for them alone, even if they call first", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10, 0, "mallory");
    expect([circuit.isOpen, circuit.isSilent]).toEqual([true, true]);
    expect(circuit.begin(1, "mallory")).toBeUndefined();
    expect(circuit.begin(1, "ada")).toBe("ordinary");
    circuit.end("ordinary", "failed", { user: "ada", nowMs: 1 });
    expect(circuit.begin(1, "ada"), "fails, too").toBeUndefined();
    end(circuit, "answered", 1, "grace");
    expect([circuit.isOpen, circuit.isSilent], "somebody is answered").toEqual([true, false]);
    expect(circuit.waitMs(1)).toBe(0);
    for (let n = 2; n < 9; n++) fail(circuit, 1, 1, `user${n}`);
    expect(circuit.begin(1, "alan")).toBe("ordinary");
    circuit.end("ordinary", "failed", { user: "alan", nowMs: 1 });
    expect(circuit.begin(1, "grace"), "ten users fail").toBeUndefined();
  });

  test("DISP-5: what waits for a probe learns at once that somebody else was answered", () => {
    const circuits = new ServiceCircuits();
    let heard = 0;
    circuits.onHeard(() => heard++);
    const circuit = circuits.of({ name: "documents", url: "http://documents" });
    end(circuit, "answered", 0, "ada");
    fail(circuit, 10, 20_000, "mallory");
    expect(circuit.waitMs(20_000)).toBeGreaterThan(0);
    expect(heard).toBe(0);
    for (let n = 0; n < 3; n++) end(circuit, "answered", 20_001, "ada");
    expect([circuit.waitMs(20_001), heard]).toEqual([0, 1]);
  });

  test("CALL-22: a user who always fails does not make the probes rare once others fail, too", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10, 0, "mallory");
    let nowMs = 0;
    for (let probe = 0; probe < 6; probe++) {
      nowMs += 31_000;
      end(circuit, "failed", nowMs, "mallory");
    }
    for (let n = 0; n < 10; n++) fail(circuit, 1, nowMs, `user${n}`);
    expect(circuit.begin(nowMs, "grace"), "it is open for all").toBeUndefined();
    expect(circuit.waitMs(nowMs)).toBe(1_000);
  });

  test("CALL-22: it closes for users who do not come back, once others are answered", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10, 0, "mallory");
    end(circuit, "answered", 31_000, "ada");
    expect(circuit.isOpen).toBe(true);
    end(circuit, "answered", 31_001, "ada");
    expect(circuit.isOpen).toBe(false);
  });

  test("CALL-22: a user whose probe has failed leaves the next one to others for a second", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10);
    end(circuit, "failed", 1_000, "mallory");
    expect(circuit.waitMs(1_000)).toBe(2_000);
    expect(circuit.begin(3_999, "mallory")).toBeUndefined();
    expect(circuit.retryAfterMs(3_000, "mallory")).toBe(2_000);
    end(circuit, "unknown", 4_000, "mallory");
    expect(circuit.begin(3_000, "ada")).toBe("probe");
    circuit.end("probe", "answered", { user: "ada", nowMs: 4_001 });
    expect(circuit.isOpen).toBe(false);
  });

  test("DISP-5: a service that hangs gets no more than maxInFlight while its circuit is open for a few", () => {
    const circuit = new Circuit();
    const state = new ServiceState({ maxInFlight: 2, circuit }, 0);
    fail(circuit, 10, 0, "mallory");
    const capacities: number[] = [];
    for (let n = 0; n < 3; n++) {
      capacities.push(state.capacity(1_000));
      expect(circuit.begin(1_000, `user${n}`)).toBe("ordinary");
      state.begin(1_000);
    }
    expect(capacities).toEqual([1, 1, 0]);
  });

  test("DISP-5: a backlog of users who leave the probe to others is not gone through for each probe", () => {
    const circuit = new Circuit({ random: () => 1 });
    fail(circuit, 10, 0, "mallory");
    end(circuit, "failed", 1_000, "mallory");
    let refused = 0;
    while (circuit.waitMs(3_000) === 0 && refused < 1_000) {
      expect(circuit.begin(3_000, "mallory")).toBeUndefined();
      refused++;
    }
    expect([refused, circuit.waitMs(3_000)]).toEqual([100, 1_000]);
    expect(circuit.waitMs(4_000)).toBe(0);
    end(circuit, "failed", 4_000, "mallory");
    expect(circuit.waitMs(4_000)).toBe(4_000);
  });

  test("CALL-20: each refused request gets a retry time of its own, after the next probe", () => {
    let random = 1;
    const circuit = new Circuit({ random: () => random });
    fail(circuit, 10);
    expect(circuit.retryAfterMs(0)).toBe(2_000);
    random = 0;
    expect(circuit.retryAfterMs(0)).toBe(1_500);
    circuit.begin(1_000);
    expect(circuit.retryAfterMs(1_000)).toBe(500);
  });
});

describe("adaptive limit", () => {
  test("DISP-12: it grows while the service answers quickly and the limit is used, up to maxInFlight", () => {
    const limit = new AdaptiveLimit(20);
    for (let n = 0; n < 100; n++) limit.succeeded(10, 1, n * 10);
    expect(limit.limit).toBe(8);
    for (let n = 0; n < 1_000; n++) limit.succeeded(10, limit.limit, 1_000 + n * 10);
    expect(limit.limit).toBe(20);
  });

  test("DISP-12: it shrinks on overload, once for what was sent before, and never below one", () => {
    const limit = new AdaptiveLimit(64);
    limit.overloaded(0);
    limit.overloaded(1);
    expect(limit.limit).toBe(5);
    for (let n = 1; n < 100; n++) limit.overloaded(n * 1_000);
    expect(limit.limit).toBe(1);
  });

  test("DISP-12: it shrinks where answers take more than twice as long as usual", () => {
    const limit = new AdaptiveLimit(64);
    for (let n = 0; n < 100; n++) limit.succeeded(50, 1, n * 50);
    for (let n = 0; n < 20; n++) limit.succeeded(400, 8, 10_000 + n * 400);
    expect(limit.limit).toBeLessThan(8);
  });
});

test("DISP-2: the delay doubles from minMs to maxMs, half of it at random", () => {
  const policy = { attempts: 12, minMs: 100, maxMs: 1_000, onFailure: "skip", batch: 1 } as const;
  const delays = (random: number): number[] =>
    [1, 2, 3, 4, 5, 60].map((attempts) => retryDelayMs(policy, attempts, () => random));
  expect(delays(1)).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  expect(delays(0)).toEqual([50, 100, 200, 400, 500, 500]);
});

test("DISP-6: a batch's answer may accept the first items; what is no number accepts all", () => {
  const answer = (body: string) =>
    judge({ kind: "answered", status: 200, body: Buffer.from(body) }, { items: 3, isBatch: true });
  expect(answer('{"done":1}')).toEqual({ kind: "done", count: 1 });
  expect(answer('{"done":9}')).toEqual({ kind: "done", count: 3 });
  for (const body of ["", "null", "[]", '{"done":-1}', '{"done":"1"}', "\u0000"]) {
    expect(answer(body)).toEqual({ kind: "done", count: 3 });
  }
});

test("DISP-4: Retry-After counts half a second to an hour; without it a 503 is a failed attempt", () => {
  const answer = (retryAfterMs?: number) =>
    judge(
      { kind: "answered", status: 503, body: Buffer.alloc(0), ...(retryAfterMs !== undefined && { retryAfterMs }) },
      { items: 1, isBatch: false },
    );
  expect(answer(10 * 3_600_000)).toMatchObject({ kind: "retry", counts: false, afterMs: 3_600_000 });
  expect(answer(0)).toMatchObject({ kind: "retry", counts: false, afterMs: 500 });
  expect(answer()).toMatchObject({ kind: "retry", counts: true });
});
