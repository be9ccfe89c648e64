/**
 * Lint, and the layout of the code: which room may import which, and where each library and all I/O belong. A room imports
 * from rooms before it in its list, so no two can ever import each other.
 */
import { readdirSync } from "node:fs";
import { defineConfig, type OxlintConfig } from "oxlint";

/** Per program, lowest first. */
const rooms = {
  shared: [
    ...[
      "json",
      "protocol",
      "runtime",
      "http",
      "redis",
      "channels",
      "changes",
      "documents",
      "rollouts",
      "rules",
      "sessions",
    ],
    ...[
      "services",
      "tokens",
      "load",
      "nodes",
      "inventory",
      "dispatchers",
      "queues",
      "endpoints",
      "cells",
      "sql-sources",
      "program",
    ],
  ],
  gateway: [
    ...["metrics", "outbox", "channels", "sessions", "fleet", "relay", "node", "subscriptions", "requests", "commands"],
    ...["entrance", "load", "bootstrap", "journal", "hooks", "moving", "engine"],
  ],
  "private-api": [
    ...[
      "metrics",
      "upstream",
      "changes",
      "leases",
      "endpoints",
      "sources",
      "bridges",
      "dispatch",
      "cells",
      "fleet",
      "node",
      "documents",
    ],
    ...["routes", "relay"],
  ],
  "client/src": ["api", "calls", "channels", "connection"],
  loadtest: [
    "checks",
    "clients",
    "providers",
    "rig",
    "scenarios",
    "checker",
    "order",
    "endpoints",
    "sql-sources",
    "simulation",
    "attack",
    "fuzz",
  ],
  test: ["support", "contract", "unit", "property", "integration", "fault", "e2e"],
};

/** The rooms that may import each library. */
const owners: Readonly<Record<string, readonly string[]>> = {
  ioredis: ["shared/redis"],
  undici: ["shared/http", "shared/services"],
  pino: ["shared/runtime"],
  "prom-client": ["shared/runtime"],
  jose: ["shared/tokens"],
  yaml: ["shared/documents"],
  pg: ["private-api/sources"],
  "mysql2/promise": ["private-api/sources"],
  "@socket.io/redis-adapter": ["private-api/bridges"],
  "@socket.io/redis-streams-adapter": ["private-api/bridges"],
  "socket.io": ["gateway/engine"],
  "socket.io-parser": ["gateway/engine"],
  "socket.io-client": ["client/src/connection"],
};

/** Rooms that decide: they reach files, sockets, processes and Node only through what is handed to them. */
const pure = new Set([
  ...["shared/protocol", "shared/load", "shared/sessions", "gateway/outbox", "gateway/channels", "gateway/fleet"],
  ...["gateway/relay", "gateway/subscriptions", "gateway/requests", "gateway/commands"],
]);

interface Pattern {
  regex: string;
  message: string;
}

/** What every file of a program, or of one room, must not import. */
const foreign: Readonly<Record<string, Pattern>> = {
  shared: { regex: "/(gateway|private-api|loadtest|test)/", message: "shared/ does not know the programs." },
  gateway: { regex: "/(private-api|loadtest|test)/", message: "The programs share code through shared/ only." },
  "private-api": { regex: "/(gateway|loadtest|test)/", message: "The programs share code through shared/ only." },
  "client/src": {
    regex:
      "^node:|/(gateway|private-api|shared/(json|runtime|http|redis|channels|sessions|services|tokens|load|nodes))/",
    message: "The SDK runs in browsers and knows only shared/protocol.",
  },
  loadtest: { regex: "/test/(?!support/)", message: "Load and tests share code through test/support only." },
  "test/support": { regex: "/loadtest/", message: "test/support does not know loadtest/." },
};

/** Load and tests may use every library. */
const unrestricted = new Set(["loadtest", "test"]);

function restrict(
  files: string,
  patterns: readonly (Pattern | undefined)[],
): NonNullable<OxlintConfig["overrides"]>[number] {
  return {
    files: [files],
    rules: { "no-restricted-imports": ["error", { patterns: patterns.filter((pattern) => pattern !== undefined) }] },
  };
}

function libraries(program: string, room: string): Pattern[] {
  if (unrestricted.has(program)) return [];
  return Object.entries(owners)
    .filter(([, owner]) => !owner.includes(room))
    .map(([library, owner]) => ({ regex: `^${library}$`, message: `Only ${owner.join(" and ")} may import this.` }));
}

