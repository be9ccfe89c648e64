import { expect, test } from "vitest";
import { EndpointIndex } from "../../private-api/endpoints/endpoint-index.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";

function stored(id: string, channels: string[], events: string[] = ["*"]): StoredEndpoint {
  const endpoint = {
    ...{ id, channels, events, url: "https://example.com", mode: "live" as const, key: "channel", secrets: [] },
    ...{ headers: {}, timeoutMs: 1, maxInFlight: 1 },
  };
  return { endpoint, version: 1, startsAt: 0, createdAt: 0, generation: 0, validFrom: 0 };
}

const found = (index: EndpointIndex, channel: string, event: string): string[] =>
  [...index.match(channel, event)].map(({ endpoint }) => endpoint.id).toSorted();

test("EP-3: an endpoint is found once, by any of its channels and events", () => {
  const index = new EndpointIndex();
  index.set(stored("all", ["*"]));
  index.set(stored("boards", ["board:*", "board:1*", "board:12"]));
  index.set(stored("one", ["board:1"], ["card.*"]));
  index.set(stored("cards", ["board:*"], ["card.moved", "card.*"]));
  expect(found(index, "board:12", "note")).toEqual(["all", "boards"]);
  expect(found(index, "board:1", "card.moved")).toEqual(["all", "boards", "cards", "one"]);
  expect(found(index, "chat:1", "card.moved")).toEqual(["all"]);
});

test("EP-3: a changed endpoint is found by its new filter only, a removed one not at all", () => {
  const index = new EndpointIndex();
  index.set(stored("one", ["board:1", "board:*"]));
  index.set(stored("one", ["chat:*"], ["said"]));
  expect(found(index, "board:1", "said")).toEqual([]);
  expect(found(index, "chat:1", "said")).toEqual(["one"]);
  index.delete("one");
  expect(found(index, "chat:1", "said")).toEqual([]);
  expect(index.size).toBe(0);
});

test("EP-3: of random filters the index finds those that a look at every endpoint finds", () => {
  const names = ["a:1", "a:12", "b:1", "b:12", "b:2"];
  const patterns = [...names, "*", "a*", "a:*", "a:1*", "b:1*", "b:*"];
  const pick = (seed: number, from: readonly string[]): string[] => [
    ...new Set([from[seed % from.length] ?? "*", from[(seed * 7 + 3) % from.length] ?? "*"]),
  ];
  const index = new EndpointIndex();
  const all = Array.from({ length: 200 }, (_, n) =>
    stored(`e${n}`, pick(n, patterns), pick(n * 13 + 1, ["*", "x", "x.y", "x.*"])),
  );
  for (const each of all) index.set(each);
  for (const channel of names) {
    for (const event of ["x", "x.y", "x.z", "other"]) {
      const expected = all.filter(
        ({ endpoint }) =>
          endpoint.channels.some((pattern) => matchesPattern(pattern, channel)) &&
          endpoint.events.some((pattern) => matchesPattern(pattern, event)),
      );
      expect(found(index, channel, event)).toEqual(expected.map(({ endpoint }) => endpoint.id).toSorted());
    }
  }
});
