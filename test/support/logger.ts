import { createLogger } from "../../shared/logging.ts";

/** For parts whose log is not the subject of the test. */
export const quietLogger = createLogger({ name: "test", level: "silent" });
