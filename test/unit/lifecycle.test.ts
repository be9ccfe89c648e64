import { expect, test } from "vitest";
import { Lifecycle } from "../../shared/runtime/lifecycle.ts";
import { quietLogger } from "../support/logger.ts";

/** Services that note what is called. @param stopping of the second one, as `starting`: lasts as long. */
function lifecycleOf(
  calls: string[],
  { names = ["one", "two", "three"], starting = async () => undefined, stopping = async () => undefined } = {},
): Lifecycle {
  const lifecycle = new Lifecycle(quietLogger);
  for (const name of names) {
    lifecycle.add(name, {
      start: async () => {
        calls.push(`start ${name}`);
        if (name === "two") await starting();
      },
      stop: async () => {
        calls.push(`stop ${name}`);
        if (name === "two") await stopping();
        calls.push(`${name} stopped`);
      },
    });
  }
  return lifecycle;
}

test("a second stop does not overtake the first one, and resolves with it", async () => {
  const calls: string[] = [];
  const { promise: stopping, resolve: stopped } = Promise.withResolvers<undefined>();
  const lifecycle = lifecycleOf(calls, { stopping: async () => stopping });
  await lifecycle.start();
  calls.length = 0;
  const stops = Promise.all([lifecycle.stop(), lifecycle.stop().then(() => void calls.push("all stopped"))]);
  stopped(undefined);
  await stops;
  const services = ["three", "two", "one"].flatMap((name) => [`stop ${name}`, `${name} stopped`]);
  expect(calls).toEqual([...services, "all stopped"]);
});

test.for([
  { names: ["one", "two", "three"], error: "stopped before three was started" },
  { names: ["one", "two"], error: "stopped before the start ended" },
])("a stop during the start of the second of $names.length services fails the start", async ({ names, error }) => {
  const calls: string[] = [];
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
  const { promise: starting, resolve: started } = Promise.withResolvers<undefined>();
  const lifecycle = lifecycleOf(calls, {
    names,
    starting: async () => {
      reach();
      return starting;
    },
  });
  const start = lifecycle.start();
  await reached;
  await lifecycle.stop();
  started(undefined);
  await expect(start).rejects.toThrow(error);
  expect(calls.filter((call) => call.startsWith("start"))).toEqual(["start one", "start two"]);
});
