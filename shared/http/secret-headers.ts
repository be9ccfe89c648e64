/** Names of headers whose values are not shown or kept. Pure. */

/** A value under such a name may be a secret. */
export const secretHeader = /auth|token|secret|key|cookie|pass|signature/i;
