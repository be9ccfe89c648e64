/** Resolves and masks the secrets in the rules. */
import type { Environment } from "../runtime/settings.ts";
import { readServiceSecret, type ServiceSecret } from "./service-secret.ts";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import type { RulesDocument } from "./schema.ts";
import type { Rules } from "./rules.ts";

const envPrefix = "env:";
export const maskedSecret = "***";

export type ServiceSecrets = ReadonlyMap<string, readonly [ServiceSecret, ...ServiceSecret[]]>;

/** By service, in the order of the rules. @throws InvalidDocument that names every missing or malformed variable. */
export function resolveSecrets(rules: Rules, environment: Environment): ServiceSecrets {
  const findings: string[] = [];
  const resolved = new Map<string, [ServiceSecret, ...ServiceSecret[]]>();
  for (const service of rules.services) {
    const secrets = service.secrets.flatMap((written) => {
      const text = written.startsWith(envPrefix) ? (environment[written.slice(envPrefix.length)] ?? "") : written;
      const secret = readServiceSecret(text);
      if (text === "") findings.push(`services.${service.name}: environment variable of "${written}" is not set`);
      else if (!secret)
        findings.push(`services.${service.name}: a secret is "whsec_" and the base64 of at least 32 bytes`);
      return secret ?? [];
    });
    const [first, ...others] = secrets;
    if (first) resolved.set(service.name, [first, ...others]);
  }
  if (findings.length > 0) throw new InvalidDocument("rules", findings);
  return resolved;
}

/** Replaces secrets written in the document by `***`; references to variables stay. */
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
