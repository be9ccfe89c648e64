/** Which failures disable an endpoint. */
import { expect, test } from "vitest";
import { FailingEndpoints } from "../../private-api/endpoints/failing-endpoints.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import { noRules } from "../../shared/rules/rules.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { plainEndpoint } from "../support/stored-endpoint.ts";

test("EP-5: a 410 that is noted late does not disable an endpoint that was resumed meanwhile", async () => {
  const store = new MemoryEndpointStore();
  const failing = new FailingEndpoints({
    ...{ store, broker: new MemoryBroker(quietErrors), rules: { rules: noRules } as CurrentRules, logger: quietLogger },
    changeBudget: { retention: () => ({ maxBytes: 1, maxSeconds: 1, unclaimedSeconds: 1 }) },
  });
  const sent = await store.create(plainEndpoint());
  if (!sent) throw new Error("not created");
  await failing.failed(sent, { status: 410, health: {} });
  const disabled = await store.read("ep_1");
  expect(disabled?.endpoint.halted).toBe("disabled");
  const resumed = plainEndpoint({ url: "http://127.0.0.1:2/" });
  expect(await store.change(resumed, disabled?.version ?? 0)).toBe("stored");
  // Of another process, which was frozen before it noted the answer.
  await failing.failed(sent, { status: 410, health: {} });
  await failing.failed(sent, { status: 500, health: { failingSince: 1 } });
  const known = await store.read("ep_1");
  expect(known?.endpoint).toEqual(resumed);
  if (known) await failing.failed(known, { status: 410, health: {} });
  expect((await store.read("ep_1"))?.endpoint.halted).toBe("disabled");
});
