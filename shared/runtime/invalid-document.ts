import { withoutSecrets } from "./masking.ts";
import { boundFindings } from "./schema-errors.ts";

/** Findings about a refused document, bounded in number and with secrets masked: they reach logs and answers. */
export class InvalidDocument extends Error {
  readonly findings: readonly string[];
  constructor(name: string, findings: readonly string[]) {
    const listed = boundFindings(findings).map(withoutSecrets);
    super(`the ${name} are not valid: ${listed.join("; ")}`);
    this.name = "InvalidDocument";
    this.findings = listed;
  }
}
