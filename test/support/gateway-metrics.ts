import type { Gateway } from "../../gateway/gateway.ts";

/** The value of one series of a gateway, as its admin port shows it; 0 before the first count. */
export async function metricOf(gateway: Gateway | undefined, series: string): Promise<number> {
  if (!gateway) throw new Error("no such gateway");
  const text = await (await fetch(`http://127.0.0.1:${gateway.adminDoor.port}/metrics`)).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(`tidegate_${series} `));
  return Number(line?.split(" ")[1] ?? 0);
}

/** The values of one series, one for each gateway. */
export async function metricsOf(gateways: readonly Gateway[], series: string): Promise<number[]> {
  return Promise.all(gateways.map((gateway) => metricOf(gateway, series)));
}
