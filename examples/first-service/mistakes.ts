/** Mistakes that people make in their first week, made on purpose: each says what leads to its cause. */
import { connect, TidegateError } from "../../client/src/index.ts";
import { eventually } from "../../test/support/eventually.ts";
import { newServiceSecret } from "../shared/demo.ts";
import type { Deployment } from "./deployment.ts";
import { tokenFor } from "./traffic.ts";

export interface Mistake {
  name: string;
  /** What is looked for in what is seen. */
  shown: string;
  /** The answer or the log that the mistake leaves. */
  make(deployment: Deployment): Promise<string>;
  /** Restarts a process. */
  slow?: true;
}

const anything = { text: "a note" };

/** One call or subscribe of a client of its own. */
async function refusal(deployment: Deployment, act: "note.add" | "note.ad" | "subscribe"): Promise<string> {
  const client = connect({ url: deployment.url, token: async () => tokenFor("eve", deployment.secrets.jwt) });
  try {
    if (act === "subscribe") await client.channel("secret:1").subscribe();
    else await client.call(act, anything, { offline: true });
    return "nothing: it was accepted";
  } catch (error) {
    return error instanceof TidegateError ? `${error.code}: ${error.message}` : String(error);
  } finally {
    client.close();
  }
}

async function publish(deployment: Deployment, token: string): Promise<string> {
  const { status, text } = await deployment.api("POST", "/v1/publish", token, { channel: "notes:1" });
  return `${status} ${text}`;
}

async function logged(deployment: Deployment, phrase: string): Promise<string> {
  await eventually(() => deployment.log.includes(phrase));
  return deployment.log.split("\n").find((line) => line.includes(phrase)) ?? "";
}

export const mistakes: readonly Mistake[] = [
  {
    name: "a client emits an event that no route takes",
    shown: 'no route for "note.ad"',
    make: async (deployment) => refusal(deployment, "note.ad"),
  },
  {
    name: "a client follows a channel that its token does not allow",
    shown: "channel_not_allowed",
    make: async (deployment) => refusal(deployment, "subscribe"),
  },
  {
    name: "a token has expired",
    shown: "token_expired",
    make: async ({ url, secrets }) => {
      const client = connect({ url, token: await tokenFor("eve", secrets.jwt, "-1h") });
      await eventually(() => client.state.status === "closed");
      return client.state.status === "closed" ? `${client.state.reason.code}: ${client.state.reason.message}` : "";
    },
  },
  {
    name: "a service publishes with a token that lacks the scope",
    shown: 'lacks the scope \\"publish\\"',
    make: async (deployment) => publish(deployment, deployment.operatorToken),
  },
  {
    name: "a service publishes with a token that nobody knows",
    shown: "a known token is required",
    make: async (deployment) => publish(deployment, "no-token"),
  },
  {
    name: "the rules name a service that they do not have",
    shown: "no such service",
    make: async (deployment) => {
      await deployment.writeRules((rules) => rules.replaceAll("service: notes", "service: note"));
      const line = await logged(deployment, "no such service");
      await deployment.writeRules();
      return line;
    },
  },
  {
    name: "the service has another secret than the rules",
    shown: "the service does not accept the request (401)",
    slow: true,
    make: async (deployment) => {
      const { serviceAccepts } = deployment.secrets;
      deployment.secrets.serviceAccepts = newServiceSecret();
      await deployment.restart("service");
      await refusal(deployment, "note.add");
      deployment.secrets.serviceAccepts = serviceAccepts;
      await deployment.restart("service");
      return logged(deployment, "the service does not accept the request (401)");
    },
  },
  {
    name: "the service is down",
    shown: "cannot be reached: ECONNREFUSED",
    slow: true,
    make: async (deployment) => {
      await deployment.stop("service", "SIGKILL");
      const answer = await refusal(deployment, "note.add");
      await deployment.start("service");
      return `${answer}; ${await logged(deployment, "cannot be reached: ECONNREFUSED")}`;
    },
  },
  {
    name: "a gateway has another relay token than the private API",
    shown: "private API refuses this gateway",
    slow: true,
    make: async (deployment) => {
      const { relay } = deployment.secrets;
      deployment.secrets.relay = "not-the-relay-token";
      await deployment.stop("gateway-1");
      // It does not become ready.
      void deployment.start("gateway-1").catch(() => undefined);
      const line = await logged(deployment, "private API refuses this gateway");
      deployment.secrets.relay = relay;
      await deployment.restart("gateway-1");
      return line;
    },
  },
];
