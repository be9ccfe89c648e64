/** Parameters of the scenarios with a crowd, from the environment. */
import { parameter } from "./scenario.ts";

export interface SurgeParameters {
  readonly clients: number;
  /** Clients on stock Socket.IO; the others use the SDK. */
  readonly stock: number;
  readonly channels: number;
  /** Publications per second, all channels together. */
  readonly rate: number;
  /** Connections per second that the whole fleet admits. */
  readonly admissions: number;
  readonly quietSeconds: number;
  /** Processes that share the clients. */
  readonly crowdProcesses: number;
  readonly balancers: number;
}

export function surgeParameters(defaults: {
  clients: number;
  stockShare?: number;
  rate?: number;
  admissions?: number;
}): SurgeParameters {
  const clients = parameter("CLIENTS", defaults.clients, 10, 20_000);
  return {
    clients,
    stock: parameter("STOCK", Math.round(clients * (defaults.stockShare ?? 0.1)), 0, clients),
    channels: parameter("CHANNELS", Math.max(4, Math.round(clients / 250)), 2, 1_000),
    rate: parameter("RATE", defaults.rate ?? 4, 0.1, 1_000),
    admissions: parameter("ADMISSIONS", defaults.admissions ?? 300, 1, 10_000),
    quietSeconds: parameter("QUIET", 30, 2, 600),
    crowdProcesses: parameter("CROWD", 4, 1, 16),
    balancers: parameter("BALANCERS", 2, 1, 8),
  };
}

/** The parameters as options of {@link Stage}. */
export function stageParameters(parameters: SurgeParameters): {
  sdk: number;
  stock: number;
  channels: number;
  crowdProcesses: number;
  balancers: number;
  publicationsPerSecond: number;
  admissionsPerSecond: number;
} {
  const { clients, stock, channels, crowdProcesses, balancers, rate, admissions } = parameters;
  const shared = { stock, channels, crowdProcesses, balancers };
  return { ...shared, sdk: clients - stock, publicationsPerSecond: rate, admissionsPerSecond: admissions };
}
