import type { IncomingMessage } from "node:http";
import { describe, expect, test } from "vitest";
import { clientAddress, trustedProxies } from "../../gateway/entrance/client-address.ts";

const trust = trustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"]);

function addressOf(forwardedFor: string | undefined, remoteAddress = "127.0.0.1", headers: object = {}): string {
  const request = { headers: { "x-forwarded-for": forwardedFor, ...headers }, socket: { remoteAddress } };
  return clientAddress(request as unknown as IncomingMessage, trust);
}

describe("the client's address", () => {
  test.each([
    ["203.0.113.7:51234", "203.0.113.7"],
    ["[2001:db8::7]:51234", "2001:db8::7"],
    ["[2001:db8::7]", "2001:db8::7"],
    ["2001:db8::7", "2001:db8::7"],
    ["::ffff:203.0.113.7", "::ffff:203.0.113.7"],
    ["198.51.100.1, 203.0.113.7:51234, 10.0.0.1:80", "203.0.113.7"],
    ["203.0.113.7 ,\t[fd00::1]:443,10.0.0.2", "203.0.113.7"],
    [",, 203.0.113.7,,", "203.0.113.7"],
  ])("LIM-6: %s is read with its port and brackets", (forwardedFor, address) => {
    expect(addressOf(forwardedFor)).toBe(address);
  });

  test.each([
    "unknown",
    "_hidden",
    "203.0.113.7:",
    "203.0.113.7:port",
    "203.0.113.999:80",
    "[2001:db8::7",
    "2001:db8::7]:80",
    "[203.0.113.7:80]",
    "[]:80",
  ])("LIM-6: %s is no address: the proxy's own address counts", (entry) => {
    expect(addressOf(entry)).toBe("127.0.0.1");
    expect(addressOf(`198.51.100.1, ${entry}, 10.0.0.7`)).toBe("10.0.0.7");
  });

  test.each([undefined, "", ", ,"])("LIM-6: %j is empty: the peer's own address counts", (forwardedFor) => {
    expect(addressOf(forwardedFor)).toBe("127.0.0.1");
  });

  test("LIM-6: entries of a proxy that is not trusted are ignored", () => {
    expect(addressOf("203.0.113.7:51234", "192.0.2.9")).toBe("192.0.2.9");
    expect(addressOf("203.0.113.7, 198.51.100.3:1")).toBe("198.51.100.3");
  });

  test("LIM-6: in a chain of trusted proxies only, the first of them counts", () => {
    expect(addressOf("10.0.0.3:1, 10.0.0.2")).toBe("10.0.0.3");
  });

  test("XFF-1: the Forwarded header is ignored", () => {
    const forwarded = { forwarded: 'for="[2001:db8::7]:51234"' };
    expect(addressOf(undefined, "127.0.0.1", forwarded)).toBe("127.0.0.1");
    expect(addressOf("203.0.113.7", "127.0.0.1", forwarded)).toBe("203.0.113.7");
  });
});
