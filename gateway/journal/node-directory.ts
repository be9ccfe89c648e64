import { createHash } from "node:crypto";
import { join } from "node:path";

/** Paths of sockets are short, and the name of a node may have 128 characters of any kind. */
const maxNameBytes = 32;

/** Of a node within JOURNAL_DIR: nodes may share that, and a node that starts again finds what it left. */
export function journalDirectory(root: string, node: string): string {
  const name = encodeURIComponent(node).replaceAll(".", "%2E");
  if (name.length <= maxNameBytes) return join(root, name);
  return join(root, createHash("sha256").update(node).digest("hex").slice(0, maxNameBytes));
}
