import { TidemarkError } from "../../domain/errors.ts";

/** `--read-data`: "10%", true for all of it, undefined for nothing; as a fraction. Throws INVALID_ARGUMENT. */
export function parsePart(text: string | true | undefined): number {
  if (text === undefined) return 0;
  if (text === true) return 1;
  const percent = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text)?.[1];
  if (percent !== undefined && Number(percent) > 0 && Number(percent) <= 100) return Number(percent) / 100;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `--read-data "${text}" is no part: expected nothing, or a percentage as 10%`,
  );
}
