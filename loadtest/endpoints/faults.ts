/** The faults of endpoint schedules that others do not have. Each heals itself. */
import type { PrivateApiAddress } from "../checker/private-api.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import type { Program } from "../checker/schedule-program.ts";
import { setEndpoint } from "./endpoint-calls.ts";
import { type Misbehaviour, misbehaviours, type WebhookReceiver } from "./receiver.ts";

export function endpointFaults(receiver: WebhookReceiver): Fault[] {
  return (Object.keys(misbehaviours) as Misbehaviour[]).map((kind) => ({
    kind,
    targets: [receiver],
    run: async (_, random, signal) => {
      receiver.misbehaviour = kind;
      await lasts(random.between(200, 1_500), signal);
      receiver.misbehaviour = undefined;
    },
  }));
}

/** Each target has the id of an endpoint. */
export function pauses(apis: readonly PrivateApiAddress[], endpoints: readonly { readonly id: string }[]): Fault {
  return {
    kind: "endpoint paused and resumed",
    targets: endpoints,
    run: async (target, random, signal) => {
      const { id } = target as { readonly id: string };
      await setEndpoint(apis, id, "pause");
      await lasts(random.between(100, 2_000), signal);
      await setEndpoint(apis, id, "resume");
    },
  };
}

/** Reads, deliveries and publishes of all of them stop at the same moment. */
export function allKilled(privateApis: readonly Program[]): Fault {
  return {
    kind: "every private API killed",
    targets: [privateApis],
    alsoAffected: privateApis,
    run: async (_, random, signal) => {
      await Promise.all(privateApis.map(async (program) => program.kill()));
      await lasts(random.between(0, 1_000), signal);
      for (const program of privateApis) program.restart();
      await Promise.all(privateApis.map(async (program) => program.ready()));
    },
  };
}
