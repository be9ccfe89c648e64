/** The steps from an unprotected fleet to Tidegate, to measure the effect of each. */
import type { ClientKindName } from "./client-kinds.ts";
import { type Scenario, scenarios, type ScenarioName } from "./events.ts";
import type { Figures } from "./figures.ts";
import { defaultSettings, type FleetSettings, type Settings, type Shape } from "./settings.ts";
import type { Variant } from "./variants.ts";

/** The events that each step is run with. */
export const ladderEvents: readonly ScenarioName[] = ["fleet", "node", "deploy"];

/** Large nodes: the same cores in fewer nodes. */
const coresOfLargeNode = 5;
/** Shorter than the callers' timeout: every queued call is answered in time. */
const shedAfterSeconds = 2;

interface Rung {
  readonly name: string;
  readonly title: string;
  readonly kind: ClientKindName;
  readonly fleet: Partial<FleetSettings>;
  readonly shedding?: boolean;
}

function rungs(nodes: number): Rung[] {
  const small = { cap: undefined, admission: undefined, resume: false, spreadDrain: false };
  const large = { ...small, nodes: Math.max(2, Math.ceil(nodes / coresOfLargeNode)), coresPerNode: coresOfLargeNode };
  const capped = { admission: undefined, resume: false, spreadDrain: false };
  const admitting = { resume: false, spreadDrain: false };
  const resuming = { spreadDrain: false };
  return [
    { name: "old", title: "few large nodes without limits", kind: "stock", fleet: large },
    { name: "shed", title: "+ services that shed early", kind: "stock", fleet: large, shedding: true },
    { name: "small", title: "+ small nodes", kind: "stock", fleet: small, shedding: true },
    { name: "cap", title: "+ cap", kind: "stock", fleet: capped, shedding: true },
    { name: "admission", title: "+ admission", kind: "stock", fleet: admitting, shedding: true },
    { name: "resume", title: "+ resume", kind: "stock-resuming", fleet: resuming, shedding: true },
    { name: "sdk", title: "+ window, full jitter, retryAfterMs", kind: "full-jitter", fleet: resuming, shedding: true },
    { name: "slots", title: "+ drain with reconnect times", kind: "slots", fleet: {}, shedding: true },
  ];
}

export function ladderVariants(name: ScenarioName, shape: Omit<Shape, "kind">, figures: Figures): Variant[] {
  const { stayMinutes }: Scenario = scenarios[name];
  return rungs(shape.nodes).map(({ name, title, kind, fleet, shedding }) => {
    const nodes = fleet.nodes ?? shape.nodes;
    const settings = defaultSettings({ ...shape, nodes, kind }, figures);
    const { auth } = settings;
    const maxWaiting = shedding ? auth.perSecond * shedAfterSeconds : auth.maxWaiting;
    const changed: Settings = {
      ...settings,
      stayMinutes,
      fleet: { ...settings.fleet, ...fleet },
      auth: { ...auth, maxWaiting },
    };
    return { name, title, settings: changed };
  });
}
