export type RegistryKeys = Record<"heard" | "reports" | "shares" | "orders" | "fleet", string>;

/** All keys have one hash tag: a script reads and changes them together. @param root begins all names of the deployment. */
export function registryKeys(root: string): RegistryKeys {
  const tag = `${root}:{nodes}`;
  return {
    heard: `${tag}:heard`,
    reports: `${tag}:reports`,
    shares: `${tag}:shares`,
    orders: `${tag}:drain-orders`,
    fleet: `${tag}:fleet`,
  };
}
