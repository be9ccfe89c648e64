import type { IncomingMessage } from "node:http";

/**
 * Checks the body of a request before the engine reads it as text: Node would put U+FFFD in place of bytes that are not UTF-8.
 * (The websocket library checks by itself.)
 * @param onInvalid called once; the rest of the body is dropped.
 */
export function refuseInvalidText(request: IncomingMessage, onInvalid: () => void): void {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const push = request.push.bind(request);
  let isValid = true;
  request.push = (chunk: Buffer | null) => {
    if (!isValid) return true;
    try {
      decoder.decode(chunk ?? undefined, { stream: chunk !== null });
    } catch {
      isValid = false;
      onInvalid();
      return true;
    }
    return push(chunk);
  };
}
