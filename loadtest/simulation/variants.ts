/** Which fleets and clients are held side by side in a scenario. */
import { type ClientKindName, clientKinds } from "./client-kinds.ts";
import { type Scenario, scenarios, type ScenarioName } from "./events.ts";
import type { Figures } from "./figures.ts";
import { defaultSettings, type Settings, type Shape } from "./settings.ts";

export interface Variant {
  readonly name: string;
  readonly title: string;
  readonly settings: Settings;
}

/** The clients that a scenario is run with where nothing else is asked for. */
const crashKinds: readonly ClientKindName[] = ["stock", "stock-obeying", "full-jitter"];

export function variantsOf(
  name: ScenarioName,
  shape: Omit<Shape, "kind">,
  kinds: readonly ClientKindName[] | undefined,
  figures: Figures,
): Variant[] {
  const scenario: Scenario = scenarios[name];
  const settingsFor = (kind: ClientKindName, drainSlots: boolean): Settings => {
    const settings = defaultSettings({ ...shape, kind }, figures);
    return { ...settings, stayMinutes: scenario.stayMinutes, fleet: { ...settings.fleet, drainSlots } };
  };
  if (name !== "deploy") {
    return (kinds ?? crashKinds).map((kind) => ({
      name: kind,
      title: clientKinds[kind].title,
      settings: settingsFor(kind, false),
    }));
  }
  return (kinds ?? (["stock", "full-jitter"] as const)).flatMap((kind) => [
    {
      name: `${kind}, stopped`,
      title: `${clientKinds[kind].title}; nodes stop at once`,
      settings: settingsFor(kind, false),
    },
    {
      name: `${kind}, slots`,
      title: `${clientKinds[kind].title}; nodes drain in slots`,
      settings: settingsFor(kind, true),
    },
  ]);
}