for (const [program, names] of Object.entries(rooms)) {
  const files = readdirSync(program, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const unlisted = files.find((file) => file.includes("/") && !names.includes(file.slice(0, file.indexOf("/"))));
  if (unlisted !== undefined) throw new Error(`the room of ${program}/${unlisted} is not listed in oxlint.config.ts`);
}

const layout = Object.entries(rooms).flatMap(([program, names]) => [
  restrict(`${program}/*.ts`, [foreign[program], ...libraries(program, program)]),
  ...names.flatMap((name, index) => {
    const room = `${program}/${name}`;
    const higher = names.slice(index + 1).map((other) => `${other}/`);
    const aboveFrom = (up: string): Pattern => ({
      regex: `^${up}(${["[^/]+$", ...higher].join("|")})`,
      message: "A room imports from rooms before it in the list of oxlint.config.ts.",
    });
    const io = { regex: "^node:", message: "A room that decides does no I/O: hand it in." };
    const restricted = [foreign[program], foreign[room], ...libraries(program, room), pure.has(room) ? io : undefined];
    return [
      restrict(`${room}/*.ts`, [...restricted, aboveFrom("\\.\\./")]),
      // A folder within a room.
      restrict(`${room}/*/*.ts`, [...restricted, aboveFrom("\\.\\./\\.\\./")]),
    ];
  }),
]);

export default defineConfig({
  plugins: ["typescript", "unicorn", "oxc", "import", "promise", "vitest"],
  categories: {
    correctness: "error",
    suspicious: "error",
    perf: "error",
  },
  options: {
    typeAware: true,
  },
  ignorePatterns: ["**/dist", "loadtest/k6", "examples/**/page"],
  rules: {
    "import/no-cycle": ["error", { ignoreTypes: false }],
    "import/no-default-export": "error",
    "import/no-unassigned-import": "error",
    "no-console": "error",
    "no-empty": [
      "error",
      {
        allowEmptyCatch: false,
      },
    ],
    eqeqeq: "error",
    "typescript/no-explicit-any": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "typescript/no-non-null-assertion": "error",
    "typescript/switch-exhaustiveness-check": "error",
    "typescript/consistent-type-imports": "error",
    "typescript/only-throw-error": "error",
    "no-await-in-loop": "off",
    "no-shadow": "off",
    "no-underscore-dangle": "off",
    "unicorn/no-array-sort": "off",
    "unicorn/consistent-function-scoping": "off",
    "typescript/no-unsafe-type-assertion": "off",
    "import/no-named-as-default-member": "off",
    "typescript/consistent-return": "off",
    "consistent-return": "off",
    "oxc/no-async-endpoint-handlers": "off",
    "promise/always-return": "off",
    "unicorn/no-useless-spread": "off",
    "promise/no-callback-in-promise": "off",
    "typescript/unbound-method": "off",
    "oxc/no-map-spread": "off",
    "vitest/no-conditional-expect": "off",
    "vitest/expect-expect": [
      "error",
      {
        assertFunctionNames: [
          "expect*",
          "eventually",
          "fc.assert",
          "counted",
          "honestClientIsServed",
          "isCut",
          "nothingIsLeft",
          "answersToCrowd",
        ],
      },
    ],
    "vitest/valid-expect": [
      "error",
      {
        maxArgs: 2,
      },
    ],
    "vitest/require-to-throw-message": "off",
    "no-unmodified-loop-condition": "off",
    "unicorn/no-invalid-fetch-options": "off",
  },
  overrides: [
    ...layout,
    { files: ["*.config.ts"], rules: { "import/no-default-export": "off" } },
    {
      files: ["gateway/**/*.ts", "private-api/**/*.ts", "shared/**/*.ts"],
      rules: {
        "no-restricted-globals": [
          "error",
          {
            name: "setInterval",
            message: "Periodic work goes through ContainedErrors.every: what it throws must not end the process.",
          },
        ],
        "no-restricted-properties": [
          "error",
          {
            property: "resetAndDestroy",
            message: "Use resetSocket: it also closes a socket whose output ends just now.",
          },
        ],
      },
    },
    { files: ["shared/runtime/contained-errors.ts"], rules: { "no-restricted-globals": "off" } },
    { files: ["shared/http/reset-socket.ts"], rules: { "no-restricted-properties": "off" } },
  ],
});
