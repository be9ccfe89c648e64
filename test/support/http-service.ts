/** A real HTTP service of the test. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface ServiceRequest {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
  /** The body as it came. */
  bytes: Buffer;
}

export interface HttpService {
  readonly url: string;
  /** Every request, in order of arrival. */
  readonly requests: readonly ServiceRequest[];
  /** What it does from now on. */
  answer: (request: ServiceRequest, response: ServerResponse) => void;
  stop(): Promise<void>;
}

/** Answers `{}` until told otherwise. @param port 0: the system chooses */
export async function startService({ port = 0 } = {}): Promise<HttpService> {
  const requests: ServiceRequest[] = [];
  const service: { answer: HttpService["answer"] } = { answer: (_request, response) => answerJson(response, {}) };
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const bytes = Buffer.concat(chunks);
      const request = { path: incoming.url ?? "", headers: incoming.headers, body: bytes.toString(), bytes };
      requests.push(request);
      service.answer(request, response);
    });
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(service, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  });
}

export function answerJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
