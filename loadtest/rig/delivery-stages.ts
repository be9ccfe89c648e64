/** Where the time of a delivery to an endpoint goes: asks a private API that preloads `delivery-trace.ts`. */
import { rmSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { eventually } from "../../test/support/eventually.ts";
import { Histogram, type HistogramJson } from "../checks/histogram.ts";

export const stages = [
  "due → published",
  "published → read",
  "read → queued",
  "queued → sent",
  "sent → answered",
  "answered → settled",
] as const;
export type Stage = (typeof stages)[number];
export type StageTimes = Readonly<Record<Stage, HistogramJson>>;

const writtenWithinMs = 10_000;

/** Its folder is removed when this process exits, also after a signal. */
export class DeliveryTracer {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async create(): Promise<DeliveryTracer> {
    const folder = await mkdtemp(join(tmpdir(), "tidegate-stages-"));
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    return new DeliveryTracer(folder);
  }

  /** Of the private API. */
  get nodeFlags(): readonly string[] {
    return [`--import=${pathToFileURL(join(import.meta.dirname, "delivery-trace.ts")).href}`];
  }

  /** Of the private API. */
  get settings(): Readonly<Record<string, string>> {
    return { DELIVERY_STAGES_FILE: this.#file };
  }

  /** @param pid of the private API @param work what is timed */
  async trace(pid: number, work: () => Promise<unknown>): Promise<ReadonlyMap<Stage, Histogram>> {
    process.kill(pid, "SIGUSR2");
    await work();
    process.kill(pid, "SIGUSR2");
    const read = async (): Promise<string> => readFile(this.#file, "utf8").catch(() => "");
    await eventually(async () => (await read()) !== "", writtenWithinMs);
    const times = JSON.parse(await read()) as StageTimes;
    await rm(this.#file);
    return new Map(
      stages.map((stage) => {
        const histogram = new Histogram();
        histogram.merge(times[stage]);
        return [stage, histogram];
      }),
    );
  }

  get #file(): string {
    return join(this.#folder, "stages.json");
  }
}
