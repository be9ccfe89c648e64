import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";

/** @param slots that the request was about */
export type ReportStoreFailure = (error: unknown, message: string, slots?: readonly number[]) => void;

/** A store that cannot be reached is an expected failure, which is counted; anything else is a bug. */
export function storeFailures({
  onStoreFailure,
  errors,
  logger,
}: {
  onStoreFailure: (slots: number) => void;
  errors: ContainedErrors;
  logger: Logger;
}): ReportStoreFailure {
  return (error, message, slots) => {
    if (!(error instanceof TidegateError)) return errors.report("store", error);
    onStoreFailure(slots?.length ?? 1);
    logger.debug({ err: error, slots }, message);
  };
}
