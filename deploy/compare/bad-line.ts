/** A line of a file that cannot be compared. */
export class BadLine extends Error {
  /** @param line from 1 on */
  constructor(file: string, line: number, finding: string) {
    super(`${file}:${line}: ${finding}`);
  }
}
