/** Private APIs beside that of a fleet. */
import { privateApiSettings } from "../../private-api/config.ts";
import { createPrivateApi } from "../../private-api/private-api.ts";
import { createStores } from "../../shared/program/stores.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { privateApiTokens } from "./fleet.ts";
import { quietLogger } from "./logger.ts";

export interface LonePrivateApi {
  readonly url: string;
  stop(): Promise<void>;
}

/** @param target undefined: in memory, apart from every other program. */
export async function startPrivateApi(
  target: RedisTarget | undefined,
  settings: Record<string, string> = {},
): Promise<LonePrivateApi> {
  const environment = {
    PRIVATE_API_HOST: "127.0.0.1",
    PRIVATE_API_PORT: "0",
    PRIVATE_API_TOKENS: privateApiTokens,
    ...settings,
  };
  const stores = createStores(target, quietLogger);
  await stores.start();
  const config = privateApiSettings.read(environment, { embedded: true });
  const privateApi = createPrivateApi({ config, environment, ...stores, logger: quietLogger });
  await privateApi.start();
  return {
    url: `http://127.0.0.1:${privateApi.door.port}`,
    stop: async () => {
      await privateApi.stop();
      await stores.stop();
    },
  };
}
