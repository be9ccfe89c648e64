const addresses = 0x10000;
let given = 0;

/** The next address of 127.1.0.0/16, all of which are this machine: a gateway slows down one whose connections begin no session (LIM-16). */
export function nextAddress(): string {
  given = (given + 1) % addresses;
  return `127.1.${given >> 8}.${given & 0xff}`;
}
