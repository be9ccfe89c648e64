/** Rooms of a Socket.IO fleet, and the channels that stand for them: `board-{id}` is `board:{id}`. Pure. */
import { isChannel } from "../protocol/grammar.ts";
import { templatePieces } from "./sources.ts";

/** What a value can consist of: characters of channels. */
const valueCharacter = "[A-Za-z0-9_.:@/-]";
const namePattern = /^[A-Za-z][A-Za-z0-9_]{0,31}$/;
/** Of a room template, beside placeholders. With so many the id of a socket, which is random, hardly ever matches. */
const tellingCharacters = 3;
const channelBeginning = /^[a-z0-9_-]{1,32}:/;

/** One side of a pair of templates. */
interface Template {
  readonly text: string;
  readonly pieces: ReturnType<typeof templatePieces>;
  readonly names: readonly string[];
  /** The text before the first placeholder. */
  readonly prefix: string;
  /** The text after the last placeholder. */
  readonly suffix: string;
  /** Characters beside placeholders. */
  readonly fixedLength: number;
  readonly pattern: RegExp;
}

/** A room template and its channel template. Each room has one channel, and the channel has that room. */
interface RoomPair {
  readonly room: Template;
  readonly channel: Template;
}

export class RoomMap {
  readonly #pairs: readonly RoomPair[];

  /** @param rooms valid ones ({@link roomFindings}): by room template, the channel template. */
  constructor(rooms: Readonly<Record<string, string>>) {
    this.#pairs = pairsOf(rooms);
  }

  /** Undefined where the bridge does not carry the room. */
  channelOf(room: string): string | undefined {
    for (const pair of this.#pairs) {
      const channel = translated(room, pair.room, pair.channel);
      if (channel !== undefined && isChannel(channel)) return channel;
    }
    return undefined;
  }

  /** Whether a name that may be one of a socket is that of a carried room. No where a template such as `{id}` matches every socket. */
  isRoom(name: string): boolean {
    return this.#pairs.some(({ room }) => room.fixedLength >= tellingCharacters && room.pattern.test(name));
  }

  /** Undefined where the bridge does not carry the channel. */
  roomOf(channel: string): string | undefined {
    for (const pair of this.#pairs) {
      const room = translated(channel, pair.channel, pair.room);
      if (room !== undefined) return room;
    }
    return undefined;
  }

  /** Every channel that it has a room for is one of these, or begins with one that ends in `*`. */
  get channelPatterns(): readonly string[] {
    return this.#pairs.map(({ channel }) => (channel.names.length === 0 ? channel.text : `${channel.prefix}*`));
  }
}

/** What is wrong with the templates of one bridge. @param path of the member `rooms` */
export function roomFindings(path: string, rooms: Readonly<Record<string, string>>): string[] {
  const findings = Object.entries(rooms).flatMap(([room, channel]) => pairFindings(`${path}.${room}`, room, channel));
  if (Object.keys(rooms).length === 0) findings.push(`${path}: names no room`);
  if (findings.length > 0) return findings;
  const pairs = pairsOf(rooms);
  for (const [index, one] of pairs.entries()) {
    for (const other of pairs.slice(index + 1)) {
      if (mayMeet(one.room, other.room)) {
        findings.push(`${path}: a room can match both "${one.room.text}" and "${other.room.text}"`);
      }
      if (mayMeet(one.channel, other.channel)) {
        findings.push(`${path}: a channel can match both "${one.channel.text}" and "${other.channel.text}"`);
      }
    }
  }
  return findings;
}

/** The channel templates of two bridges that one channel can match. @param one @param other valid ones */
export function sharedChannels(
  one: Readonly<Record<string, string>>,
  other: Readonly<Record<string, string>>,
): readonly (readonly [string, string])[] {
  const others = pairsOf(other);
  return pairsOf(one).flatMap(({ channel }) =>
    others.filter((pair) => mayMeet(channel, pair.channel)).map((pair) => [channel.text, pair.channel.text] as const),
  );
}

