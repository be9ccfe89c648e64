/** Single requests to endpoints, over a client that is a function. */
import { expect, test } from "vitest";
import { EndpointRequests } from "../../private-api/endpoints/endpoint-requests.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { quietLogger } from "../support/logger.ts";
import { storedEndpoint } from "../support/stored-endpoint.ts";

test("EP-6: an attempt counts as its endpoint answered, also where noting it throws", async () => {
  const errors = new ContainedErrors(quietLogger);
  const result = { kind: "answered", status: 204, headers: {}, body: Buffer.alloc(0) };
  const addSuccess = (): never => {
    throw new Error("a bug");
  };
  const requests = new EndpointRequests({
    client: { send: async () => result } as never,
    attempts: { addSuccess } as never,
    onFailing: async () => undefined,
    errors,
    logger: quietLogger,
  });
  const webhook = { id: "msg_1", key: "a", sequence: "1", attempt: 1, body: "{}" };
  expect(await requests.attempt(storedEndpoint(), webhook)).toMatchObject({ result });
  expect(errors.counts.store).toBe(1);
});

test("EP-6: a failure to note many attempts together is reported once", async () => {
  const errors = new ContainedErrors(quietLogger);
  const result = { kind: "answered", status: 204, headers: {}, body: Buffer.alloc(0) };
  const { promise, reject } = Promise.withResolvers<void>();
  const requests = new EndpointRequests({
    client: { send: async () => result } as never,
    attempts: { addSuccess: () => promise } as never,
    onFailing: async () => undefined,
    errors,
    logger: quietLogger,
  });
  const webhook = { id: "msg_1", key: "a", sequence: "1", attempt: 1, body: "{}" };
  for (let n = 0; n < 3; n++) await requests.attempt(storedEndpoint(), webhook);
  reject(new Error("Redis is away"));
  await expect(promise).rejects.toThrow("Redis is away");
  expect(errors.counts.store).toBe(1);
});
