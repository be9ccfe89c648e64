/**
 * The service behind the shared board: plain HTTP in, plain HTTP out. It has no websocket and imports nothing of the
 * gateway. Actions of users arrive as signed POST requests; changes for all windows leave as publishes.
 *
 * Each action names the channel position that its window had seen, and the publish expects the channel to be there: the
 * channel decides which of two actions was first, also between two processes of this service. A new card names none: nothing
 * clashes with it, and it comes from a queue, perhaps much later than its window sent it. Boards are kept in memory;
 * after a start they are rebuilt from the channel's history. A service with a database would start from that.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import { inspect } from "node:util";
import { Board, numberOf, type Page, type Position, positionOf, Refusal, textOf } from "./board.ts";
import { readCall } from "./call.ts";
import { PrivateApi, PrivateApiError } from "./private-api.ts";

export interface BoardServiceOptions {
  /** `whsec_` and base64; requests of the private API are signed with it. */
  secret: string;
  privateApiUrl: string;
  /** A token of the private API with the scopes `publish` and `read`. */
  publishToken: string;
}

interface Answer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

const maxBoards = 100;

/** The caller listens and closes. */
export function createBoardService(options: BoardServiceOptions): Server {
  const api = new PrivateApi(options.privateApiUrl, options.publishToken);
  const boards = new Map<string, Board>();

  async function answer(request: IncomingMessage): Promise<Answer> {
    const { event, eventId, user, boardId, input } = await readCall(request, options.secret);
    const channel = `board:${boardId}`;
    if (event === "cursor") {
      const card = typeof input["card"] === "string" ? input["card"] : null;
      const data = { user, tab: String(input["tab"]), x: numberOf(input, "x"), y: numberOf(input, "y"), card };
      await api.publish({ channel, event, data, history: false });
      return { status: 204 };
    }
    if (event === "notice") {
      await api.publish({ channel, event, data: { text: textOf(input) }, id: eventId });
      return { status: 204 };
    }
    const board = boardOf(boardId);
    if (event === "board.load") {
      // As new as the request: a client that subscribed before it misses nothing.
      board.follow(await readOn(channel, board.position));
      return { status: 200, body: board.snapshot() };
    }
    if (event === "card.add") {
      board.follow(await readOn(channel, board.position));
      await api.publish({ channel, ...board.plan(event, input, user, eventId), id: eventId });
      board.follow(await readOn(channel, board.position));
      return { status: 204 };
    }
    const expect = positionOf(input);
    if (!isAt(board, expect)) board.follow(await readOn(channel, board.position));
    const change = board.plan(event, input, user, eventId);
    const published = await api.publish({ channel, ...change, id: eventId, expect });
    // Another action was first. The client gets its publications and decides.
    if (published.kind === "conflict") {
      const { position, publications } = published;
      return { status: 409, body: { code: "conflict", message: "the board has changed", position, publications } };
    }
    const { position, duplicate } = published;
    // An earlier try was published, possibly by another process.
    if (duplicate) board.follow(await readOn(channel, board.position));
    else board.follow({ position, publications: [{ ...change, offset: position.offset }] });
    return { status: 200, body: { position, ...change.data } };
  }

  function boardOf(boardId: string): Board {
    const known = boards.get(boardId);
    if (known) return known;
    if (boards.size >= maxBoards) throw new Refusal(409, "too_many_boards", "no more boards");
    const board = new Board();
    boards.set(boardId, board);
    return board;
  }

  /** Publications after `since`; the whole history before the first read, or where history has a gap after `since`. */
  async function readOn(channel: string, since: Position | null): Promise<Page> {
    const page = since && (await api.history<Page>(channel, since));
    return page ?? (await api.history<Page>(channel)) ?? Promise.reject(new PrivateApiError("no history"));
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

function isAt({ position }: Board, { epoch, offset }: Position): boolean {
  return position?.epoch === epoch && position.offset === offset;
}

function failureAnswer(error: unknown): Answer {
  if (error instanceof Refusal) return { status: error.status, body: { code: error.code, message: error.message } };
  process.stderr.write(`board service: ${inspect(error)}\n`);
  if (error instanceof PrivateApiError) return { status: 503, headers: { "retry-after": "1" } };
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
