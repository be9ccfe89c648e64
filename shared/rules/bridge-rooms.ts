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
export class Template {
  readonly text: string;
  readonly pieces: ReturnType<typeof templatePieces>;
  readonly names: readonly string[];
  /** The text before the first placeholder. */
  readonly prefix: string;
  /** The text after the last placeholder. */
  readonly suffix: string;
  /** Characters beside placeholders. */
  readonly fixedLength: number;
  readonly #excluded: readonly string[];
  #pattern: RegExp | undefined;

  /** @param excluded characters that no value has. */
  constructor(text: string, excluded: readonly string[]) {
    this.text = text;
    this.#excluded = excluded;
    this.pieces = templatePieces(text);
    this.names = placeholdersOf(text);
    const [first, last] = [this.pieces.at(0), this.pieces.at(-1)];
    this.prefix = first && "text" in first ? first.text : "";
    this.suffix = last && "text" in last ? last.text : "";
    this.fixedLength = this.pieces.reduce((sum, piece) => sum + ("text" in piece ? piece.text.length : 0), 0);
  }

  /** Compiled when it is used first: a document has 2,048 templates, and to check it takes hardly any pattern. */
  get pattern(): RegExp {
    this.#pattern ??= patternOf(this.pieces, this.#excluded);
    return this.#pattern;
  }
}

/** A room template and its channel template. Each room has one channel, and the channel has that room. */
interface RoomPair {
  readonly room: Template;
  readonly channel: Template;
}

export class RoomMap {
  readonly #pairs: readonly RoomPair[];

  /** @param rooms valid ones ({@link checkRooms}): by room template, the channel template. */
  constructor(rooms: Readonly<Record<string, string>>) {
    this.#pairs = pairsOf(Object.entries(rooms));
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

/** The rooms of one bridge. */
export interface CheckedRooms {
  readonly findings: readonly string[];
  /** Of the pairs that are valid by themselves. */
  readonly channels: readonly Template[];
}

/** @param path of the member `rooms` */
export function checkRooms(path: string, rooms: Readonly<Record<string, string>>): CheckedRooms {
  const entries = Object.entries(rooms);
  const findings = entries.length === 0 ? [`${path}: names no room`] : [];
  const valid = entries.filter(([room, channel]) => {
    const found = pairFindings(`${path}.${room}`, room, channel);
    findings.push(...found);
    return found.length === 0;
  });
  const pairs = pairsOf(valid);
  for (const [one, other] of meetings(pairs.map(({ room }) => room))) {
    findings.push(`${path}: a room can match both "${one.text}" and "${other.text}"`);
  }
  return { findings, channels: pairs.map(({ channel }) => channel) };
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

function pairsOf(rooms: readonly (readonly [room: string, channel: string])[]): RoomPair[] {
  return rooms.map(([room, channel]) => {
    // With several placeholders no value contains what separates them, on either side: each text can be read in one way.
    const excluded = [...separatorsOf(room), ...separatorsOf(channel)];
    return { room: new Template(room, excluded), channel: new Template(channel, excluded) };
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

function patternOf(pieces: Template["pieces"], excluded: readonly string[]): RegExp {
  const not = excluded.map((character) => `(?!${escaped(character)})`).join("");
  const body = pieces.map((piece) => ("placeholder" in piece ? `((?:${not}${valueCharacter})+)` : escaped(piece.text)));
  return new RegExp(`^${body.join("")}$`, "s");
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

/** The pairs of templates that one text can match both; where in doubt it can. */
export function* meetings(templates: readonly Template[]): Generator<readonly [Template, Template]> {
  // A document has half a million pairs of channels: to compare their texts would take half a second.
  const prefixes = rangesOf(templates.map(({ prefix }) => prefix));
  const suffixes = rangesOf(templates.map(({ suffix }) => reversed(suffix)));
  const sides = templates.flatMap((template) => {
    const [prefix, suffix] = [prefixes.get(template.prefix), suffixes.get(reversed(template.suffix))];
    return prefix && suffix ? [{ template, prefix, suffix }] : [];
  });
  for (const [index, one] of sides.entries()) {
    for (const other of sides.slice(index + 1)) {
      const mayMeet = areNested(one.prefix, other.prefix) && areNested(one.suffix, other.suffix);
      if (mayMeet && canFill(one.template, other.template)) yield [one.template, other.template];
    }
  }
}

/** A text among others in their order. */
interface Range {
  readonly at: number;
  /** The others that begin with it come before this one. */
  end: number;
}

function rangesOf(texts: readonly string[]): ReadonlyMap<string, Range> {
  const ranges = new Map<string, Range>();
  /** Each begins with the one before. */
  const beginnings: { text: string; range: Range }[] = [];
  const sorted = [...new Set(texts)].toSorted();
  for (const [at, text] of sorted.entries()) {
    for (let last = beginnings.at(-1); last && !text.startsWith(last.text); last = beginnings.at(-1)) {
      last.range.end = at;
      beginnings.pop();
    }
    const range = { at, end: sorted.length };
    ranges.set(text, range);
    beginnings.push({ text, range });
  }
  return ranges;
}

/** Whether one of the texts begins with the other. */
function areNested(one: Range, other: Range): boolean {
  return one.at < other.at ? other.at < one.end : one.at < other.end;
}

function reversed(text: string): string {
  return Array.from(text).toReversed().join("");
}

/** Whether one of two templates with nested prefixes and suffixes, if it is a text without placeholders, matches the other. */
function canFill(one: Template, other: Template): boolean {
  if (one.names.length === 0) return other.pattern.test(one.text);
  return other.names.length > 0 || one.pattern.test(other.text);
}
