/** What every program of a fleet says of Redis, and how it refuses a publish meanwhile. */
import { expect } from "vitest";
import { eventually } from "./eventually.ts";
import type { ApiAnswer, Fleet } from "./fleet.ts";

/** Of each program: the status of `/readyz`, and the state of the broker. */
async function brokerHealth({ gateways, privateApi }: Fleet): Promise<string[]> {
  const ports = [...gateways.map(({ adminDoor }) => adminDoor.port), privateApi.door.port];
  return Promise.all(
    ports.map(async (port) => {
      const ready = await fetch(`http://127.0.0.1:${port}/readyz`);
      return `${ready.status} ${((await ready.json()) as { checks: { broker: string } }).checks.broker}`;
    }),
  );
}

/** @param health such as `200 degraded` */
export async function allHave(fleet: Fleet, health: string): Promise<void> {
  await eventually(async () => (await brokerHealth(fleet)).every((each) => each === health));
}

export function expectRefused({ status, body, headers }: ApiAnswer): void {
  expect([status, body["code"], headers.get("retry-after")]).toEqual([503, "broker_unavailable", "1"]);
}
