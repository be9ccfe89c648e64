import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { createLogger } from "../../shared/runtime/logging.ts";

/** For parts whose log is not the subject of the test. */
export const quietLogger = createLogger({ name: "test", level: "silent" });

/** For parts that are not expected to contain any. */
export const quietErrors = new ContainedErrors(quietLogger);
