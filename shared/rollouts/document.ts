/** The rollouts document: its schema and further checks. Pure. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import { isTooDeep, membersOf } from "../json/json.ts";
import { maxJsonDepth } from "../json/json-scan.ts";
import { wellFormedPattern } from "../protocol/grammar.ts";
import { explain } from "../runtime/schema-errors.ts";
import { isRepresentable, pointCount, pointsPerPercent } from "./point.ts";
import { divide, ownersOf, type Shares } from "./shares.ts";

const closed = { additionalProperties: false } as const;
const maxGroups = 32;
const maxUsers = 1_000;
const maxUserLength = 256;
export const maxConfigBytes = 16 * 1024;

const common = {
  name: Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" }),
  /** Address for the group, in place of the fleet's own addresses. */
  url: Type.Optional(Type.String({ pattern: "^https?://[^\\s/?#@]+(/[^\\s?#]*)?$", maxLength: 2_048 })),
  config: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
};
const Fallback = Type.Object(common, closed);
const Group = Type.Object(
  {
    ...common,
    percent: Type.Number({ minimum: 0, maximum: 100 }),
    /** Members of the group independent of the percentage. */
    users: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: maxUserLength, pattern: wellFormedPattern.source }), {
        maxItems: maxUsers,
      }),
    ),
  },
  closed,
);

const RolloutsDocument = Type.Object(
  { groups: Type.Array(Group, { maxItems: maxGroups }), fallback: Fallback },
  closed,
);
export type RolloutsDocument = Static<typeof RolloutsDocument>;
export type RolloutGroup = Static<typeof Group> | Static<typeof Fallback>;

const Point = Type.Integer({ minimum: 0, maximum: pointCount });
const SharesSchema = Type.Record(Type.String(), Type.Array(Type.Tuple([Point, Point]), { maxItems: pointCount }));

/** The stored form: with the points of each group. */
export type StoredRollouts = RolloutsDocument & { shares: Shares };

const validator = Compile(RolloutsDocument);
const sharesValidator = Compile(SharesSchema);
const parts = { group: Compile(Group), fallback: Compile(Fallback) };

/** @throws InvalidDocument with every finding. */
export function checkRollouts(value: unknown): RolloutsDocument {
  const { groups } = membersOf(value);
  if (Array.isArray(groups) && groups.length > maxGroups) {
    throw new InvalidDocument("rollouts", [`groups: has ${groups.length} entries, more than ${maxGroups}`]);
  }
  const meaning = meaningOf(value);
  if (!validator.Check(value)) {
    throw new InvalidDocument("rollouts", [...explain(validator, value), ...meaning]);
  }
  if (meaning.length > 0) throw new InvalidDocument("rollouts", meaning);
  return value;
}

/** @throws InvalidDocument with every finding. */
export function checkStoredRollouts(value: unknown): StoredRollouts {
  const { shares, ...document } = membersOf(value);
  const checked = checkRollouts(document);
  if (!sharesValidator.Check(shares) || !ownersOf(checked.groups.map(({ name }) => shares[name] ?? []))) {
    throw new InvalidDocument("rollouts", ["shares: do not match the groups"]);
  }
  return { ...checked, shares };
}

/** @param before the stored rollouts, if valid: users stay in their groups as far as possible. */
export function withShares(document: RolloutsDocument, before: StoredRollouts | undefined): StoredRollouts {
  return { ...document, shares: divide(document.groups, before?.shares ?? {}) };
}

/** Checks parts that match their schema for conflicts between each other. */
function meaningOf(value: unknown): string[] {
  const { groups: given, fallback } = membersOf(value);
  const groups = Array.isArray(given)
    ? given.flatMap((group: unknown, index) => (parts.group.Check(group) ? [[index, group] as const] : []))
    : [];
  const findings: string[] = [];
  const named: (readonly [path: string, group: RolloutGroup])[] = groups.map(([index, group]) => [
    `groups.${index}`,
    group,
  ]);
  if (parts.fallback.Check(fallback)) named.push(["fallback", fallback]);
  const names = new Set<string>();
  for (const [path, { name, url, config = {} }] of named) {
    if (names.has(name)) findings.push(`${path}.name: "${name}" is a group already`);
    names.add(name);
    if (url !== undefined && !URL.canParse(url)) findings.push(`${path}.url: is not a URL`);
    if (isTooDeep(config)) findings.push(`${path}.config: is nested deeper than ${maxJsonDepth} levels`);
    else if (Buffer.byteLength(JSON.stringify(config)) > maxConfigBytes) {
      findings.push(`${path}.config: is larger than ${maxConfigBytes} bytes of JSON`);
    }
  }
  const listed = new Set<string>();
  let points = 0;
  for (const [index, { percent, users = [] }] of groups) {
    if (!isRepresentable(percent)) findings.push(`groups.${index}.percent: has more than two decimals`);
    points += Math.round(percent * pointsPerPercent);
    for (const user of new Set(users)) {
      if (listed.has(user)) findings.push(`groups.${index}.users: "${user}" is in another group already`);
      listed.add(user);
    }
  }
  if (points > pointCount) {
    findings.push(`groups: the percentages add up to ${points / pointsPerPercent}, more than 100`);
  }
  return findings;
}
