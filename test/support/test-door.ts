/** A door without a program, with long timeouts by default. */
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { ConnectionBounds } from "../../shared/http/connections.ts";
import { Door } from "../../shared/http/door.ts";
import { defaultTimeouts, type DoorTimeouts } from "../../shared/http/door-server.ts";
import { doorCounter } from "../../shared/http/door-counter.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { quietLogger } from "./logger.ts";

const patient: DoorTimeouts = {
  ...{ headMs: 60_000, requestMs: 60_000, idleMs: 60_000, stalledMs: 60_000, checkMs: 20 },
  stopMs: defaultTimeouts.stopMs,
};
const wide: ConnectionBounds = { total: 1_000, unproven: 1_000 };

export interface TestDoor {
  door: Door;
  errors: ContainedErrors;
  closures: () => Promise<Record<string, number>>;
}

/** Listens on a free port once it is started; the caller stops it. */
export function createTestDoor(
  options: { timeouts?: Partial<DoorTimeouts>; bounds?: ConnectionBounds } = {},
): TestDoor {
  const metrics = new Metrics();
  const errors = new ContainedErrors(quietLogger);
  const { doorClosed: closed } = metrics.counters(doorCounter);
  const door = new Door({
    name: "test",
    host: "127.0.0.1",
    port: 0,
    bodyLimit: 1_024,
    bounds: options.bounds ?? wide,
    timeouts: { ...patient, ...options.timeouts },
    errors,
    closed,
    logger: quietLogger,
  });
  door.app.get("/", () => "here");
  door.app.post("/", (request) => request.body);
  const closures = async (): Promise<Record<string, number>> => {
    const { values } = await closed.get();
    return Object.fromEntries(values.map(({ labels, value }) => [labels.reason, value]));
  };
  return { door, errors, closures };
}
