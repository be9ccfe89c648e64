import { isIPv6, SocketAddress } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AddressLimits } from "../../gateway/entrance/address-limits.ts";
import { networkOf } from "../../shared/http/network.ts";

/** Spellings of an address differ in its zeros. */
const group = fc.oneof(fc.constant(0), fc.constant(0xffff), fc.integer({ min: 0, max: 0xffff }));
const zone = fc.constantFrom("", "%eth0", "%1");

/** One of the spellings of an address; `random` chooses. */
function spell(groups: readonly number[], random: () => number): string {
  const one = (group: number): string => {
    const digits = group.toString(16).padStart(1 + Math.floor(random() * 4), "0");
    return random() < 0.5 ? digits.toUpperCase() : digits;
  };
  const parts = groups.map(one);
  if (random() < 0.5) {
    const [high = 0, low = 0] = groups.slice(6);
    parts.splice(6, 2, [high >> 8, high & 0xff, low >> 8, low & 0xff].join("."));
  }
  const from = groups.findIndex((group) => group === 0);
  if (from < 0 || random() < 0.3) return parts.join(":");
  const after = groups.findIndex((group, at) => at > from && (group !== 0 || random() < 0.2));
  const until = Math.min(after < 0 ? parts.length : after, 6, parts.length);
  if (until <= from) return parts.join(":");
  return `${parts.slice(0, from).join(":")}::${parts.slice(until).join(":")}`;
}

const addressSpelledTwice = fc
  .tuple(fc.array(group, { minLength: 8, maxLength: 8 }), fc.infiniteStream(fc.double({ min: 0, max: 0.999 })), zone)
  .map(([groups, stream, zone]) => {
    const random = (): number => stream.next().value as number;
    return { groups, one: spell(groups, random), other: spell(groups, random) + zone };
  });

test("ADDR-1: spellings of one IPv6 address give one network, other networks differ", () => {
  fc.assert(
    fc.property(addressSpelledTwice, fc.integer({ min: 0, max: 7 }), ({ groups, one, other }, changed) => {
      fc.pre(isIPv6(one) && isIPv6(other));
      expect(networkOf(one)).toBe(networkOf(other));
      expect(networkOf(new SocketAddress({ family: "ipv6", address: one }).address)).toBe(networkOf(one));
      const isMapped = (groups: readonly number[]): boolean =>
        groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
      const neighbour = groups.with(changed, (groups[changed] ?? 0) ^ 1);
      fc.pre(!isMapped(groups) && !isMapped(neighbour));
      expect(networkOf(spell(neighbour, () => 0)) === networkOf(one)).toBe(changed >= 4);
    }),
    { numRuns: 2_000 },
  );
});

test("ADDR-1: an IPv4-mapped IPv6 address is that IPv4 address, with dots or without", () => {
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
      const hex = [(a << 8) | b, (c << 8) | d].map((group) => group.toString(16)).join(":");
      for (const spelled of [`::ffff:${address}`, `::FFFF:${hex}`, `0:0:0:0:0:ffff:${hex}`, `0::ffff:${address}%lo`]) {
        expect(networkOf(spelled)).toBe(address);
      }
    }),
  );
});

test("ADDR-1: all spellings of an address share its bounds", () => {
  const limits = new AddressLimits({ connections: 2, connectsPerSecond: 0 });
  limits.takeSeat("2001:db8::1");
  limits.takeSeat("2001:0DB8:0:0::2");
  expect(limits.checkMs("2001:DB8::3%eth0", 0)).toBe(0);
  limits.giveUpSeat("2001:DB8:0::1");
  expect(limits.checkMs("2001:db8::4", 0)).toBeUndefined();
});
