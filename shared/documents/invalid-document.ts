import type { DocumentName } from "./store.ts";

/** Every finding of a refused document. */
export class InvalidDocument extends Error {
  readonly findings: readonly string[];
  constructor(name: DocumentName, findings: readonly string[]) {
    super(`the ${name} are not valid: ${findings.join("; ")}`);
    this.name = "InvalidDocument";
    this.findings = findings;
  }
}
