import { expect, test } from "vitest";
import { crc16, slotOf } from "../../shared/redis/slots.ts";

test("CH-7: slots are CRC-16/XMODEM modulo 256, as Redis Cluster hashes", () => {
  // The check value from the CRC catalogue; the others from CLUSTER KEYSLOT.
  expect(crc16("123456789")).toBe(0x31c3);
  expect([crc16("foo") % 16_384, crc16("somekey") % 16_384, crc16("")]).toEqual([12_182, 11_058, 0]);
  expect(slotOf("board:1")).toBe(crc16("board:1") % 256);
});
