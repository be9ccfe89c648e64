/** When deliveries to endpoints begin, with requests that the test answers. */
import { expect, test } from "vitest";
import type { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import { EndpointDeliveries } from "../../private-api/endpoints/endpoint-deliveries.ts";
import type { EndpointRequests } from "../../private-api/endpoints/endpoint-requests.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { endpointService, type Endpoint } from "../../shared/endpoints/endpoint.ts";
import { plainEndpoint, storedEndpoint } from "../support/stored-endpoint.ts";

const service = endpointService("ep_1");
const delivery = { head: {} as never, key: "a", sequence: "1", body: "{}", attempt: 1, webhookId: "msg_1" };

/** One endpoint. */
function setUp(): {
  deliveries: EndpointDeliveries;
  change: (more?: Partial<Endpoint>) => void;
  /** Of requests, in their order. */
  answers: ((status: number, headers?: object) => void)[];
} {
  let stored = storedEndpoint();
  let listener: (id: string, stored: StoredEndpoint) => void = () => undefined;
  const answers: ((status: number, headers?: object) => void)[] = [];
  const current = {
    index: { get: () => stored },
    listen: (added: typeof listener) => void (listener = added),
  } as unknown as CurrentEndpoints;
  const requests = {
    send: () => {
      const { promise, resolve } = Promise.withResolvers<object>();
      answers.push((status, headers = {}) => resolve({ kind: "answered", status, headers, body: Buffer.alloc(0) }));
      return { result: promise };
    },
    ended: (_stored: unknown, _webhook: unknown, _sent: unknown, result: object) => ({ result, ms: 1 }),
  } as unknown as EndpointRequests;
  const deliveries = new EndpointDeliveries({ current, store: {} as never, requests });
  const change = (more: Partial<Endpoint> = {}): void => {
    stored = storedEndpoint({ endpoint: plainEndpoint(more), version: stored.version + 1 });
    listener("ep_1", stored);
  };
  return { deliveries, change, answers };
}

const hour = { "retry-after": "3600" };
const waitMs = (deliveries: EndpointDeliveries): number =>
  deliveries.known(service)?.rate?.waitMs(performance.now()) ?? 0;

test.each([429, 503])(
  "EP-5: after a %i with Retry-After nothing is sent, not even what was claimed before",
  async (status) => {
    const { deliveries, change, answers } = setUp();
    deliveries.known(service);
    const first = deliveries.deliver(service, delivery);
    const second = deliveries.deliver(service, delivery);
    answers[0]?.(status, hour);
    expect(await first).toMatchObject({ kind: "answered", status });
    expect(waitMs(deliveries)).toBeGreaterThan(3_500_000);
    // A shorter pause that is asked for later ends nothing.
    answers[1]?.(status, { "retry-after": "1" });
    await second;
    expect(waitMs(deliveries)).toBeGreaterThan(3_500_000);
    expect(await deliveries.deliver(service, delivery)).toEqual({ kind: "busy" });
    expect(answers.length).toBe(2);
    change();
    expect(waitMs(deliveries)).toBeLessThanOrEqual(0);
    const third = deliveries.deliver(service, delivery);
    answers[2]?.(204);
    expect(await third).toMatchObject({ status: 204 });
  },
);

test("EP-5: an answer from before a change of the endpoint does not hold it, nor does one without Retry-After", async () => {
  const { deliveries, change, answers } = setUp();
  deliveries.known(service);
  const before = deliveries.deliver(service, delivery);
  change();
  deliveries.known(service);
  const after = deliveries.deliver(service, delivery);
  answers[0]?.(429, hour);
  answers[1]?.(500);
  await Promise.all([before, after]);
  expect(waitMs(deliveries)).toBeLessThanOrEqual(0);
});

test("EP-21: a change keeps what is known of the endpoint's pace, unless its rate changes", () => {
  const { deliveries, change } = setUp();
  const known = deliveries.known(service);
  change({ maxInFlight: 2 });
  expect(deliveries.known(service)?.rate).toBe(known?.rate);
  change({ perSecond: 1 });
  const limited = deliveries.known(service)?.rate;
  expect(limited?.tokens(performance.now())).toBeLessThanOrEqual(1);
  void deliveries.deliver(service, delivery);
  change({ perSecond: 1, maxInFlight: 2 });
  expect(waitMs(deliveries)).toBeGreaterThan(0);
});
