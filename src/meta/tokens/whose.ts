import { TidemarkError } from "../../domain/errors.ts";
import { refusal } from "./token-jws.ts";

/** Reasons that tell nothing about what there is besides. */
export const OTHER_APP = "it is for another app";
export const OTHER_SHARE = "it is for another share";

/** What `find` finds; what is not there is refused as what the token is not for. */
export function orRefuse<T>(find: () => T, why: string): T {
  try {
    return find();
  } catch (error) {
    throw error instanceof TidemarkError && (error.code === "NOT_FOUND" || error.code === "INVALID_ARGUMENT")
      ? refusal(why)
      : error;
  }
}
