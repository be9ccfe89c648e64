import { expect, test } from "vitest";
import { originPolicy } from "../../gateway/entrance/allowed-origins.ts";
import { gatewaySettings } from "../../gateway/config.ts";

test.each([
  ["https://A.Example:443", "https://a.example"],
  ["http://a.example:80", "http://a.example"],
  ["http://[::1]:8080", "http://[::1]:8080"],
  ["capacitor://localhost", "capacitor://localhost"],
  ["app://-", "app://-"],
  ["null", "null"],
  ["https://*.app.example:443", "https://a.b.app.example"],
])("ORIG-1: %s in the list allows pages of %s", (listed, origin) => {
  expect(originPolicy([listed]).allows(origin, "gateway.example")).toBe(true);
});

test.each([
  ["https://app.example", "http://app.example"],
  ["https://app.example", "https://app.example:8443"],
  ["https://app.example", "null"],
  ["https://*.app.example", "https://app.example"],
  ["https://*.app.example", "https://evil-app.example"],
  ["https://*.app.example", "https://a.app.example.evil"],
  ["https://*.app.example", "http://a.app.example"],
])("ORIG-1: %s in the list does not allow pages of %s", (listed, origin) => {
  expect(originPolicy([listed]).allows(origin, "gateway.example")).toBe(false);
});

test("ORIG-2: a page of the request's own host may connect, whatever the list says", () => {
  const policy = originPolicy(["https://app.example"]);
  expect(policy.allows("http://Gateway.example:8080", "gateway.example:8080")).toBe(true);
  expect(policy.allows("http://gateway.example", "gateway.example:8080")).toBe(false);
  expect(policy.allows("http://evil.example", undefined)).toBe(false);
});

test.each([
  "https://app.example/",
  "https://u:p@app.example",
  "app.example",
  "https://*",
  "https://a.*.example",
  "file://",
  "https://a:99999",
])("ORIG-3: the gateway does not start with %s, which could never match", (entry) => {
  const environment = { GATEWAY_ALLOWED_ORIGINS: `https://fine.example,${entry}` };
  expect(() => gatewaySettings.read(environment, { embedded: true })).toThrow(`GATEWAY_ALLOWED_ORIGINS: "${entry}"`);
});
