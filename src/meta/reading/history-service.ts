// PLACEHOLDER by the lead until the real one is written; overwrite it.
import type { ReadingParts } from "./apps.ts";
// biome-ignore lint/suspicious/noExplicitAny: placeholder
export class History { constructor(_parts: ReadingParts) {} log(): any { throw new Error("x"); } history(): any { throw new Error("x"); } diff(): any { throw new Error("x"); } }
