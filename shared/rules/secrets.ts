/** Resolves and masks the secrets in the rules. */
import type { Environment } from "../runtime/settings.ts";
import { readServiceSecret, type ServiceSecret } from "./service-secret.ts";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import type { RulesDocument, ServiceRule } from "./schema.ts";

const envPrefix = "env:";
export const maskedSecret = "***";

export type ServiceSecrets = ReadonlyMap<string, readonly [ServiceSecret, ...ServiceSecret[]]>;

/** Of a service, as written: `env:NAME` or the secret itself. */
export function writtenSecrets({ secret, secrets }: Pick<ServiceRule, "secret" | "secrets">): readonly string[] {
  return secrets ?? (secret === undefined ? [] : [secret]);
}

/** By service, in the order of the rules. @throws InvalidDocument that names every missing or malformed variable. */
export function resolveSecrets(
  { services }: { services: Iterable<{ name: string; secrets: readonly string[] }> },
  environment: Environment,
): ServiceSecrets {
  const findings: string[] = [];
  const resolved = new Map<string, [ServiceSecret, ...ServiceSecret[]]>();
  for (const { name, secrets } of services) {
    findings.push(...secretFindings(name, secrets, environment));
    const [first, ...others] = secrets.flatMap((written) => readServiceSecret(textOf(written, environment)) ?? []);
    if (first) resolved.set(name, [first, ...others]);
  }
  if (findings.length > 0) throw new InvalidDocument("rules", findings);
  return resolved;
}

/** Every missing or malformed variable of a service. Does not quote secrets. @param secrets as written */
export function secretFindings(name: string, secrets: readonly string[], environment: Environment): string[] {
  return secrets.flatMap((written) => {
    const text = textOf(written, environment);
    if (text === "") return [`services.${name}: environment variable of "${written}" is not set`];
    if (readServiceSecret(text)) return [];
    return [`services.${name}: a secret is "whsec_" and the base64 of at least 32 bytes`];
  });
}

function textOf(written: string, environment: Environment): string {
  return written.startsWith(envPrefix) ? (environment[written.slice(envPrefix.length)] ?? "") : written;
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
