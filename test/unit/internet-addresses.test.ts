import { describe, expect, test } from "vitest";
import { InternetAddresses, parseNetwork } from "../../shared/services/internet-addresses.ts";

const refused: Readonly<Record<string, readonly string[]>> = {
  unspecified: ["0.0.0.0", "0.1.2.3", "::"],
  private: ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"],
  CGNAT: ["100.64.0.1", "100.100.100.200", "100.127.255.255"],
  loopback: ["127.0.0.1", "127.255.255.254", "::1"],
  "link-local": ["169.254.169.254", "169.254.0.1", "fe80::1", "febf::1"],
  metadata: ["168.63.129.16"],
  "reserved for protocols": ["192.0.0.1", "192.0.0.192", "192.88.99.1", "2001:2::1", "2001:10::1", "2001:20::1"],
  documentation: ["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1"],
  benchmarks: ["198.18.0.1", "198.19.255.255"],
  multicast: ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
  broadcast: ["255.255.255.255"],
  reserved: ["240.0.0.1", "254.1.1.1", "4000::1", "5f00::1", "e000::1"],
  "IPv4-mapped": ["::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:7f00:1"],
  "IPv4-translated": ["::ffff:0:808:808"],
  "IPv4-compatible": ["::8.8.8.8", "::7f00:1", "::2"],
  NAT64: ["64:ff9b::808:808", "64:ff9b:1::1"],
  discarding: ["100::1"],
  Teredo: ["2001::1"],
  "6to4": ["2002:7f00:1::", "2002::1"],
  "unique local": ["fc00::1", "fd00:ec2::254"],
  "site-local": ["fec0::1"],
};
const reached = [
  ...["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"],
  ...["128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.1.1", "198.17.1.1"],
  ...["198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "2400:cb00::1", "2001:4860:4860::8888"],
];

const addresses = new InternetAddresses();

describe.each(Object.entries(refused))("%s", (kind, list) => {
  test.each(list)("SSRF-1: %s is refused", (address) => {
    expect(addresses.refusal(address)).toContain(kind === "metadata" ? "metadata service" : kind);
  });
});

test.each(reached)("SSRF-1: %s is reached", (address) => {
  expect(addresses.refusal(address)).toBeUndefined();
});

test.each(["", "example.com", "fe80::1%eth0", "1.2.3", "0x7f.1", "2130706433", "[::1]"])(
  "SSRF-1: %j is no address",
  (text) => {
    expect(addresses.refusal(text)).toBe("is no address of the internet");
  },
);

test.each([
  ["http://0177.0.0.1/", "127.0.0.1"],
  ["http://0x7f.1/", "127.0.0.1"],
  ["http://2130706433/", "127.0.0.1"],
  ["http://127.1/", "127.0.0.1"],
  ["http://[::ffff:7f00:1]/", "[::ffff:7f00:1]"],
  ["http://[0:0:0:0:0:0:0:1]/", "[::1]"],
  ["http://１２７.0.0.1/", "127.0.0.1"],
])("SSRF-2: the address in %s is read as %s", (url, host) => {
  const { hostname } = new URL(url);
  expect(hostname).toBe(host);
  expect(addresses.refusal(hostname.replace(/^\[|\]$/g, ""))).toBeDefined();
});

test("SSRF-3: allowed networks are reached, and only those", () => {
  const some = new InternetAddresses(["10.1.0.0/16", "127.0.0.1", "fd00:1::/32"]);
  for (const address of ["10.1.2.3", "127.0.0.1", "fd00:1::5", "8.8.8.8"])
    expect(some.refusal(address)).toBeUndefined();
  for (const address of ["10.2.0.1", "127.0.0.2", "fd00:2::5", "::1", "169.254.169.254"]) {
    expect(some.refusal(address)).toBeDefined();
  }
});

test.each(["10.0.0.0/33", "::/129", "10.0.0/8", "example.com", "10.0.0.0/", "10.0.0.0/-1", "fe80::1%1/64", ""])(
  "SSRF-3: %j is no network",
  (text) => {
    expect(parseNetwork(text)).toBeUndefined();
  },
);
