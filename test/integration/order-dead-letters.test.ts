/** The order checker's retry of dead letters, against an API whose answers the test decides. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { KeyLedger } from "../../loadtest/order/key-ledger.ts";
import { retryDeadItems } from "../../loadtest/order/tidy.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";

let api: HttpService;
beforeEach(async () => {
  api = await startService();
});
afterEach(async () => {
  await api.stop();
});

test("the checker retries the dead letters that it has listed, and none that failed after that", async () => {
  const dead = [{ id: "1-1-1", key: "a", data: { key: "a", n: 1 } }];
  const retried: string[] = [];
  api.answer = ({ path, body }, response) => {
    if (path.startsWith("/v1/dead-letters?")) {
      answerJson(response, { items: dead });
      dead.push({ id: "2-1-2", key: "a", data: { key: "a", n: 2 } });
      return;
    }
    const [, id] = /^\/v1\/dead-letters\/([^/]+)\/retry$/.exec(path) ?? [];
    // An order without an id is for all items of the key.
    const all = dead.filter((letter) => id === letter.id || (id === undefined && body.includes(letter.key)));
    retried.push(...all.map((letter) => letter.id));
    answerJson(response, {}, 202);
  };
  const ledger = new KeyLedger("a", "order.skip");
  for (const number of ledger.emit(2)) ledger.accepted(number, `id-${number}`, 0);

  await retryDeadItems({ url: api.url, token: "token" }, [ledger]);
  expect(retried).toEqual(["1-1-1"]);
  expect(ledger.judge([]).deadLetters).toBe(1);
});
