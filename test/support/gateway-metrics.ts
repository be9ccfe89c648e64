import type { Gateway } from "../../gateway/gateway.ts";

/** The value of one series of a gateway, as its admin port shows it; 0 where it has not counted yet. */
export async function metricOf(gateway: Gateway, series: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${gateway.adminDoor.port}/metrics`)).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(`tidegate_${series} `));
  return Number(line?.split(" ")[1] ?? 0);
}
