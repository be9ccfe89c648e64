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
  const webhook = { id: "msg_1", body: "{}", number: 1, headers: [] };
  expect(await requests.attempt(storedEndpoint(), webhook)).toMatchObject({ result });
  expect(errors.counts.store).toBe(1);
});
