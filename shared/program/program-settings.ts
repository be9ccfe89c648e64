/** The settings of one program: how they are read, checked and logged. */
import { redisFindings } from "../redis/settings.ts";
import {
  type Environment,
  maskedSettings,
  readSettings,
  type SettingTable,
  type SettingValues,
} from "../runtime/settings.ts";
import { unknownSettings } from "../runtime/unknown-settings.ts";
import { type commonSettings, settingsWithoutEffect } from "./common-settings.ts";

interface ProgramSettingsOptions<Table extends SettingTable> {
  table: Table;
  /** Variables that begin with one of these are settings, or misspelled ones. */
  prefixes: readonly string[];
  /** Settings of the other program: one environment may serve both. */
  ofOtherProgram: readonly string[];
  /** Finds what is wrong across settings. It gets the raw text of values that are not valid. */
  refine: (values: SettingValues<Table>) => readonly string[];
}

export class ProgramSettings<Table extends SettingTable & typeof commonSettings> {
  readonly table: Table;
  readonly #options: ProgramSettingsOptions<Table>;

  constructor(options: ProgramSettingsOptions<Table>) {
    this.table = options.table;
    this.#options = options;
  }

  /**
   * @param options.embedded both programs in one process: Redis is optional.
   * @throws SettingsError listing everything that must be changed.
   */
  read(environment: Environment, { embedded }: { embedded: boolean }): SettingValues<Table> {
    const refine = (values: SettingValues<Table>): string[] => [
      ...redisFindings(values, !embedded),
      ...this.#options.refine(values),
    ];
    return readSettings(this.table, environment, refine, this.unknown(environment));
  }

  /** One line for each variable that looks like a setting and is none. */
  unknown(environment: Environment): readonly string[] {
    const { prefixes, ofOtherProgram } = this.#options;
    const names = [...Object.keys(this.table), ...ofOtherProgram, ...settingsWithoutEffect];
    return unknownSettings(environment, { names, prefixes });
  }

  /** For the log: without secrets. */
  masked(config: SettingValues<Table>): Record<string, unknown> {
    return maskedSettings(this.table, config);
  }
}
