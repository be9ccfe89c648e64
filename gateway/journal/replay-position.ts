/** How far a journal is replayed, in a file of its own. A process that is killed repeats what it replayed since the last write. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";

/** Always as long: it is written over in place, which needs no room on a full disk. */
const fileBytes = 64;
const position = Compile(Type.Object({ segment: Type.Integer(), offset: Type.Integer() }));

export interface Position {
  /** Number of the segment: those before it are replayed. */
  readonly segment: number;
  readonly offset: number;
}

export class ReplayPosition {
  readonly #path: string;
  #file: FileHandle | undefined;

  constructor(directory: string) {
    this.#path = join(directory, "position");
  }

  /** @returns undefined where there is none, or a loss of power has spoilt it */
  async open(): Promise<Position | undefined> {
    this.#file = await open(this.#path, constants.O_RDWR | constants.O_CREAT, 0o600);
    const { buffer, bytesRead } = await this.#file.read(Buffer.alloc(fileBytes), 0, fileBytes, 0);
    const known = parseJson(buffer.toString("utf8", 0, bytesRead));
    return position.Check(known) ? known : undefined;
  }

  /** Not fsynced: a loss of power repeats some seconds more, and the queues drop repeats. */
  async write({ segment, offset }: Position): Promise<void> {
    await this.#file?.write(JSON.stringify({ segment, offset }).padEnd(fileBytes), 0);
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}
