import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";

export type ReportStoreFailure = (error: unknown, message: string) => void;

/** A store that cannot be reached is an expected failure; anything else is a bug. */
export function storeFailures({ errors, logger }: { errors: ContainedErrors; logger: Logger }): ReportStoreFailure {
  return (error, message) => {
    if (error instanceof TidegateError) logger.debug({ err: error }, message);
    else errors.report("store", error);
  };
}
