/** What happens to a fleet, and when. Times in seconds from the start of the run. */

export type FleetEvent =
  /** Processes are gone. `silent`: with their machines; clients and balancer see it when nothing answers any more. */
  | { kind: "kill"; atSeconds: number; nodes: readonly number[]; silent: boolean; restart: boolean }
  /** Every connection breaks, the nodes stay: what is between them and the clients has restarted. */
  | { kind: "cut"; atSeconds: number }
  /** One after the other is drained, ends and starts again. */
  | { kind: "deploy"; atSeconds: number }
  | { kind: "redis away"; atSeconds: number; seconds: number };

export interface Scenario {
  readonly title: string;
  events(nodes: number): FleetEvent[];
  /** Users who come and go meanwhile stay so long; 0: nobody does. */
  readonly stayMinutes: number;
}

/** Until then nothing happens. */
export const beginSeconds = 10;

function firstOf(count: number): number[] {
  return Array.from({ length: count }, (_, number) => number);
}

export const scenarios = {
  node: {
    title: "one node is killed and does not come back",
    events: () => [{ kind: "kill", atSeconds: beginSeconds, nodes: [0], silent: false, restart: false }],
    stayMinutes: 0,
  },
  zone: {
    title: "a zone, a third of the nodes, is gone without a word",
    events: (nodes) => [
      { kind: "kill", atSeconds: beginSeconds, nodes: firstOf(Math.ceil(nodes / 3)), silent: true, restart: false },
    ],
    stayMinutes: 0,
  },
  fleet: {
    title: "the whole fleet is killed and starts again",
    events: (nodes) => [{ kind: "kill", atSeconds: beginSeconds, nodes: firstOf(nodes), silent: false, restart: true }],
    stayMinutes: 0,
  },
  balancer: {
    title: "the balancer restarts: every connection breaks, the nodes stay",
    events: () => [{ kind: "cut", atSeconds: beginSeconds }],
    stayMinutes: 0,
  },
  redis: {
    title: "Redis is away for a minute, and a node dies in it; users come and go",
    events: () => [
      { kind: "redis away", atSeconds: beginSeconds, seconds: 60 },
      { kind: "kill", atSeconds: beginSeconds + 10, nodes: [0], silent: false, restart: false },
    ],
    stayMinutes: 30,
  },
  deploy: {
    title: "rolling deploy: every node is restarted, one after the other",
    events: () => [{ kind: "deploy", atSeconds: beginSeconds }],
    stayMinutes: 0,
  },
} satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof scenarios;
