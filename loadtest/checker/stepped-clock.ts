/** Loaded into a program with `--import`: at SIGUSR2 its wall clock steps to so many ms ahead of the machine's as CLOCK_FILE says. */
import { readFileSync } from "node:fs";

const MachineDate = Date;
let aheadMs = 0;

class SteppedDate extends MachineDate {
  constructor(...given: [] | [value: number | string | Date]) {
    if (given.length === 0) super(SteppedDate.now());
    else super(...(given as [number]));
  }

  static override now(): number {
    return MachineDate.now() + aheadMs;
  }
}

globalThis.Date = SteppedDate as DateConstructor;
process.on("SIGUSR2", () => {
  aheadMs = Number(readFileSync(process.env["CLOCK_FILE"] ?? "", "utf8"));
});
