import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import type { AppRef } from "../../domain/share-path.ts";
import type { OpenApp } from "../open-app.ts";
import type { Turns } from "./turns.ts";

/** How readers and restores find apps. The service implements it. */
export interface Apps {
  /** The app a reference means, open; live or (with an id) deleted. Throws NOT_FOUND. May be called again. */
  find(ref: AppRef): OpenApp | Promise<OpenApp>;
  /** What an app is called now. */
  nameOf(id: AppId): { readonly namespace: string; readonly name: string };
}

/** What everything in this folder and in `restore/` is made of. */
export type ReadingParts = {
  readonly apps: Apps;
  readonly clock: Clock;
  readonly log: Log;
  readonly turns: Turns;
  /** The oldest LSN of an app whose state can be read; 0 when absent. */
  readonly floor?: (app: OpenApp) => Lsn;
};

/** The floor of `app`. */
export function floorOf(parts: ReadingParts, app: OpenApp): Lsn {
  return parts.floor?.(app) ?? (0 as Lsn);
}