function pairFindings(path: string, room: string, channel: string): string[] {
  const [ofRoom, ofChannel] = [placeholdersOf(room), placeholdersOf(channel)];
  const wrong = [...ofRoom, ...ofChannel].find((name) => !namePattern.test(name));
  if (wrong !== undefined) return [`${path}: {${wrong}} is no name of a placeholder`];
  const isRepeated = [ofRoom, ofChannel].some((names) => new Set(names).size < names.length);
  if (isRepeated) return [`${path}: names a placeholder twice`];
  if (ofRoom.toSorted().join() !== ofChannel.toSorted().join()) {
    return [`${path}: "${room}" and "${channel}" must have the same placeholders, so that each channel has one room`];
  }
  if ([room, channel].some((text) => text.includes("}{"))) {
    return [`${path}: two placeholders must have text between them, so that it is clear where one ends`];
  }
  if (!channelBeginning.test(channel)) {
    return [`${path}: "${channel}" must begin with a namespace without placeholders, e.g. "board:{id}"`];
  }
  if (!isChannel(templateText(channel))) return [`${path}: "${channel}" can never be a channel, e.g. "board:42"`];
  return [];
}

function placeholdersOf(text: string): string[] {
  return templatePieces(text).flatMap((piece) => ("placeholder" in piece ? [piece.placeholder] : []));
}

/** With a value in every placeholder. */
function templateText(text: string): string {
  return templatePieces(text)
    .map((piece) => ("placeholder" in piece ? "x" : piece.text))
    .join("");
}

function pairsOf(rooms: Readonly<Record<string, string>>): RoomPair[] {
  return Object.entries(rooms).map(([room, channel]) => {
    // With several placeholders no value contains what separates them, on either side: each text can be read in one way.
    const excluded = [...separatorsOf(room), ...separatorsOf(channel)];
    return { room: templateOf(room, excluded), channel: templateOf(channel, excluded) };
  });
}

/** The first characters of the texts between two placeholders. */
function separatorsOf(text: string): string[] {
  const pieces = templatePieces(text);
  return pieces.flatMap((piece, index) => {
    const isBetween = index > 0 && index < pieces.length - 1;
    return isBetween && "text" in piece ? [piece.text.charAt(0)] : [];
  });
}

function templateOf(text: string, excluded: readonly string[]): Template {
  const pieces = templatePieces(text);
  const names = placeholdersOf(text);
  const not = excluded.map((character) => `(?!${escaped(character)})`).join("");
  const body = pieces.map((piece) => ("placeholder" in piece ? `((?:${not}${valueCharacter})+)` : escaped(piece.text)));
  const [first, last] = [pieces.at(0), pieces.at(-1)];
  return {
    ...{ text, pieces, names },
    prefix: first && "text" in first ? first.text : "",
    suffix: last && "text" in last ? last.text : "",
    fixedLength: pieces.reduce((sum, piece) => sum + ("text" in piece ? piece.text.length : 0), 0),
    pattern: new RegExp(`^${body.join("")}$`, "s"),
  };
}

function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`);
}

/** Undefined where the text does not match. */
function translated(text: string, from: Template, to: Template): string | undefined {
  const match = from.pattern.exec(text);
  if (!match) return undefined;
  const values = new Map(from.names.map((name, index) => [name, match[index + 1] ?? ""]));
  return to.pieces.map((piece) => ("placeholder" in piece ? values.get(piece.placeholder) : piece.text)).join("");
}

/** Whether one text can match both; where in doubt it can. */
function mayMeet(one: Template, other: Template): boolean {
  if (one.names.length === 0) return other.pattern.test(one.text);
  if (other.names.length === 0) return one.pattern.test(other.text);
  const prefixes = one.prefix.startsWith(other.prefix) || other.prefix.startsWith(one.prefix);
  const suffixes = one.suffix.endsWith(other.suffix) || other.suffix.endsWith(one.suffix);
  return prefixes && suffixes;
}
