import { expect, test, vi } from "vitest";
import { measuredDimensions } from "../../gateway/load/node-load.ts";
import { ProcessMeter, processLimits } from "../../gateway/load/process-usage.ts";
import { dimensionsOf } from "../support/node-reports.ts";

const idleProcess = { elapsedMs: 1_000, eventLoop: 0, cores: 0, delayP99Ms: 0, rssBytes: 0, heapBytes: 0 };
const limits = { cores: 2, memoryBytes: 1_000, heapBytes: 500 };
const idleGateway = { connections: 0, maxConnections: 100, queuedBytes: 0, admissionsPerSecond: 0, admissionRate: 10 };

test("LOAD-2: each dimension is 1.0 where usage equals its allowance", () => {
  expect(measuredDimensions(idleProcess, limits, idleGateway)).toEqual(dimensionsOf());
  const usage = { ...idleProcess, eventLoop: 0.7, cores: 1.6, delayP99Ms: 100, rssBytes: 800 };
  const gateway = { ...idleGateway, connections: 100, queuedBytes: 62.5, admissionsPerSecond: 10 };
  const full = dimensionsOf({ connections: 1, eventLoop: 1, cpu: 1, delay: 1, memory: 1, outbound: 1, admissions: 1 });
  expect(measuredDimensions(usage, limits, gateway)).toEqual(full);
});

test("LOAD-2: the fuller of resident memory and heap counts; a node without a share stays finite", () => {
  const { memory } = measuredDimensions({ ...idleProcess, rssBytes: 100, heapBytes: 200 }, limits, idleGateway);
  expect(memory).toBeCloseTo(0.5, 9);
  const { admissions } = measuredDimensions(idleProcess, limits, {
    ...idleGateway,
    admissionsPerSecond: 3,
    admissionRate: 0,
  });
  expect(admissions).toBe(3);
});

test("LOAD-2: usage is measured since the last reading, against the real limits", () => {
  const meter = new ProcessMeter();
  meter.start();
  const until = performance.now() + 100;
  while (performance.now() < until);
  const busy = meter.read();
  meter.stop();
  expect(busy.elapsedMs).toBeGreaterThanOrEqual(99);
  expect(busy.cores).toBeGreaterThan(0);
  expect(busy.rssBytes).toBeGreaterThan(busy.heapBytes / 2);
  const { cores, memoryBytes, heapBytes } = processLimits();
  expect(cores).toBeGreaterThan(0);
  expect(Number.isFinite(cores)).toBe(true);
  expect(memoryBytes).toBeGreaterThan(busy.rssBytes);
  expect(heapBytes).toBeGreaterThan(busy.heapBytes);
});

test("CONT-2: without open files resident memory keeps its last value, and the rest is measured", () => {
  const meter = new ProcessMeter();
  meter.start();
  const { rssBytes } = meter.read();
  const rss = vi.spyOn(process.memoryUsage, "rss").mockImplementation(() => {
    throw Object.assign(new Error("EMFILE: too many open files"), {
      code: "EMFILE",
      syscall: "uv_resident_set_memory",
    });
  });
  const usage = meter.read();
  rss.mockRestore();
  meter.stop();
  expect(usage.rssBytes).toBe(rssBytes);
  expect(usage.heapBytes).toBeGreaterThan(0);
});
