// PLACEHOLDER by the lead until the real one is written; overwrite it.
import type { ReadingParts } from "../reading/apps.ts";
import type { OpenApp } from "../open-app.ts";
// biome-ignore lint/suspicious/noExplicitAny: placeholder
export class Restores { constructor(_parts: ReadingParts & { random: () => string; mountedShares: (app: OpenApp) => ReadonlySet<string> }) {} plan(): any { throw new Error("x"); } execute(): any { throw new Error("x"); } async listRestores(): Promise<any> { return []; } async resumeRestores(_app: OpenApp): Promise<void> {} async close(): Promise<void> {} }
