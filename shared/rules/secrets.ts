/** Secrets within the rules: resolved where they are used, masked where they are shown. */
import type { Environment } from "../settings.ts";
import { type RulesDocument, RulesError } from "./document.ts";
import type { Rules } from "./rules.ts";

const envPrefix = "env:";
export const maskedSecret = "***";

/** The secrets of each service, in order. @throws RulesError naming every variable that is missing or malformed. */
export function resolveSecrets(rules: Rules, environment: Environment): ReadonlyMap<string, readonly string[]> {
  const findings: string[] = [];
  const resolved = new Map<string, readonly string[]>();
  for (const service of rules.services) {
    const secrets = service.secrets.map((written) => {
      const secret = written.startsWith(envPrefix) ? (environment[written.slice(envPrefix.length)] ?? "") : written;
      if (secret === "") findings.push(`services.${service.name}: environment variable of "${written}" is not set`);
      else if (!isServiceSecret(secret)) {
        findings.push(`services.${service.name}: a secret is "whsec_" and the base64 of at least 32 bytes`);
      }
      return secret;
    });
    resolved.set(service.name, secrets);
  }
  if (findings.length > 0) throw new RulesError(findings);
  return resolved;
}

function isServiceSecret(secret: string): boolean {
  return /^whsec_[A-Za-z0-9+/]+={0,2}$/.test(secret) && Buffer.from(secret.slice(6), "base64").length >= 32;
}

/** For showing: secrets written in the document become `***`, references stay. */
export function maskSecrets(document: RulesDocument): RulesDocument {
  const mask = (secret: string): string => (secret.startsWith(envPrefix) ? secret : maskedSecret);
  const services = Object.entries(document.services ?? {}).map(([name, service]) => [
    name,
    {
      ...service,
      ...(service.secret !== undefined && { secret: mask(service.secret) }),
      ...(service.secrets !== undefined && { secrets: service.secrets.map(mask) }),
    },
  ]);
  return {
    ...document,
    ...(document.services && { services: Object.fromEntries(services) as typeof document.services }),
  };
}
