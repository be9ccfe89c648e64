/** The answering end of the relay by hand: answers what no private API answers. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakePrivateApi {
  readonly url: string;
  /** Of each stream that was opened. */
  readonly opened: readonly IncomingHttpHeaders[];
  /** Called with each question's line, without its hello; answers by writing to the response. */
  onQuestion: (line: string, response: ServerResponse) => void;
  /** False: a stream stays open after the gateway has ended its side. */
  endsStreams: boolean;
  readonly openStreams: number;
  /** Asks the gateway to leave the newest stream. */
  drain(): void;
  stop(): Promise<void>;
}

/** @param options.refuse instead of taking questions. */
export async function startFakePrivateApi(
  options: { refuse?: (response: ServerResponse) => void } = {},
): Promise<FakePrivateApi> {
  const opened: IncomingHttpHeaders[] = [];
  const streams = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    opened.push(request.headers);
    request.on("error", () => response.destroy());
    if (options.refuse) {
      options.refuse(response);
      return;
    }
    response.writeHead(200);
    response.flushHeaders();
    streams.add(response);
    response.once("close", () => streams.delete(response));
    let rest = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (!line.startsWith('{"hello"')) api.onQuestion(line, response);
    });
    request.on("end", () => {
      if (api.endsStreams) response.end();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const api: FakePrivateApi = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    opened,
    onQuestion: () => undefined,
    endsStreams: true,
    get openStreams() {
      return streams.size;
    },
    drain: () => void [...streams].at(-1)?.write('{"drain":true}\n'),
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return api;
}
