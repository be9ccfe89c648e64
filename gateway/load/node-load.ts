/** How full this node is: measured once a second and smoothed. */
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { dimensionNames, type Dimensions } from "../../shared/load/dimensions.ts";
import { loadFactor, utilisationTargets } from "../../shared/load/factor.ts";
import { smoothed } from "../../shared/load/smoothing.ts";
import { type ProcessLimits, processLimits, ProcessMeter, type ProcessUsage } from "./process-usage.ts";

const sampleMs = 1_000;
/** Longest acceptable wait for a turn of the event loop, at the 99th percentile. */
const delayBudgetMs = 100;
/** Part of the memory limit; the rest is a reserve for a storm, until more nodes start. */
const memoryTarget = 0.8;
/** Part of the smaller memory limit for frames that wait to be sent. */
const outboundPart = 1 / 8;

/** Usage that the gateway counts itself. */
export interface GatewayUsage {
  connections: number;
  maxConnections: number;
  queuedBytes: number;
  /** Connections that requested admission in the last second: admitted, waiting or refused. */
  admissionsPerSecond: number;
  /** Connections that it may admit each second. */
  admissionRate: number;
}

/** Used ÷ allowed, over one second. */
export function measuredDimensions(usage: ProcessUsage, limits: ProcessLimits, gateway: GatewayUsage): Dimensions {
  const outboundLimit = Math.min(limits.memoryBytes, limits.heapBytes) * outboundPart;
  return {
    connections: gateway.connections / gateway.maxConnections,
    eventLoop: usage.eventLoop / utilisationTargets.eventLoop,
    cpu: usage.cores / (limits.cores * utilisationTargets.cpu),
    delay: usage.delayP99Ms / delayBudgetMs,
    memory: memoryUsed(usage, limits),
    outbound: gateway.queuedBytes / outboundLimit,
    // A node with almost no share stays finite.
    admissions: gateway.admissionsPerSecond / Math.max(1, gateway.admissionRate),
  };
}

function memoryUsed(usage: ProcessUsage, limits: ProcessLimits): number {
  return Math.max(usage.rssBytes / limits.memoryBytes, usage.heapBytes / limits.heapBytes) / memoryTarget;
}

export class NodeLoad implements Service {
  readonly #meter = new ProcessMeter();
  readonly #limits = processLimits();
  readonly #readGateway: () => GatewayUsage;
  readonly #errors: ContainedErrors;
  #dimensions = Object.fromEntries(dimensionNames.map((name) => [name, 0])) as Dimensions;
  #idleMemory = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(readGateway: () => GatewayUsage, errors: ContainedErrors) {
    this.#readGateway = readGateway;
    this.#errors = errors;
  }

  get dimensions(): Dimensions {
    return this.#dimensions;
  }

  get factor(): number {
    return loadFactor(this.#dimensions);
  }

  /** As `dimensions.memory`: memory used before the first session. */
  get idleMemory(): number {
    return this.#idleMemory;
  }

  /** Before the doors open. */
  async start(): Promise<void> {
    this.#meter.start();
    this.#idleMemory = memoryUsed(this.#meter.read(), this.#limits);
    this.#dimensions = { ...this.#dimensions, memory: this.#idleMemory };
    this.#timer = this.#errors.every(sampleMs, () => this.#sample());
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#meter.stop();
  }

  #sample(): void {
    const usage = this.#meter.read();
    const measured = measuredDimensions(usage, this.#limits, this.#readGateway());
    this.#dimensions = smoothed(this.#dimensions, measured, usage.elapsedMs);
  }
}
