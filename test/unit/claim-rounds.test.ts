/** Rounds of claims, over a store that is a function. */
import { expect, test, vi } from "vitest";
import { ClaimRounds, type ClaimRoundsOptions } from "../../private-api/dispatch/claim-rounds.ts";
import type { ClaimRequest } from "../../shared/queues/contract.ts";
import { eventually } from "../support/eventually.ts";

const lane = { class: "messages", service: "documents", tenant: "", attempt: "first" as const };
const request: ClaimRequest = { ...lane, slot: 1, maxQueues: 1, maxItems: 1 };

test("a request for which the store returns no claim fails, and the round ends", async () => {
  const onReply = vi.fn<ClaimRoundsOptions["onReply"]>();
  const onFailure = vi.fn<ClaimRoundsOptions["onFailure"]>();
  const other = { ...request, slot: 2 };
  const reply = { more: false, claimed: [] };
  const rounds = new ClaimRounds({ store: { claim: () => [Promise.resolve(reply)] }, onReply, onFailure });
  expect(await rounds.run([request, other])).toEqual([]);
  await rounds.settled();
  expect(onReply).toHaveBeenCalledExactlyOnceWith(request, reply, {
    askedAt: expect.any(Number) as number,
    isLate: false,
  });
  await eventually(() => onFailure.mock.calls.length === 1);
  expect(onFailure).toHaveBeenCalledWith([2], expect.any(Error));
});
