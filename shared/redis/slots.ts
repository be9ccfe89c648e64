/** Assigns channels and users to slots. Pure. */

export const slotCount = 256;
export const everySlot: readonly number[] = Array.from({ length: slotCount }, (_, slot) => slot);
/** Slots past the hash slots: each holds the queues of tenants that are pinned to the cell that owns it. */
export const pinSlotCount = 64;
export const everyPinSlot: readonly number[] = Array.from({ length: pinSlotCount }, (_, at) => slotCount + at);

/** CRC-16/XMODEM (polynomial 0x1021, start 0), as in Redis Cluster. */
const crcTable = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc & 0xffff;
});

export function crc16(text: string): number {
  let crc = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 0x7f) return crcOfBytes(Buffer.from(text));
    crc = withByte(crc, code);
  }
  return crc;
}

function crcOfBytes(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) crc = withByte(crc, byte);
  return crc;
}

function withByte(crc: number, byte: number): number {
  return ((crc << 8) ^ (crcTable[((crc >> 8) ^ byte) & 0xff] ?? 0)) & 0xffff;
}

/** 0–255. Never change the mapping: stored keys carry the slot as their hash tag. */
export function slotOf(name: string): number {
  return crc16(name) % slotCount;
}
