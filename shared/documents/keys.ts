import type { DocumentName } from "./contract.ts";

/** `changed`: the topic that announces changes. @param root begins all names of the deployment. */
export function documentKeys(root: string, name: DocumentName): { document: string; changed: string } {
  const tag = `${root}:{${name}}`;
  return { document: `${tag}:document`, changed: `${tag}:changed` };
}
