/** The fleets and clients that a scenario compares. */
import { type ClientKindName, clientKinds } from "./client-kinds.ts";
import { type Scenario, scenarios, type ScenarioName } from "./events.ts";
import type { Figures } from "./figures.ts";
import { defaultSettings, type Settings, type Shape } from "./settings.ts";

export interface Variant {
  readonly name: string;
  readonly title: string;
  readonly settings: Settings;
}

/** The default kinds of clients. */
const crashKinds: readonly ClientKindName[] = ["stock", "stock-obeying", "full-jitter"];

export function variantsOf(
  name: ScenarioName,
  shape: Omit<Shape, "kind">,
  kinds: readonly ClientKindName[] | undefined,
  figures: Figures,
): Variant[] {
  const scenario: Scenario = scenarios[name];
  const settingsFor = (kind: ClientKindName, spreadDrain: boolean): Settings => {
    const settings = defaultSettings({ ...shape, kind }, figures);
    return { ...settings, stayMinutes: scenario.stayMinutes, fleet: { ...settings.fleet, spreadDrain } };
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
      title: `${clientKinds[kind].title}; nodes drain with reconnect times`,
      settings: settingsFor(kind, true),
    },
  ]);
}
