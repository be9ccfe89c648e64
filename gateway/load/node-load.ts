/** How full this node is: measured once a second, smoothed. */
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { dimensionNames, type Dimensions } from "../../shared/load/dimensions.ts";
import { loadFactor, utilisationTargets } from "../../shared/load/factor.ts";
import { smoothed } from "../../shared/load/smoothing.ts";
import { type ProcessLimits, processLimits, ProcessMeter, type ProcessUsage } from "./process-usage.ts";

const sampleMs = 1_000;
/** A client, or a health check, waits for a turn of the event loop at most so long, but for one in a hundred. */
const delayBudgetMs = 100;
/** Of the limit: the rest is for what a storm takes before anybody reacts. */
const memoryTarget = 0.8;
/** Of the smaller of both memory limits, for what waits to be sent. */
const outboundPart = 1 / 8;

/** What the gateway itself counts. */
export interface GatewayUsage {
  connections: number;
  maxConnections: number;
  queuedBytes: number;
  /** Connections that asked to be let in during the last second: let in, waiting or refused. */
  admissionsPerSecond: number;
  /** That it may let in. */
  admissionRate: number;
}

/** Used ÷ allowed, as it was during one second. */
export function measuredDimensions(usage: ProcessUsage, limits: ProcessLimits, gateway: GatewayUsage): Dimensions {
  const outboundLimit = Math.min(limits.memoryBytes, limits.heapBytes) * outboundPart;
  return {
    connections: gateway.connections / gateway.maxConnections,
    eventLoop: usage.eventLoop / utilisationTargets.eventLoop,
    cpu: usage.cores / (limits.cores * utilisationTargets.cpu),
    delay: usage.delayP99Ms / delayBudgetMs,
    memory: memoryUsed(usage, limits),
    outbound: gateway.queuedBytes / outboundLimit,
    // A node whose share is nearly nothing is not infinitely full.
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

  /** As `dimensions.memory`: what the node took before it had a session. */
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
