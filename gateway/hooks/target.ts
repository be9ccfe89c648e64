/** The target of a webhook's request: `/hooks/{source}[/…][?…]`. */
import type { IncomingMessage } from "node:http";

type Requested = Pick<IncomingMessage, "url">;

const prefix = "/hooks/";

/** Without the origin of an absolute URL. */
export function targetOf({ url = "" }: Requested): string {
  return url.startsWith("/") ? url : url.replace(/^https?:\/\/[^/?#]*/i, "");
}

/** @returns undefined where the target names no source, or is badly encoded */
export function sourceIn(request: Requested): string | undefined {
  const target = targetOf(request);
  if (!target.startsWith(prefix)) return undefined;
  const [, written = ""] = /^([^/?#]*)/.exec(target.slice(prefix.length)) ?? [];
  if (written === "") return undefined;
  if (!written.includes("%")) return written;
  try {
    return decodeURIComponent(written);
  } catch {
    // The routes refuse it.
    return undefined;
  }
}
