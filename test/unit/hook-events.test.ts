/** From a webhook to the events of its route. */
import { expect, test } from "vitest";
import { contentOf } from "../../gateway/hooks/content.ts";
import { eventsOf } from "../../gateway/hooks/parts.ts";
import { Sources } from "../../gateway/hooks/sources.ts";
import type { StorableEvent } from "../../gateway/requests/store-event.ts";
import { checkRules } from "../../shared/rules/document.ts";
import { Rules } from "../../shared/rules/rules.ts";
import type { SourceRule } from "../../shared/rules/sources.ts";
import { quietLogger } from "../support/logger.ts";

function formEvents(rule: Partial<SourceRule>, body: string): readonly StorableEvent[] {
  return events(rule, body, "shop", "application/x-www-form-urlencoded");
}

function events(
  rule: Partial<SourceRule>,
  body: string,
  name = "shop",
  contentType = "application/json",
): readonly StorableEvent[] {
  const document = checkRules({
    services: { s: { url: "http://s.test", secret: "env:S" } },
    classes: { slow: {} },
    routes: [{ event: "order.*", service: "s", path: "/", mode: "enqueue", key: "/order", class: "slow" }],
    sources: { [name]: { verify: "none", route: "order.paid", ...rule } },
  });
  const sources = new Sources({ environment: {}, hasJournal: false, logger: quietLogger });
  sources.use(new Rules(1, document));
  const source = sources.find(name);
  if (!source) throw new Error("no such source");
  const bytes = Buffer.from(body);
  const envelope = { headers: { "x-id": "delivery 7" }, segments: ["acme"], query: new URLSearchParams() };
  return eventsOf({
    source,
    envelope,
    body: bytes,
    content: contentOf({ "content-type": contentType }, bytes, source),
  });
}

test("SRC-3: key and class of the route hold where the source has none", () => {
  expect(events({}, '{"order":5}')).toMatchObject([{ key: "5", class: "slow", event: "order.paid" }]);
  expect(events({ key: "path:1", class: "messages" }, "{}")).toMatchObject([{ key: "acme", class: "messages" }]);
  expect(() => events({}, "{}")).toThrow("key: body:/order finds nothing");
});

test("SRC-7: an id outside of the body is that of the webhook, and each part has its own ce-id of it", () => {
  const rule = { split: ["/all"], id: "header:x-id", key: "path:1" };
  const [one, two] = events(rule, '{"all":[1,2]}');
  const [again] = events(rule, '{"all":[1,2]}');
  expect([one?.dedupes, one?.id]).toEqual(["everywhere", again?.id]);
  expect(one?.id).not.toBe(two?.id);
  expect(events(rule, '{"all":[1]}', "other")[0]?.id).not.toBe(one?.id);
});

test("SRC-7: without an id every webhook is another", () => {
  const [one] = events({ key: "path:1" }, "{}");
  const [other] = events({ key: "path:1" }, "{}");
  expect([one?.dedupes, one?.id === other?.id]).toEqual(["nowhere", false]);
});

test("JRN-6: with a journal every item has an id for the removal of repeats, its own without an id of the source", () => {
  const rule = { key: "path:1", journal: true };
  const [one] = events(rule, "{}");
  const [other] = events(rule, "{}");
  expect([one?.dedupes, other?.dedupes, one?.id === other?.id]).toEqual(["in its queue", "in its queue", false]);
});

test("SRC-4: a key or a tenant of more than 256 bytes, or half a surrogate pair, is refused", () => {
  for (const purpose of ["key", "tenant"] as const) {
    const rule = { key: "path:1", [purpose]: "body:/v" };
    expect(() => events(rule, JSON.stringify({ v: "é".repeat(129) }))).toThrow(`${purpose}: is longer than 256 bytes`);
    expect(() => events(rule, '{"v":"\\ud800"}')).toThrow(`${purpose}: is not well-formed`);
    expect(events(rule, JSON.stringify({ v: "é".repeat(128) }))).toHaveLength(1);
  }
});

test("TEXT-1: an id of a webhook that is half a surrogate pair is refused", () => {
  const rule = { key: "path:1", id: "body:/v" };
  expect(() => events(rule, '{"v":"\\udc00"}')).toThrow("id: is not well-formed");
  expect(events(rule, '{"v":"\\ud83d\\ude80"}')).toHaveLength(1);
});

test("TEXT-2: a selected field of a form whose bytes are not UTF-8 is refused, so that no two ids become equal", () => {
  const rule = { key: "path:1", id: "body:Sid" };
  for (const sid of ["%FE", "a%FF", "%C3"]) {
    expect(() => formEvents(rule, `Sid=${sid}`)).toThrow("body:Sid: is not UTF-8");
  }
  expect(formEvents(rule, "Sid=%C3%A9&Other=%FF")).toHaveLength(1);
});
