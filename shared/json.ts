/** JSON text to a value; undefined (which JSON has no text for) where it is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Values nested deeper would overflow the stack of whatever walks them: ours, or that of a service. */
export const maxJsonDepth = 128;

export function isTooDeep(value: unknown, depthLeft = maxJsonDepth): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (depthLeft === 0) return true;
  for (const item of Object.values(value)) if (isTooDeep(item, depthLeft - 1)) return true;
  return false;
}
