/** A mistake of the caller, who receives code and message as they are. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Something that the service needs is away: the caller may repeat the same request. */
export class Unavailable extends Error {}
