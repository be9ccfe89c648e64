/** The events of each scenario. Times in seconds from the start of the run. */

export type FleetEvent =
  /** Processes end. `silent`: with their machines; clients and balancer notice by timeouts alone. */
  | { kind: "kill"; atSeconds: number; nodes: readonly number[]; silent: boolean; restart: boolean }
  /** Every connection breaks and the nodes stay: something in between restarts. */
  | { kind: "cut"; atSeconds: number }
  /** Nodes drain and restart, one after the other. */
  | { kind: "deploy"; atSeconds: number }
  | { kind: "redis away"; atSeconds: number; seconds: number };

export interface Scenario {
  readonly title: string;
  events(nodes: number): FleetEvent[];
  /** Average stay of a user before another one takes its place; 0: users stay. */
  readonly stayMinutes: number;
}

/** When the event happens. */
export const beginSeconds = 10;

function firstOf(count: number): number[] {
  return Array.from({ length: count }, (_, number) => number);
}

export const scenarios = {
  node: {
    title: "one node is killed and does not restart",
    events: () => [{ kind: "kill", atSeconds: beginSeconds, nodes: [0], silent: false, restart: false }],
    stayMinutes: 0,
  },
  zone: {
    title: "a zone, a third of the nodes, disappears without closing a connection",
    events: (nodes) => [
      { kind: "kill", atSeconds: beginSeconds, nodes: firstOf(Math.ceil(nodes / 3)), silent: true, restart: false },
    ],
    stayMinutes: 0,
  },
  fleet: {
    title: "the whole fleet is killed and restarts",
    events: (nodes) => [{ kind: "kill", atSeconds: beginSeconds, nodes: firstOf(nodes), silent: false, restart: true }],
    stayMinutes: 0,
  },
  balancer: {
    title: "the balancer restarts: every connection breaks, the nodes stay",
    events: () => [{ kind: "cut", atSeconds: beginSeconds }],
    stayMinutes: 0,
  },
  redis: {
    title: "Redis is down for a minute, and a node dies meanwhile; users join and leave",
    events: () => [
      { kind: "redis away", atSeconds: beginSeconds, seconds: 60 },
      { kind: "kill", atSeconds: beginSeconds + 10, nodes: [0], silent: false, restart: false },
    ],
    stayMinutes: 30,
  },
  deploy: {
    title: "rolling deploy: every node restarts, one after the other",
    events: () => [{ kind: "deploy", atSeconds: beginSeconds }],
    stayMinutes: 0,
  },
} satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof scenarios;
