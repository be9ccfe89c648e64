import { type Static, Type } from "typebox";
import { maxUserLength } from "../../shared/protocol/limits.ts";

export const UserPath = Type.Object({ user: Type.String({ minLength: 1, maxLength: maxUserLength }) });
export type UserPath = Static<typeof UserPath>;
