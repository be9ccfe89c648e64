/** Engine.IO over HTTP, request by request. `at` is the URL of a node. */
import { userToken } from "./stock-client.ts";

/** A connection without a session. */
export async function openPolling(at: string): Promise<{ sid: string }> {
  const answer = await fetch(`${at}/socket.io/?EIO=4&transport=polling`);
  return JSON.parse((await answer.text()).slice(1)) as { sid: string };
}

export async function pollingSession(at: string): Promise<{ sid: string }> {
  const { sid } = await openPolling(at);
  await post(at, sid, `40${JSON.stringify({ token: await userToken() })}`);
  let seen = "";
  while (!seen.includes("sync:welcome")) seen += await poll(at, sid);
  return { sid };
}

export async function post(at: string, sid: string, body: string): Promise<Response> {
  return fetch(`${at}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body });
}

export async function poll(at: string, sid: string): Promise<string> {
  return (await fetch(`${at}/socket.io/?EIO=4&transport=polling&sid=${sid}`)).text();
}
