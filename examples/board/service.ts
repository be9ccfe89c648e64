/**
 * The service behind the shared board: plain HTTP in, plain HTTP out. It knows no websocket and imports nothing of
 * the gateway. What people do arrives as signed POST requests; what everybody must see leaves as a publish.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import { inspect } from "node:util";
import { Board, numberOf, Refusal } from "./board.ts";
import { readCall } from "./call.ts";

export interface BoardServiceOptions {
  /** `whsec_` and base64: requests of the gateway are signed with it. */
  secret: string;
  privateApiUrl: string;
  /** A token of the private API with the scope `publish`. */
  publishToken: string;
}

interface Answer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

interface Publish {
  channel: string;
  event: string;
  data: unknown;
  /** Makes a repeated publish harmless. */
  id?: string;
  /** False: a passing thing, for whoever is there now. */
  history?: boolean;
}

const maxBoards = 100;
const publishTimeoutMs = 3_000;

/** The caller listens and closes. */
export function createBoardService(options: BoardServiceOptions): Server {
  const boards = new Map<string, { board: Board; lastTurn: Promise<unknown> }>();

  async function answer(request: IncomingMessage): Promise<Answer> {
    const call = await readCall(request, options.secret);
    const channel = `board:${call.boardId}`;
    if (call.event === "cursor") {
      const { user, input } = call;
      const card = typeof input["card"] === "string" ? input["card"] : null;
      const data = { user, tab: String(input["tab"]), x: numberOf(input, "x"), y: numberOf(input, "y"), card };
      await publish({ channel, event: "cursor", data, history: false });
      return { status: 204 };
    }
    return inTurn(call.boardId, async (board) => {
      if (call.event === "board.load") return { status: 200, body: board.snapshot() };
      // Published first: what everybody saw is what is kept, and a failed publish changes nothing.
      const change = board.plan(call.event, call.input, call.user, call.eventId);
      await publish({ channel, ...change, id: call.eventId });
      board.apply(change);
      return { status: 200, body: change.data };
    });
  }

  /** One change of a board at a time, so that its publications leave in the order of its versions. */
  function inTurn(boardId: string, work: (board: Board) => Promise<Answer>): Promise<Answer> {
    const entry = boards.get(boardId) ?? { board: new Board(), lastTurn: Promise.resolve() };
    if (boards.size >= maxBoards && !boards.has(boardId)) throw new Refusal(409, "too_many_boards", "no more boards");
    boards.set(boardId, entry);
    const turn = entry.lastTurn.then(() => work(entry.board));
    entry.lastTurn = turn.catch(() => {});
    return turn;
  }

  async function publish(publication: Publish): Promise<void> {
    const response = await fetch(`${options.privateApiUrl}/v1/publish`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${options.publishToken}` },
      body: JSON.stringify(publication),
      signal: AbortSignal.timeout(publishTimeoutMs),
    }).catch((error: unknown) => {
      throw new PublishError("the private API cannot be reached", { cause: error });
    });
    if (!response.ok) throw new PublishError(`publish was answered ${response.status}: ${await response.text()}`);
    await response.body?.cancel();
  }

  return createServer((request, response) => {
    void answer(request)
      .catch(failureAnswer)
      .then(({ status, body, headers }) => {
        response.writeHead(status, { "content-type": "application/json", ...headers });
        response.end(body === undefined ? undefined : JSON.stringify(body));
      });
  });
}

class PublishError extends Error {}

function failureAnswer(error: unknown): Answer {
  if (error instanceof Refusal) return { status: error.status, body: { code: error.code, message: error.message } };
  process.stderr.write(`board service: ${inspect(error)}\n`);
  if (error instanceof PublishError) return { status: 503, headers: { "retry-after": "1" } };
  return { status: 500 };
}

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`set ${name} in the environment`);
  return value;
}

if (import.meta.main) {
  const server = createBoardService({
    secret: setting("BOARD_SECRET"),
    privateApiUrl: setting("PRIVATE_API_URL"),
    publishToken: setting("PRIVATE_API_TOKEN"),
  });
  const port = Number(process.env["PORT"] ?? 8083);
  server.listen(port, "127.0.0.1", () => process.stdout.write(`board service: http://127.0.0.1:${port}\n`));
}
