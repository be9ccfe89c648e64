import { withoutSecrets } from "./masking.ts";
import { boundFindings } from "./schema-errors.ts";

/** The findings of a refused document, of very many the first; without the secrets in them: they are logged, and answered. */
export class InvalidDocument extends Error {
  readonly findings: readonly string[];
  constructor(name: string, findings: readonly string[]) {
    const listed = boundFindings(findings).map(withoutSecrets);
    super(`the ${name} are not valid: ${listed.join("; ")}`);
    this.name = "InvalidDocument";
    this.findings = listed;
  }
}
