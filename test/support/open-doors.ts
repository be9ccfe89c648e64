/** Doors of a test with connections to them. */
import type { Door } from "../../shared/http/door.ts";
import { openRaw, type RawConnection, requestHead } from "./raw-http.ts";
import type { TestDoor } from "./test-door.ts";

export const halfHead = "GET / HTTP/1.1\r\nHost: te";

export class OpenDoors {
  readonly #running: Door[] = [];
  readonly #opened: RawConnection[] = [];

  async start(created: TestDoor): Promise<TestDoor> {
    this.#running.push(created.door);
    await created.door.start();
    return created;
  }

  /** @param from local address */
  open({ port }: Pick<Door, "port">, text: string, from?: string): RawConnection {
    const connection = openRaw(port, text, from);
    this.#opened.push(connection);
    return connection;
  }

  /** Whether a new connection gets an answer. */
  async answers(door: Pick<Door, "port">, from?: string): Promise<boolean> {
    const connection = this.open(door, requestHead("GET", "/", ["Connection: close"]), from);
    return (await connection.closed).endsWith("here");
  }

  async close(): Promise<void> {
    for (const { socket } of this.#opened.splice(0)) socket.destroy();
    for (const door of this.#running.splice(0)) await door.stop();
  }
}
