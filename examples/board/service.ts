/**
 * The service behind the shared board: plain HTTP in, plain HTTP out. It has no websocket and imports nothing of the
 * gateway. Actions of users arrive as signed POST requests; changes for all windows leave as publishes.
 *
 * Each action names the channel position that its window had seen, and the publish expects the channel to be there: the
 * channel decides which of two actions was first, also between two processes of this service. A new card names none: nothing
 * clashes with it, and it comes from a queue, perhaps much later than its window sent it. Boards are kept in memory;
 * after a start they are rebuilt from the channel's history. A service with a database would start from that.
 */
import type { Server } from "node:http";
import { Refusal } from "../shared/failures.ts";
import { type Input, numberOf, textOf } from "../shared/input.ts";
import { PrivateApi, type Position } from "../shared/private-api.ts";
import { setting } from "../shared/setting.ts";
import { type Answer, createSignedService, type SignedEvent } from "../shared/signed-service.ts";
import { Board, maxTextLength, type Page, positionOf } from "./board.ts";

export interface BoardServiceOptions {
  /** `whsec_` and base64; requests of the private API are signed with it. */
  secret: string;
  privateApiUrl: string;
  /** A token of the private API with the scopes `publish` and `read`. */
  publishToken: string;
}

const maxBoards = 100;
const maxTabLength = 40;

/** The caller listens and closes. */
export function createBoardService(options: BoardServiceOptions): Server {
  const api = new PrivateApi(options.privateApiUrl, options.publishToken);
  const boards = new Map<string, Board>();

  async function answer({ event, eventId, user, input }: SignedEvent): Promise<Answer> {
    const boardId = boardIdOf(input);
    const channel = `board:${boardId}`;
    if (event === "cursor") {
      const card = typeof input["card"] === "string" ? input["card"] : null;
      const tab = textOf(input, "tab", maxTabLength);
      const data = { user, tab, x: numberOf(input, "x"), y: numberOf(input, "y"), card };
      await api.publish({ channel, event, data, history: false });
      return { status: 204 };
    }
    if (event === "notice") {
      await api.publish({ channel, event, data: { text: textOf(input, "text", maxTextLength) }, id: eventId });
      return { status: 204 };
    }
    const board = boardOf(boardId);
    if (event === "board.load") {
      // As new as the request: a client that subscribed before it misses nothing.
      await catchUp(board, channel);
      return { status: 200, body: board.snapshot() };
    }
    if (event === "card.add") {
      await catchUp(board, channel);
      await api.publish({ channel, ...board.plan(event, input, user, eventId), id: eventId });
      await catchUp(board, channel);
      return { status: 204 };
    }
    const expect = positionOf(input);
    if (!isAt(board, expect)) await catchUp(board, channel);
    const change = board.plan(event, input, user, eventId);
    const published = await api.publish({ channel, ...change, id: eventId, expect });
    // Another action was first. The client gets its publications and decides.
    if (published.kind === "conflict") {
      const { position, publications } = published;
      return { status: 409, body: { code: "conflict", message: "the board has changed", position, publications } };
    }
    const { position, duplicate } = published;
    // An earlier try was published, possibly by another process.
    if (duplicate) await catchUp(board, channel);
    else board.follow({ position, publications: [{ ...change, offset: position.offset }] });
    return { status: 200, body: { position, ...change.data } };
  }

  async function catchUp(board: Board, channel: string): Promise<void> {
    board.follow(await api.historyAfter<Page>(channel, board.position));
  }

  function boardOf(boardId: string): Board {
    const known = boards.get(boardId);
    if (known) return known;
    if (boards.size >= maxBoards) throw new Refusal(409, "too_many_boards", "no more boards");
    const board = new Board();
    boards.set(boardId, board);
    return board;
  }

  return createSignedService("board service", options.secret, answer);
}

function isAt({ position }: Board, { epoch, offset }: Position): boolean {
  return position?.epoch === epoch && position.offset === offset;
}

function boardIdOf(input: Input): string {
  const boardId = input["board"];
  if (typeof boardId === "string" && /^[a-z0-9-]{1,40}$/.test(boardId)) return boardId;
  throw new Refusal(400, "bad_input", "board must be a name of lowercase letters, digits and dashes");
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
