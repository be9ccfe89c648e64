/** The rules of a fuzzed deployment. */
import { serviceSecret as secret } from "../rig/service-secret.ts";

export interface ArenaRules {
  readonly namespaces: object;
  readonly services: object;
  readonly routes: readonly object[];
  readonly classes: object;
  readonly quotas: object;
  readonly sources: object;
}

/** Timeouts of the hostile service: for calls, hooks, and large answers that are measured. */
const hostileTimeoutMs = 300;
const hookTimeoutMs = 1_000;
const patientTimeoutMs = 4_000;
/** Below the number of concurrent calls of the fuzzer: some wait for a place. */
const hostileInFlight = 48;
/** The variable of a gateway with the secret of all sources. */
export const hookSecretName = "FUZZ_HOOK_SECRET";
/** Nothing listens there. */
const unreachableUrl = "http://127.0.0.1:1";

/** Checks no signature: what it gets is stored. */
export const openSource = "open";

export const historySize = 100;

/** @param hostileUrl of the hostile service, @param echoUrl of the honest one; by default nothing listens at either. */
export function arenaRules(hostileUrl = unreachableUrl, echoUrl = unreachableUrl): ArenaRules {
  const hostile = { url: hostileUrl, secret, maxInFlight: hostileInFlight };
  const call = { service: "echo", path: "/", mode: "call" };
  const hook = { route: "webhook", secrets: [`env:${hookSecretName}`] };
  return {
    namespaces: {
      fuzz: { historySize, presence: true, joinLeave: true },
      open: { access: "user", slow: "latest" },
      honest: { historySize: 100 },
    },
    services: {
      hostile: { ...hostile, timeoutMs: hostileTimeoutMs },
      hooks: { ...hostile, timeoutMs: hookTimeoutMs },
      patient: { ...hostile, timeoutMs: patientTimeoutMs },
      echo: { url: echoUrl, secret },
    },
    routes: [
      { event: "hostile.*", service: "hostile", path: "/{event}", mode: "call" },
      { event: "patient.*", service: "patient", path: "/", mode: "call" },
      { ...call, event: "echo" },
      { ...call, event: "fuzz.*" },
      { ...call, event: "shadow.*", shadow: "hostile" },
      { ...call, event: "split.*", rollout: { to: "hostile", percent: 50 } },
      { event: "webhook", service: "echo", path: "/", mode: "enqueue", class: "webhooks" },
    ],
    // What the echo service has no time for is dropped.
    classes: { webhooks: { whenFull: "drop" } },
    quotas: { perSource: 1_000 },
    sources: {
      [openSource]: { verify: "none", route: "webhook", key: "body:/key", id: "body:/id" },
      github: { ...hook, verify: "github", split: ["/all"] },
      slack: { ...hook, verify: "slack" },
      stripe: { ...hook, verify: "stripe" },
      sms: { ...hook, verify: "twilio", key: "body:key" },
      any: { ...hook, verify: "hmac", hmac: { header: "x-signature" } },
      standard: { ...hook, verify: "standard-webhooks" },
    },
  };
}
