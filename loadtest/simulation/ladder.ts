/** From the old way to Tidegate, one step at a time: what each is worth. */
import type { ClientKindName } from "./client-kinds.ts";
import { type Scenario, scenarios, type ScenarioName } from "./events.ts";
import type { Figures } from "./figures.ts";
import { defaultSettings, type FleetSettings, type Settings, type Shape } from "./settings.ts";
import type { Variant } from "./variants.ts";

/** The events that the steps are held against. */
export const ladderEvents: readonly ScenarioName[] = ["fleet", "node", "deploy"];

/** The same cores in fewer nodes. */
const coresOfLargeNode = 5;
/** Of a queue that is as long as its callers wait nothing is answered in time; of this one everything is. */
const shedAfterSeconds = 2;

interface Rung {
  readonly name: string;
  readonly title: string;
  readonly kind: ClientKindName;
  readonly fleet: Partial<FleetSettings>;
  readonly shedding?: boolean;
}

function rungs(nodes: number): Rung[] {
  const small = { cap: undefined, admission: undefined, resume: false, drainSlots: false };
  const large = { ...small, nodes: Math.max(2, Math.ceil(nodes / coresOfLargeNode)), coresPerNode: coresOfLargeNode };
  const capped = { admission: undefined, resume: false, drainSlots: false };
  const admitting = { resume: false, drainSlots: false };
  const resuming = { drainSlots: false };
  return [
    { name: "old", title: "the old way: few large nodes, nothing bounded", kind: "stock", fleet: large },
    { name: "shed", title: "+ services that shed early", kind: "stock", fleet: large, shedding: true },
    { name: "small", title: "+ small nodes", kind: "stock", fleet: small, shedding: true },
    { name: "cap", title: "+ cap", kind: "stock", fleet: capped, shedding: true },
    { name: "admission", title: "+ admission", kind: "stock", fleet: admitting, shedding: true },
    { name: "resume", title: "+ resume", kind: "stock-resuming", fleet: resuming, shedding: true },
    { name: "sdk", title: "+ window, full jitter, retryAfterMs", kind: "full-jitter", fleet: resuming, shedding: true },
    { name: "slots", title: "+ drain in slots", kind: "slots", fleet: {}, shedding: true },
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
