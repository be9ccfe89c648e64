/** The channels that a pull asks for. Pure. */
import { channelPattern } from "../../shared/protocol/grammar.ts";
import { everySlot, slotOf } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";

export interface ChannelFilter {
  /** Names, and prefixes with their final `*`. */
  readonly patterns: readonly string[];
  readonly names: readonly string[];
  /** Without their final `*`. */
  readonly prefixes: readonly string[];
  /** Ascending. */
  readonly slots: readonly number[];
}

const maxPatterns = 100;
/** The beginning of a channel's name. */
const prefixPattern = /^([a-z0-9_-]{0,32}|[a-z0-9_-]{1,32}:[A-Za-z0-9_.:@/-]{0,200})\*$/;

/** @param list separated by commas. @throws TidegateError with every finding. */
export function parseChannels(list: string): ChannelFilter {
  const errors = channelFindings(list);
  if (errors.length > 0) throw new TidegateError("invalid_request", errors.join("; "), { errors });
  const patterns = patternsOf(list);
  const names = patterns.filter((pattern) => !pattern.endsWith("*"));
  const prefixes = patterns.filter((pattern) => pattern.endsWith("*")).map((pattern) => pattern.slice(0, -1));
  const own = [...new Set(names.map(slotOf))].sort((one, other) => one - other);
  return { patterns, names, prefixes, slots: prefixes.length > 0 ? everySlot : own };
}

/** Why {@link parseChannels} would refuse the list. */
export function channelFindings(list: string): readonly string[] {
  const patterns = patternsOf(list);
  const findings = patterns
    .filter((pattern) => !channelPattern.test(pattern) && !prefixPattern.test(pattern))
    .map((pattern) => `channels: "${excerpt(pattern)}" is neither a channel nor a prefix with a final *`);
  if (patterns.length > maxPatterns) findings.unshift(`channels: must list at most ${maxPatterns}`);
  return findings.slice(0, maxPatterns);
}

function patternsOf(list: string): readonly string[] {
  return [...new Set(list.split(","))];
}
