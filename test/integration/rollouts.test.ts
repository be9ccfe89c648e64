/** The rollouts document, through the API. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Fleet, startFleet, tokens } from "../support/fleet.ts";

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({});
});
afterAll(() => fleet.stop());

const rollouts = {
  groups: [{ name: "canary", percent: 12.34, users: ["ada"], config: { theme: "new" } }],
  fallback: { name: "stable", url: "https://old.example" },
};

test("ROLL-1: stored rollouts are shown as they were put, with their version", async () => {
  expect((await fleet.api("GET", "/v1/rollouts")).body).toEqual({
    version: 0,
    groups: [],
    fallback: { name: "default" },
  });
  const stored = await fleet.api("PUT", "/v1/rollouts", rollouts);
  expect([stored.status, stored.body, stored.headers.get("etag")]).toEqual([200, { version: 1 }, '"1"']);
  const shown = await fleet.api("GET", "/v1/rollouts", undefined, { token: tokens.reader });
  expect([shown.body, shown.headers.get("etag")]).toEqual([{ version: 1, ...rollouts }, '"1"']);
  expect((await fleet.api("PUT", "/v1/rollouts", shown.body)).body).toEqual({ version: 1 });
  const yaml = "groups: []\nfallback: { name: stable }";
  const headers = { "content-type": "application/yaml" };
  expect((await fleet.api("PUT", "/v1/rollouts", undefined, { text: yaml, headers })).body).toEqual({ version: 2 });
});

test("ROLL-1: a put over an outdated version is refused", async () => {
  const putOver = (headers: Record<string, string>, body: object = rollouts) =>
    fleet.api("PUT", "/v1/rollouts", body, { headers });
  for (const refused of [await putOver({ "if-match": '"1"' }), await putOver({}, { version: 1, ...rollouts })]) {
    expect([refused.status, refused.body["code"], refused.body["version"]]).toEqual([412, "precondition_failed", 2]);
  }
  expect((await putOver({ "if-match": "two" })).body["code"]).toBe("invalid_request");
  expect((await putOver({ "if-match": '"2"' })).body).toEqual({ version: 3 });
});

test("ROLL-1: an invalid document is refused with every finding, and the stored one stays", async () => {
  const bad = {
    groups: [
      { name: "no spaces", percent: 10 },
      { name: "over", percent: 101 },
      { name: "a", percent: 60, users: ["ada"] },
      { name: "a", percent: 60.001, users: ["bob", "ada"] },
      { name: "b", percent: 0, url: "ftp://x" },
      { name: "c", percent: 0, url: "http://:x" },
      { name: "large", percent: 0, config: { text: "x".repeat(16 * 1024) } },
      { name: "wrong", percent: 0, config: [] },
    ],
    fallback: { name: "a", percent: 1 },
    extra: 1,
  };
  const { status, body } = await fleet.api("PUT", "/v1/rollouts", bad);
  expect([status, body["code"]]).toEqual([400, "invalid_request"]);
  const findings = (body["errors"] as string[]).join("\n");
  for (const part of [
    "extra",
    "groups.0.name",
    "groups.1.percent",
    'groups.3.name: "a" is a group already',
    "groups.3.percent: has more than two decimals",
    'groups.3.users: "ada" is in another group already',
    "groups.4.url",
    "groups.5.url: is not a URL",
    "groups.6.config: is larger than 16384 bytes",
    "groups.7.config",
    "fallback",
    "groups: the percentages add up to 120, more than 100",
  ]) {
    expect(findings).toContain(part);
  }
  const reserved = await fleet.api("PUT", "/v1/rollouts", { groups: [], fallback: { name: "stable" }, shares: {} });
  expect(reserved.status).toBe(400);
  expect((await fleet.api("GET", "/v1/rollouts")).body["version"]).toBe(3);
});

test("ROLL-1: putting rollouts needs the scope rules, reading them the scope read", async () => {
  const put = await fleet.api("PUT", "/v1/rollouts", rollouts, { token: tokens.reader });
  expect(put.body["code"]).toBe("missing_scope");
  const get = await fleet.api("GET", "/v1/rollouts", undefined, { token: tokens.relay });
  expect(get.body["code"]).toBe("missing_scope");
});
