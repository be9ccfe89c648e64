import type { SchemeName, SourceRule } from "../../../shared/rules/sources.ts";
import { github } from "./github.ts";
import { hmac } from "./hmac.ts";
import { meta } from "./meta.ts";
import { none } from "./none.ts";
import type { Scheme } from "./scheme.ts";
import { shopify } from "./shopify.ts";
import { slack } from "./slack.ts";
import { standardWebhooks } from "./standard-webhooks.ts";
import { stripe } from "./stripe.ts";
import { twilio } from "./twilio.ts";

const fixed: Readonly<Record<Exclude<SchemeName, "hmac">, Scheme>> = {
  "standard-webhooks": standardWebhooks,
  github,
  stripe,
  slack,
  shopify,
  meta,
  twilio,
  none,
};

/** @param rule a valid one: with `verify: hmac` it has `hmac`. */
export function schemeOf(rule: SourceRule): Scheme {
  if (rule.verify !== "hmac") return fixed[rule.verify];
  if (!rule.hmac) throw new Error("a source with verify: hmac has no hmac");
  return hmac(rule.hmac);
}
